import { find } from './dom';

const MARKUP = `
  <form class="live-form">
    <h1></h1>
    <div class="live-fields">
      <label class="live-text"><span>Text</span><textarea name="text" rows="2" required></textarea></label>
      <label class="live-text" hidden><span>Second text</span><textarea name="textPair" rows="2"></textarea></label>
      <label class="live-text" hidden><span>Decoder's text</span><textarea name="decoderText" rows="2"></textarea></label>
      <div class="live-actions">
        <button type="submit" class="primary">Show attention</button>
        <button type="button" class="quiet" id="stop" hidden>Stop</button>
      </div>
    </div>
    <p class="live-status" role="status"></p>
    <p class="live-error" role="alert" hidden></p>
  </form>
  <iframe class="live-view" title="Attention" hidden></iframe>`;

/** What the server says of the model: which texts it takes beside the first, and which of them it can't do without. */
interface LiveData {
  title: string;
  fields: string[];
  required: string[];
}

/** A line of the answer of a run. */
interface Progress {
  layers?: number;
  view?: string;
  error?: string;
  code?: string;
}

/** Types text, sees it: the form ahead of the page's frame. */
class Live {
  private readonly form: HTMLFormElement;
  private readonly status: HTMLElement;
  private readonly error: HTMLElement;
  private running: AbortController | undefined;

  constructor(root: HTMLElement, { title, fields, required }: LiveData) {
    root.innerHTML = MARKUP;
    this.form = find(root, '.live-form');
    this.status = find(root, '.live-status');
    this.error = find(root, '.live-error');
    find(root, 'h1').textContent = title;
    for (const field of fields) {
      const area = find<HTMLTextAreaElement>(root, `[name=${field}]`);
      area.required = required.includes(field);
      const label = area.closest('label');
      if (label) label.hidden = false;
    }
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.run();
    });
    // Enter sends, as in a chat; with shift it is a new line.
    this.form.addEventListener('keydown', (event) => {
      if (
        event.key !== 'Enter' ||
        event.shiftKey ||
        event.isComposing ||
        !(event.target instanceof HTMLTextAreaElement)
      )
        return;
      event.preventDefault();
      this.form.requestSubmit();
    });
    find(root, '#stop').addEventListener('click', () => this.running?.abort());
    find<HTMLTextAreaElement>(root, 'textarea').focus();
  }

  private async run(): Promise<void> {
    this.running?.abort();
    const controller = new AbortController();
    this.running = controller;
    this.error.hidden = true;
    this.status.textContent = 'Running the model …';
    find(this.form, '#stop').hidden = false;
    const started = performance.now();
    try {
      const body = JSON.stringify(Object.fromEntries(new FormData(this.form)));
      const response = await fetch('run', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body,
        signal: controller.signal,
      });
      if (!response.ok || !response.body) throw new Error(await response.text());
      for await (const line of lines(response.body)) this.show(JSON.parse(line) as Progress, started);
    } catch (error) {
      if (controller.signal.aborted) this.status.textContent = 'Stopped.';
      else this.fail((error as Error).message);
    } finally {
      if (this.running === controller) find(this.form, '#stop').hidden = true;
    }
  }

  private show({ layers, view, error, code }: Progress, started: number): void {
    if (error !== undefined) {
      this.fail(code ? `${error} [${code}]` : error);
      return;
    }
    if (layers !== undefined) this.status.textContent = `Running the model: ${layers} layers …`;
    if (view === undefined) return;
    this.status.textContent = `Done in ${((performance.now() - started) / 1000).toFixed(1)} s.`;
    const frame = find<HTMLIFrameElement>(document, '.live-view');
    // What was looked at stays chosen.
    let hash = '';
    try {
      hash = frame.contentWindow?.location.hash ?? '';
    } catch {
      // A frame that shows an error of the browser.
    }
    frame.hidden = false;
    frame.src = view + hash;
  }

  private fail(message: string): void {
    this.status.textContent = '';
    this.error.hidden = false;
    this.error.textContent = message;
  }
}

async function* lines(body: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  while (true) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) if (part) yield part;
  }
  if (rest) yield rest;
}

const root = document.createElement('div');
root.className = 'live';
document.body.append(root);
new Live(root, JSON.parse(find(document, '#live-data').textContent ?? '') as LiveData);
