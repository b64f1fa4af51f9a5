/// <reference lib="dom" />
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { renderHtml } from '../../lib/view/html';
import { type PrepareExample, prepareView, type ViewAttention } from '../../lib/view/prepare';
import { CHROMIUM } from '../chromium.cjs';

/** Tests that need Chromium; without it they are skipped, which is said. */
export const describeInBrowser = CHROMIUM ? describe : describe.skip;
if (!CHROMIUM) console.log('skipped: no Chromium found for the tests of the page; CHROMIUM_PATH names one');

export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** Weights of [heads, rows, columns]: no two alike, rows that sum to one. */
export function weightsOf(seed: number, heads: number, rows: number, columns: number) {
  const data = new Float32Array(heads * rows * columns);
  for (let row = 0; row < heads * rows; row++) {
    const raw = Array.from({ length: columns }, (_, column) => 1 + ((seed * 31 + row * 17 + column * 7) % 23));
    const sum = raw.reduce((a, b) => a + b);
    raw.forEach((value, column) => {
      data[row * columns + column] = value / sum;
    });
  }
  return { shape: [1, heads, rows, columns], data };
}

export function attention(name: string, seed: number, heads: number, rows: number, columns: number) {
  const weights = weightsOf(seed, heads, rows, columns);
  return { name, operator: 'softmax', weights, heads: range(heads), queries: range(rows) };
}

export type Example = PrepareExample & { attentions: ReturnType<typeof attention>[] };

export function weightOf(example: Example, index: number, head: number, row: number, column: number): number {
  const { shape, data } = example.attentions[index]?.weights ?? { shape: [], data: [] };
  const [, , rows, columns] = shape as [number, number, number, number];
  return data[(head * rows + row) * columns + column] as number;
}

/** Weights of a head whose rows look at the token before, or anywhere, with a little on everything. */
export function long(
  name: string,
  heads: number,
  size: number,
  change: (data: Float32Array) => void = () => {},
): ViewAttention {
  const data = new Float32Array(heads * size * size);
  let state = 1;
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < size; row++) {
      const start = (head * size + row) * size;
      let sum = 0;
      for (let column = 0; column < size; column++) {
        state = (state * 1103515245 + 12345) % 2 ** 31;
        const raw = Math.exp((6 * state) / 2 ** 31) + (column === Math.max(0, row - head) ? 3000 : 0);
        data[start + column] = raw;
        sum += raw;
      }
      for (let column = 0; column < size; column++) data[start + column] = (data[start + column] as number) / sum;
    }
  }
  change(data);
  return {
    name,
    operator: 'softmax',
    weights: { shape: [1, heads, size, size], data },
    heads: range(heads),
    queries: range(size),
  };
}

export async function pageOf(
  examples: PrepareExample[],
  title: string,
  { maxSize = 2e7, compare = false }: { maxSize?: number; compare?: boolean } = {},
): Promise<string> {
  return renderHtml(await prepareView(examples, { maxSize, compare }), { title });
}

/** What is asked of a page or a part of it, as opposed to done to it. */
const READS: ReadonlySet<PropertyKey> = new Set([
  ...['textContent', 'allTextContents', 'innerText', 'allInnerTexts', 'innerHTML', 'inputValue', 'getAttribute'],
  ...['count', 'all', 'isVisible', 'isHidden', 'isChecked', 'isEnabled', 'isDisabled', 'boundingBox'],
  ...['evaluate', 'evaluateAll', 'screenshot'],
]);

/** A page, or a locator in it, that answers only once `settled` is: a click returns before what it selects is drawn. */
function answeringOnce<T extends object>(target: T, settled: () => Promise<void>): T {
  return new Proxy(target, {
    get(of, key) {
      const value: unknown = Reflect.get(of, key, of);
      if (typeof value !== 'function') return value;
      if (READS.has(key)) return (...args: unknown[]) => settled().then(() => value.apply(of, args));
      return (...args: unknown[]) => {
        const result: unknown = value.apply(of, args);
        const isLocator = typeof result === 'object' && result !== null && 'allTextContents' in result;
        return isLocator ? answeringOnce(result, settled) : result;
      };
    },
  });
}

/** Waits until the page has drawn what was selected; a second, where that waits for an answer that a test holds back. */
async function settle(page: Page): Promise<void> {
  const busy = page.locator('.app[aria-busy=true]');
  await busy.waitFor({ state: 'detached', timeout: 1000 }).catch(() => {});
}

/** A browser for the tests of one file, a fresh window for each; a window that reports an error fails its test. */
export class PageWindow {
  readonly folder = mkdtempSync(join(tmpdir(), 'view-'));
  readonly requests: string[] = [];
  readonly errors: string[] = [];
  private browser: Browser | undefined;
  private current: Page | undefined;

  constructor() {
    beforeAll(async () => {
      this.browser = await chromium.launch({ executablePath: CHROMIUM as string, args: ['--no-sandbox'] });
    });
    afterAll(async () => {
      await this.browser?.close();
      rmSync(this.folder, { recursive: true });
    });
    beforeEach(async () => {
      this.requests.length = 0;
      this.errors.length = 0;
      const opened = await (this.browser as Browser).newPage({
        viewport: { width: 1300, height: 900 },
        colorScheme: 'light',
        acceptDownloads: true,
      });
      this.current = answeringOnce(opened, () => settle(opened));
      this.page.on('request', (request) => this.requests.push(request.url()));
      this.page.on('pageerror', (error) => this.errors.push(error.message));
      this.page.on('console', (message) => {
        // What the tests read of canvases is slow, and only that.
        const ownFault = /willReadFrequently/.test(message.text());
        if (/error|warning/.test(message.type()) && !ownFault) this.errors.push(message.text());
      });
    });
    afterEach(async () => {
      await this.page.close();
      expect(this.errors).toEqual([]);
    });
  }

  get page(): Page {
    return this.current as Page;
  }

  /** Writes a page and gives its path. */
  async write(name: string, html: string | Promise<string>): Promise<string> {
    const path = join(this.folder, `${name}.html`);
    writeFileSync(path, await html);
    return path;
  }

  async open(path: string, hash = ''): Promise<void> {
    await this.page.goto('about:blank');
    await this.page.goto(`file://${path}#${hash}`);
    await this.page.locator('.app.ready').waitFor();
  }

  async openExamples(
    name: string,
    examples: PrepareExample[],
    hash = '',
    options: { maxSize?: number; compare?: boolean } = {},
  ): Promise<void> {
    await this.open(await this.write(name, pageOf(examples, name, options)), hash);
  }

  view(name: string): Promise<void> {
    return this.page.locator(`#views [data-view=${name}]`).click();
  }

  tooltip(): Promise<string | null> {
    return this.page.locator('.tooltip').textContent();
  }

  /** What axe finds wrong with the page as it is. */
  async violations(): Promise<string[]> {
    await this.page.evaluate(readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'));
    return await this.page.evaluate(async () => {
      // biome-ignore lint/suspicious/noExplicitAny: axe puts itself there
      const { violations } = await (window as any).axe.run();
      return violations.map(
        ({ id, nodes }: { id: string; nodes: { html: string; failureSummary: string }[] }) =>
          `${id}: ${nodes[0]?.html} ${nodes[0]?.failureSummary}`,
      );
    });
  }

  /** Points at a cell of a large matrix, counted in rows and columns; `pane` is where it is. */
  async pointAt(row: number, column: number, rows: number, columns: number, pane = '#matrix') {
    await this.page.locator(`${pane} .matrix-body`).waitFor();
    const box = await this.page.locator(`${pane} .matrix-body`).boundingBox();
    if (!box) throw new Error('no matrix');
    const at = { x: box.x + ((column + 0.5) * box.width) / columns, y: box.y + ((row + 0.5) * box.height) / rows };
    await this.page.mouse.move(at.x, at.y);
    return at;
  }
}
