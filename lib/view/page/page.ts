import type { HeldType, ViewData, ViewDataAttention } from '../view-data';
import { logCodeOf } from '../weight-code';
import { keyLabels, queryLabels } from './axis-labels';
import type { ColourScale } from './colour';
import { CompareView } from './compare-view';
import { find as findBelow, oncePerFrame } from './dom';
import { Exports } from './exports';
import { Finder } from './finder';
import { formatShort, percent, percentOff, quote } from './format';
import { headOptions, layerOptions } from './head-options';
import { HeadsView } from './heads-view';
import { ImageView } from './image-view';
import { drawLegend } from './legend';
import { MatrixView } from './matrix-view';
import { ModelView } from './model-view';
import { DIMMED_STOPS } from './patches';
import { describeExtent, describeHead, describeKind, PATTERNS } from './patterns';
import { RowSummary } from './row-summary';
import { type Arrangement, headName, matrixCount, type Selection, State, type ViewName } from './state';
import { Store } from './store';
import { TextView } from './text-view';
import { isDark } from './theme';
import { Tooltip } from './tooltip';
import { hasPieces } from './words';

/** What is to be said of a capture that holds fewer bits than float32, beside what the page itself rounds. */
const HELD: Record<HeldType, string> = {
  float16: 'The capture holds float16 numbers: each may be 0.049 % off, below 0.00006 more.',
  bfloat16: 'The capture holds bfloat16 numbers: each may be 0.39 % off.',
  'uint8 linear': 'The capture holds 256 levels from 0 to 1: each number may be 0.002 off.',
  'uint8 log':
    'The capture holds 254 levels on a logarithmic scale: each number may be 3.4 % off, below 0.00000006 it is 0.',
  uint8: 'The capture holds codes of 256 levels: each number is the nearest level’s.',
};

/** What changes the pictures of all heads. */
const REPAINTED: readonly (keyof Selection)[] = ['scale', 'padding', 'step', 'mergeWords', 'hideSpecial'];

const MARKUP = `
  <a class="skip" href="#main">Skip to the picture</a>
  <header class="bar">
    <div class="heading"><h1></h1><span class="extent"></span></div>
    <label class="examples">Example <select id="example"></select></label>
    <div class="segmented" id="views" role="group" aria-label="View">
      <button type="button" data-view="model">Model</button><button type="button" data-view="heads">Heads</button><button
        type="button" data-view="matrix">Matrix</button><button type="button" data-view="text">Text</button><button
        type="button" data-view="image">Image</button><button type="button" data-view="compare">Compare</button>
    </div>
    <div class="actions">
      <button type="button" id="find" class="quiet" aria-haspopup="dialog">Find</button>
      <details class="menu" id="export">
        <summary class="quiet">Export</summary>
        <div class="menu-items">
          <button type="button" data-format="svg">SVG</button>
          ${[1, 2, 3, 4].map((scale) => `<button type="button" data-format="png" data-scale="${scale}">PNG, ${scale} ×</button>`).join('')}
        </div>
      </details>
      <button type="button" id="copy" class="quiet">Copy link</button>
      <button type="button" id="theme" class="quiet square"><span class="half"></span></button>
    </div>
  </header>
  <div class="tools" role="region" aria-label="What is shown, and how">
    <div class="arrange" id="arrange-tools">
      <span id="arrange-label">Arrange by</span>
      <div class="segmented" id="arrange" role="group" aria-labelledby="arrange-label">
        <button type="button" data-arrange="pattern">pattern</button><button type="button" data-arrange="layer">layer</button><button
          type="button" data-arrange="entropy">entropy</button><button type="button" data-arrange="similarity">similarity</button>
      </div>
    </div>
    <div class="head-tools">
      <h2 id="detail-title" aria-live="polite"></h2>
      <span class="letter" id="letter-a" aria-hidden="true">A</span>
      <div class="pickers">
        <button type="button" id="previous-head" class="quiet square">‹</button>
        <select id="layer" aria-label="Layer"></select><select id="head" aria-label="Head"></select>
        <button type="button" id="next-head" class="quiet square">›</button>
      </div>
      <span class="facts"></span>
    </div>
    <div class="colours">
      <label>Colour <select id="scale">
        <option value="log">logarithmic, all heads</option>
        <option value="root">square root, by head</option>
        <option value="linear">linear, from 0</option>
      </select></label>
      <span class="legend"></span>
    </div>
    <div class="segmented" id="zoom" role="group" aria-label="Zoom">
      <button type="button" data-zoom="out" aria-label="Zoom out">−</button><button type="button" data-zoom="fit" aria-label="Fit: the whole head">Fit</button><button
        type="button" data-zoom="in" aria-label="Zoom in">+</button>
    </div>
    <div class="options">
      <label id="step-label" class="threshold">step <input type="range" id="step" step="1"><output></output></label>
      <label id="merge-label"><input type="checkbox" id="merge"> merge word pieces</label>
      <label id="special-label"><input type="checkbox" id="special"> hide special tokens</label>
      <label id="padding-label"><input type="checkbox" id="padding"> show padding</label>
      <span class="note" id="picture-note"></span>
    </div>
  </div>
  <main id="main" tabindex="-1">
    <p id="matrix-help" class="visually-hidden">Arrow keys move from cell to cell, Enter keeps the row, Escape lets it go,
      plus and minus enlarge and reduce, 0 shows the whole head.</p>
    <nav id="model" aria-label="Heads"></nav>
    <div id="compare"></div>
    <div class="detail">
      <div class="picture">
        <div id="matrix"></div>
        <div id="heads"></div>
        <div id="image"></div>
      </div>
      <aside class="side" aria-label="Tokens and numbers">
        <div id="text"></div>
        <div class="row-summary"></div>
      </aside>
    </div>
  </main>
  <footer class="foot"><span class="subtitle"></span><span class="note" id="precision"></span></footer>
  <p class="visually-hidden" id="live" aria-live="polite"></p>`;

function start(): void {
  const data = JSON.parse(document.getElementById('view-data')?.textContent ?? '') as ViewData & { title: string };
  const app = document.createElement('div');
  app.className = 'app';
  app.innerHTML = MARKUP;
  document.body.append(app);
  const find: Find = (selector) => findBelow(app, selector);
  find('h1').textContent = data.title;
  // Where there is no room for all of it.
  find('h1').title = data.title;
  // The form around a live page says it already.
  find('h1').classList.toggle('visually-hidden', data.live !== undefined);

  if (!data.examples.some(({ attentions }) => attentions.length)) {
    find('.tools').remove();
    find('main').innerHTML = '<p class="hint empty">No attention was captured.</p>';
    return;
  }
  new Page(app, find, new State(data), new Store(data.encoding, data.live));
}

type Find = <T extends Element = HTMLElement>(selector: string) => T;

/** The frame around the views: what is chosen goes to the view that is shown. */
class Page {
  private readonly tooltip: Tooltip;
  readonly model: ModelView;
  readonly matrix: MatrixView;
  readonly heads: HeadsView;
  readonly text: TextView;
  readonly image: ImageView;
  readonly compare: CompareView;
  private readonly summary: RowSummary;
  /** How many updates are under way: a later one may begin while weights are decoded for an earlier one. */
  private updates = 0;

  constructor(
    private readonly app: HTMLElement,
    private readonly find: Find,
    private readonly state: State,
    private readonly store: Store,
  ) {
    this.tooltip = new Tooltip(find('main'), find('#live'));
    this.summary = new RowSummary(find('.row-summary'), state);
    this.model = new ModelView(find('#model'), state, store, this.tooltip);
    this.matrix = new MatrixView(find('#matrix'), state, this.tooltip, (row) => {
      if (state.current.locked === null) this.text.pointAt(row);
      this.summarize('query', row);
    });
    this.heads = new HeadsView(find('#heads'), state, store, this.tooltip, (side, index) =>
      this.summarize(side, index),
    );
    this.text = new TextView(find('#text'), state, this.tooltip, (side, index) => this.summarize(side, index));
    this.image = new ImageView(find('#image'), state, this.tooltip, (side, index) => this.summarize(side, index));
    this.compare = new CompareView(find('#compare'), state, store, this.tooltip);
    new Exports(find('#export'), state, this, find('#live'));
    new Finder(app, find('#find'), state, () => ({ views: this.openViews }));
    this.bindTools();
    state.onChange((selection, before) => void this.update(selection, before));
    void this.update(state.current, null, true);

    const again = oncePerFrame(() => void this.update(state.current, null));
    let width = window.innerWidth;
    let height = window.innerHeight;
    new ResizeObserver(() => {
      if (window.innerWidth === width && window.innerHeight === height) return;
      width = window.innerWidth;
      height = window.innerHeight;
      again();
    }).observe(document.documentElement);
    addEventListener('resize', again);
    const repaint = () => void this.update(state.current, null, true);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
    // On paper dark colours would be pale on white.
    let theme: string | undefined;
    addEventListener('beforeprint', () => {
      theme = document.documentElement.dataset.theme;
      document.documentElement.dataset.theme = 'light';
      this.text.tintElements(true);
      repaint();
    });
    addEventListener('afterprint', () => {
      if (theme === undefined) delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = theme;
      this.text.tintElements(false);
      repaint();
    });
    find('#theme').addEventListener('click', () => {
      document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
      repaint();
    });
  }

  private summarize(side: 'query' | 'key', index: number | null): void {
    const { locked, from, head } = this.state.current;
    const data = this.store.peek(this.state.attention, head);
    if (locked !== null) this.summary.update(data, from, locked);
    else this.summary.update(data, side, index);
  }

  /** Draws what is selected; until it stands there the page says that it is busy, to tests as to screen readers. */
  private async update(selection: Selection, before: Selection | null, repaint = false): Promise<void> {
    this.updates++;
    this.app.ariaBusy = 'true';
    try {
      await this.draw(selection, before, repaint);
    } finally {
      if (--this.updates === 0) this.app.ariaBusy = 'false';
    }
  }

  private async draw(selection: Selection, before: Selection | null, repaint: boolean): Promise<void> {
    const { state } = this;
    const changed = before
      ? (Object.keys(selection) as (keyof Selection)[]).filter((key) => String(selection[key]) !== String(before[key]))
      : null;
    if (changed?.every((key) => key === 'zoom')) {
      // What can be enlarged has drawn itself.
      if (selection.view === 'matrix') this.find('#picture-note').textContent = this.matrix.note;
      return;
    }
    const onlyMarks = changed && changed.length > 0 && changed.every((key) => key === 'locked' || key === 'from');
    if (!onlyMarks) {
      this.tooltip.hide();
      this.reflect(selection);
    }
    if (selection.view === 'model') {
      await this.model.update(repaint || (changed?.some((key) => REPAINTED.includes(key)) ?? false));
      this.app.classList.add('ready');
      return;
    }
    if (selection.view === 'compare') {
      if (onlyMarks) this.compare.updateMarks();
      else await this.compare.update();
      this.app.classList.add('ready');
      return;
    }
    const { attention } = state;
    const data = await this.store.head(attention, selection.head);
    if (state.current !== selection) return;
    // Weights that were to come from the model may not have.
    if (this.store.isUnanswered(attention, selection.head)) this.reflect(selection);
    if (onlyMarks) {
      if (selection.view === 'matrix') this.matrix.updateMarks();
      if (selection.view === 'heads') this.heads.updateMarks();
      if (selection.view === 'image') this.image.updateMarks();
      if (selection.view === 'matrix' || selection.view === 'text') this.text.updateMarks();
    } else {
      if (selection.view === 'matrix') this.matrix.update(data);
      if (selection.view === 'heads') await this.heads.update();
      if (selection.view === 'image') this.image.update(data);
      if (selection.view === 'matrix' || selection.view === 'text') this.text.update(data);
      this.find('#picture-note').textContent = selection.view === 'matrix' ? this.matrix.note : '';
    }
    this.summary.update(data, selection.from, selection.locked);
    this.app.classList.add('ready');
  }

  /** Puts what is chosen into the controls and headings. */
  private reflect(selection: Selection): void {
    const { find, state } = this;
    const { attention, example } = state;
    const { view } = selection;
    this.app.dataset.view = view;
    find<HTMLSelectElement>('#example').value = String(selection.example);
    find<HTMLSelectElement>('#scale').value = selection.scale;
    find<HTMLInputElement>('#merge').checked = selection.mergeWords;
    find<HTMLInputElement>('#special').checked = selection.hideSpecial;
    find<HTMLInputElement>('#padding').checked = selection.padding;
    for (const node of this.app.querySelectorAll<HTMLElement>('[data-view]')) {
      if (node !== this.app) node.setAttribute('aria-pressed', String(node.dataset.view === view));
    }
    for (const node of this.app.querySelectorAll<HTMLElement>('[data-arrange]')) {
      node.setAttribute('aria-pressed', String(node.dataset.arrange === selection.arrange));
    }
    find('#theme').setAttribute('aria-label', isDark() ? 'Switch to light colours' : 'Switch to dark colours');
    const padded = example.attentions.some(
      ({ shown, rows, columns }) =>
        shown.rows[1] - shown.rows[0] < rows || shown.columns[1] - shown.columns[0] < columns,
    );
    find('#padding-label').hidden = !padded;
    this.reflectTokens(selection);
    find('#model').hidden = view !== 'model';
    find('#compare').hidden = view !== 'compare';
    find('.detail').hidden = view === 'model' || view === 'compare';
    find('#arrange-tools').hidden = view !== 'model';
    find('#letter-a').hidden = view !== 'compare';
    find('.head-tools').hidden = view === 'model';
    find('#zoom').hidden = view !== 'matrix' && view !== 'compare';
    find('#matrix').hidden = view !== 'matrix';
    find('#heads').hidden = view !== 'heads';
    find('#image').hidden = view !== 'image';
    find('#views [data-view=image]').hidden = example.image === undefined;
    // Of patches without words there is no text to read.
    find('#views [data-view=text]').hidden = example.image !== undefined && attention.keyTokens === undefined;
    const text = find('#text');
    text.hidden = view === 'heads' || view === 'image';
    if (view === 'text' && text.parentElement !== find('.picture')) find('.picture').append(text);
    if (view !== 'text' && text.parentElement !== find('.side')) find('.side').prepend(text);

    find('.extent').textContent = describeExtent(example);
    this.reflectStep(selection);
    this.reflectHead(selection);
    const shown = view === 'model' ? example.attentions : [attention];
    const dims = view === 'image' && !attention.signed;
    drawLegend(find('.legend'), state.scaleOf(attention, selection.head), shown, dims ? DIMMED_STOPS : undefined);
    if (view === 'model' && selection.scale === 'root') {
      // No one legend fits all heads.
      find('.legend').textContent = '0 to the largest weight of each head';
    }
    const { rows, columns } = attention.thumbnail;
    const pooled = rows < attention.rows || columns < attention.columns;
    if (view === 'model') {
      const each = `${Math.ceil(attention.rows / rows)} × ${Math.ceil(attention.columns / columns)}`;
      find('#picture-note').textContent = pooled ? `each cell: the largest of ${each}` : '';
    }
    const held = attention.held ? HELD[attention.held] : '';
    find('#precision').textContent = [this.precision(), held].filter(Boolean).join(' ');
  }

  /** Options of tokens, where there are such tokens. */
  private reflectTokens({ view, head }: Selection): void {
    const { find, state } = this;
    const { attention, example } = state;
    const { rows, columns, thumbnail } = attention;
    const labels = [queryLabels(example, attention), keyLabels(example, attention)];
    const isWhole =
      view === 'model' ? thumbnail.rows === rows && thumbnail.columns === columns : this.store.isFull(attention, head);
    const isKnown = view === 'text' || attention.capturedTopK === undefined;
    const merges = isKnown && labels.some((each) => each.areTokens && hasPieces(each));
    find('#merge-label').hidden = !merges || !(view === 'text' || ((view === 'matrix' || view === 'model') && isWhole));
    const hides = view === 'model' || (view === 'matrix' && isWhole);
    find('#special-label').hidden = !hides || labels.every(({ special }) => special.size === 0);
  }

  /** The views that can be opened, as they are called. */
  private get openViews(): { view: ViewName; title: string }[] {
    return [...this.find('#views').querySelectorAll<HTMLElement>('[data-view]')]
      .filter(({ hidden }) => !hidden)
      .map((node) => ({ view: node.dataset.view as ViewName, title: `${node.textContent}` }));
  }

  /** The slider over the tokens of a generation: from those given to all. */
  private reflectStep({ step }: Selection): void {
    const { find, state } = this;
    const { prompt } = state.example;
    const length = state.length;
    find('#step-label').hidden = prompt === undefined || length <= prompt;
    if (prompt === undefined) return;
    const slider = find<HTMLInputElement>('#step');
    slider.min = String(prompt);
    slider.max = String(length);
    slider.value = String(step ?? length);
    const last = (step ?? length) - 1;
    const labels = queryLabels(state.example, state.attention);
    const at = labels.positions.indexOf(last);
    const token = at >= 0 && labels.areTokens ? ` ${quote(labels.text[at] as string)}` : '';
    const text = `${Math.max(0, last + 1 - prompt)} of ${length - prompt}${token}`;
    find('#step-label output').textContent = text;
    slider.setAttribute('aria-valuetext', text);
  }

  private reflectHead(selection: Selection): void {
    const { find, state } = this;
    const { attention, example } = state;
    const together = selection.view === 'heads' ? HeadsView.drawn(state) : [selection.head];
    const names = together.map((head) => headName(attention, head));
    const letter = selection.view === 'compare' ? 'A: ' : '';
    // Heads that are drawn together are chosen beside their lines: here the layer is stepped through.
    const stepped = selection.view === 'heads' ? 'layer' : 'head';
    find('#previous-head').setAttribute('aria-label', `Previous ${stepped}`);
    find('#next-head').setAttribute('aria-label', `Next ${stepped}`);
    find('#detail-title').textContent =
      `${letter}${attention.label}, ${names.length > 1 ? `${names.length} heads` : names[0]}`;
    const stats = attention.stats[selection.head];
    const facts: string[] = [];
    if (stats && together.length === 1) {
      facts.push(PATTERNS[stats.pattern].title, `${percent(stats.special)} on first or special tokens`);
      if (stats.entropy >= 0) facts.push(`entropy ${percent(stats.entropy)}`);
      if (stats.nan) facts.push(`${stats.nan.toLocaleString('en')} NaN`);
      find('.facts').title = describeHead(stats)
        .map((row) => row.join(': '))
        .join('\n');
    }
    find('.facts').textContent = selection.view === 'compare' ? '' : facts.join(' · ');
    const layer = find<HTMLSelectElement>('#layer');
    layer.replaceChildren(...layerOptions(example));
    layer.value = String(selection.attention);
    const head = find<HTMLSelectElement>('#head');
    head.replaceChildren(...headOptions(attention));
    head.value = String(selection.head);
    head.hidden = attention.stats.length < 2 || selection.view === 'heads';
    const counted = (count: number, one: string, more: string) =>
      `${count.toLocaleString('en')} ${count === 1 ? one : more}`;
    const size = `${counted(attention.rows, 'query', 'queries')} × ${counted(attention.columns, 'key', 'keys')}`;
    const kind = describeKind(attention, example.attentions);
    const top = attention.capturedTopK ? `the ${attention.capturedTopK} strongest keys of each query only` : '';
    const signed = attention.signed ? 'values are negative too' : '';
    if (selection.view === 'model') {
      const more = isDark() ? 'brighter' : 'darker';
      find('.subtitle').textContent = `A picture a head: queries down, keys across, ${more} is more. Click to enlarge.`;
      return;
    }
    const about = [kind, attention.name, attention.operator, size, top, signed].filter(Boolean).join(' · ');
    find('.subtitle').textContent = about;
    // Where there is no room for all of it.
    find('.subtitle').title = about;
  }

  /** Which numbers of the head shown, or of all, are exact, and how far off the others may be. */
  private precision(): string {
    const { data, current, attention, example } = this.state;
    const bits = data.encoding === 'log8' ? 8 : 16;
    const code = logCodeOf(bits, attention.signed);
    const error = data.encoding === 'float32' ? 0 : code.error;
    const pictureError = logCodeOf(8, attention.signed).error;
    const isFull = (other: ViewDataAttention, head: number) => this.store.isFull(other, head);
    const top =
      data.topK > 1
        ? `the ${data.topK} largest weights of each query are exact`
        : 'the largest weight of each query is exact';
    if (current.view === 'model') {
      let full = 0;
      let all = 0;
      for (const other of example.attentions) {
        for (let head = 0; head < matrixCount(other); head++) {
          all++;
          if (isFull(other, head)) full++;
        }
      }
      if (full === all)
        return error
          ? `All weights are in this page, at most ${percentOff(error)} off; ${top}.`
          : 'All weights are in this page, exactly.';
      const where = full
        ? `${full} of ${all.toLocaleString('en')} heads in full, the others as pictures`
        : 'All heads as pictures';
      return `${where}; ${top}, others at most ${percentOff(pictureError)} off.`;
    }
    if (isFull(attention, current.head)) {
      if (this.store.isFetched(attention, current.head)) return 'All weights of this head, exactly, from the model.';
      if (attention.capturedTopK)
        return `The ${attention.capturedTopK} largest weights of each query, which is all that was captured${error ? `; ${top}, others are at most ${percentOff(error)} off` : ', exactly'}.`;
      if (!error) return 'All weights of this head are in this page, exactly.';
      return `All weights of this head are in this page, at most ${percentOff(error)} off; ${top}. Below ${formatShort(attention.scale * code.floor)} they are one colour.`;
    }
    const unanswered = this.store.isUnanswered(attention, current.head) ? 'The model did not answer. ' : '';
    return `${unanswered}Of this head the page has a picture, at most ${percentOff(pictureError)} off, and ${top}.`;
  }

  private bindTools(): void {
    const { find, state } = this;
    const example = find<HTMLSelectElement>('#example');
    example.append(...state.data.examples.map(({ title }, i) => new Option(title, String(i))));
    find('.examples').hidden = state.data.examples.length < 2;
    const onSelect = (selector: string, change: (value: string) => Partial<Selection>) => {
      const select = find<HTMLSelectElement>(selector);
      select.addEventListener('change', () => state.set(change(select.value)));
    };
    onSelect('#example', (value) => ({ example: Number(value) }));
    onSelect('#scale', (value) => ({ scale: value as ColourScale }));
    onSelect('#layer', (value) => ({ attention: Number(value) }));
    onSelect('#head', (value) => ({ head: Number(value), heads: [] }));
    const onCheck = (selector: string, key: 'mergeWords' | 'hideSpecial' | 'padding') => {
      const box = find<HTMLInputElement>(selector);
      box.addEventListener('change', () =>
        state.set({
          [key]: box.checked,
          // Rows and columns are others.
          zoom: [1, 0, 0],
        }),
      );
    };
    onCheck('#merge', 'mergeWords');
    onCheck('#special', 'hideSpecial');
    onCheck('#padding', 'padding');
    find('#step').addEventListener('input', () => {
      const step = Number(find<HTMLInputElement>('#step').value);
      // The token that has just come is the one to look at.
      const row = queryLabels(state.example, state.attention).positions.indexOf(step - 1);
      const last = step === state.length ? null : step;
      state.set({ step: last, zoom: [1, 0, 0], ...(row >= 0 && { locked: row, from: 'query' as const }) });
    });
    find('#views').addEventListener('click', (event) => {
      const { view } = (event.target as HTMLElement).dataset;
      if (view) state.set({ view: view as ViewName });
    });
    find('#arrange').addEventListener('click', (event) => {
      const { arrange } = (event.target as HTMLElement).dataset;
      if (arrange) state.set({ arrange: arrange as Arrangement });
    });
    find('#zoom').addEventListener('click', (event) => {
      const { zoom } = (event.target as HTMLElement).dataset;
      const shown = state.current.view === 'compare' ? this.compare : this.matrix;
      if (zoom) shown.enlarge(zoom === 'fit' ? 0 : zoom === 'in' ? 1.5 : 1 / 1.5);
    });
    const step = (by: 1 | -1) => {
      const { attention, head, heads, view } = state.current;
      const { attentions } = state.example;
      if (view === 'heads') {
        if (attentions[attention + by]) state.set({ attention: attention + by, head, heads });
        return;
      }
      const count = attentions[attention]?.stats.length ?? 1;
      if (head + by >= 0 && head + by < count) state.set({ head: head + by, heads: [] });
      else if (attentions[attention + by]) {
        state.set({
          attention: attention + by,
          head: by > 0 ? 0 : (attentions[attention + by]?.stats.length ?? 1) - 1,
        });
      }
    };
    find('#previous-head').addEventListener('click', () => step(-1));
    find('#next-head').addEventListener('click', () => step(1));
    find('#copy').addEventListener('click', () => void this.copyLink());
  }

  private async copyLink(): Promise<void> {
    const { find, state } = this;
    const link = `${location.href.replace(/#.*/, '')}#${state.address}`;
    let said = 'Copied';
    try {
      await navigator.clipboard.writeText(link);
    } catch {
      // Files and frames may not write to the clipboard; the address has the link as well.
      history.replaceState(null, '', `#${state.address}`);
      said = 'The link is in the address bar';
    }
    find('#copy').textContent = said;
    find('#live').textContent = said;
    setTimeout(() => {
      find('#copy').textContent = 'Copy link';
    }, 2000);
  }
}

start();
