/// <reference lib="dom" />
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { renderHtml } from '../../lib/view/html';
import { prepareView, type ViewExample } from '../../lib/view/prepare';

const ROOT = join(__dirname, '../..');
const CHROMIUM = [
  process.env.CHROMIUM_PATH,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
].find((path) => path && existsSync(path));

const HOSTILE = '</script><script>window.hacked = true</script><!--';
const tokens = ['[CLS]', HOSTILE, 'a b', '<b>', '&amp;', '\n'];
const decoderTokens = ['x', 'y', 'z'];

/** Weights of [heads, rows, columns]: no two alike, rows that sum to one. */
function weightsOf(seed: number, heads: number, rows: number, columns: number) {
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

function attention(name: string, seed: number, heads: number, rows: number, columns: number) {
  const range = (count: number) => Array.from({ length: count }, (_, i) => i);
  const weights = weightsOf(seed, heads, rows, columns);
  return { name, operator: 'softmax', weights, heads: range(heads), queries: range(rows) };
}

const first: ViewExample = {
  title: `one ${HOSTILE}`,
  queryTokens: tokens,
  attentions: [
    attention('encoder.layers.0.self_attn', 1, 3, 6, 6),
    attention('encoder.layers.1.self_attn', 2, 3, 6, 6),
  ],
};
const second: ViewExample = {
  title: 'two',
  queryTokens: decoderTokens,
  keyTokens: tokens,
  attentions: [
    attention('encoder.layers.0.self_attn', 3, 3, 6, 6),
    attention('decoder.layers.0.self_attn', 4, 3, 3, 3),
    attention('decoder.layers.0.multihead_attn', 5, 3, 3, 6),
  ],
};

const describeInBrowser = CHROMIUM ? describe : describe.skip;
if (!CHROMIUM) console.log('skipped: no Chromium found for the tests of the page; CHROMIUM_PATH names one');

describeInBrowser('the page', () => {
  const folder = mkdtempSync(join(tmpdir(), 'view-'));
  const file = join(folder, 'page.html');
  const requests: string[] = [];
  const errors: string[] = [];
  let browser: Browser;
  let page: Page;

  beforeAll(async () => {
    execFileSync(process.execPath, [join(ROOT, 'scripts/build-page.mjs')]);
    writeFileSync(file, renderHtml(prepareView([first, second]), { title: `Title ${HOSTILE}` }));
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: ['--no-sandbox'] });
  });

  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
  });

  beforeEach(async () => {
    requests.length = 0;
    errors.length = 0;
    page = await browser.newPage({ viewport: { width: 1300, height: 900 }, colorScheme: 'light' });
    page.on('request', (request) => requests.push(request.url()));
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') errors.push(message.text());
    });
    await page.goto(`file://${file}`);
  });

  afterEach(async () => {
    await page.close();
    expect(errors).toEqual([]);
  });

  const thumbnail = (index: number, head: number) =>
    page.locator(`button[data-attention="${index}"][data-head="${head}"]`);

  /** Points at a cell of the large matrix, counted in rows and columns. */
  async function pointAt(
    row: number,
    column: number,
    rows: number,
    columns: number,
  ): Promise<{ x: number; y: number }> {
    const box = await page.locator('.matrix-body').boundingBox();
    if (!box) throw new Error('no matrix');
    const at = { x: box.x + ((column + 0.5) * box.width) / columns, y: box.y + ((row + 0.5) * box.height) / rows };
    await page.mouse.move(at.x, at.y);
    return at;
  }

  function weightOf(example: ViewExample, index: number, head: number, row: number, column: number): number {
    const { shape, data } = example.attentions[index]?.weights ?? { shape: [], data: [] };
    const [, , rows, columns] = shape as [number, number, number, number];
    return data[(head * rows + row) * columns + column] as number;
  }

  test('asks the network for nothing, nor could it', async () => {
    const server: Server = createServer((_request, response) => response.end('x'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await page.mouse.move(400, 400);
    await page.locator('[data-view=lines]').click();
    expect(requests).toEqual([`file://${file}`]);
    // Even code that got into the page could send nothing out.
    const sent = await page.evaluate(
      (url) =>
        fetch(url, { mode: 'no-cors' }).then(
          () => 'sent',
          () => 'refused',
        ),
      `http://127.0.0.1:${port}/`,
    );
    server.close();
    expect(sent).toBe('refused');
    expect(errors.splice(0).join()).toMatch(/Content Security Policy/);
  });

  test('a token that closes a script does no harm', async () => {
    expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
    expect(await page.title()).toBe(`Title ${HOSTILE}`);
    expect(await page.locator('h1').textContent()).toBe(`Title ${HOSTILE}`);
    await pointAt(0, 1, 6, 6);
    expect(await page.locator('.tooltip').textContent()).toContain('</script><script>');
    expect(await page.locator('#example option').first().textContent()).toBe(`one ${HOSTILE}`);
  });

  test('the exact value is under the pointer, with its tokens and the row sum', async () => {
    await thumbnail(1, 2).click();
    await pointAt(2, 4, 6, 6);
    const text = await page.locator('.tooltip').textContent();
    expect(text).toContain(weightOf(first, 1, 2, 2, 4).toFixed(4));
    expect(text).toMatch(/query“a␣b” at 2key“&amp;” at 4row sum1\.0000/);
    await page.mouse.move(5, 5);
    expect(await page.locator('.tooltip').isVisible()).toBe(false);
  });

  test('a click keeps a row until the next', async () => {
    const at = await pointAt(1, 1, 6, 6);
    await page.mouse.click(at.x, at.y);
    await pointAt(4, 3, 6, 6);
    expect(await page.locator('.tooltip').textContent()).toContain(weightOf(first, 0, 0, 1, 3).toFixed(4));
    expect(await page.locator('.row-summary h3').textContent()).toMatch(/at 1 attends to \(kept\)/);
    const strongest = Math.max(...[0, 1, 2, 3, 4, 5].map((column) => weightOf(first, 0, 0, 1, column)));
    expect(await page.locator('.row-summary .weight').first().textContent()).toBe(strongest.toFixed(4));
    await page.mouse.click(at.x, at.y);
    await pointAt(4, 3, 6, 6);
    expect(await page.locator('.tooltip').textContent()).toContain(weightOf(first, 0, 0, 4, 3).toFixed(4));
  });

  test('thumbnails choose layer and head, and the mean over heads', async () => {
    expect(await page.locator('#detail-title').textContent()).toBe('layer 0, head 0');
    await thumbnail(1, 1).click();
    expect(await page.locator('#detail-title').textContent()).toBe('layer 1, head 1');
    expect(await page.locator('[aria-selected=true]').count()).toBe(1);
    await thumbnail(1, -1).click();
    expect(await page.locator('#detail-title').textContent()).toBe('layer 1, mean of 3 heads');
    await pointAt(0, 0, 6, 6);
    const mean = [0, 1, 2].reduce((sum, head) => sum + weightOf(first, 1, head, 0, 0), 0) / 3;
    expect(await page.locator('.tooltip-weight').textContent()).toBe(mean.toFixed(4));
  });

  test('the keyboard moves between layers, heads and cells', async () => {
    const title = () => page.locator('#detail-title').textContent();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowDown');
    expect(await title()).toBe('layer 1, head 1');
    await page.keyboard.press('End');
    expect(await title()).toBe('layer 1, mean of 3 heads');
    await page.keyboard.press('ArrowUp');
    expect(await title()).toBe('layer 0, mean of 3 heads');
    await page.keyboard.press('ArrowLeft');
    expect(await title()).toBe('layer 0, head 2');
    await page.keyboard.press('Home');
    expect(await title()).toBe('layer 0, head 0');

    await page.locator('.matrix-body').focus();
    for (const key of ['ArrowDown', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
    const cell = weightOf(first, 0, 0, 0, 2).toFixed(4);
    expect(await page.locator('.tooltip-weight').textContent()).toBe(cell);
    expect(await page.locator('#live').textContent()).toContain(cell);
    expect(await title()).toBe('layer 0, head 0');
    await page.keyboard.press('Enter');
    await page.keyboard.press('ArrowDown');
    expect(await page.locator('.row-summary h3').textContent()).toMatch(/at 1 attends to \(kept\)/);
    await page.keyboard.press('Escape');
    expect(await page.locator('.shade').count()).toBe(0);
  });

  test('examples switch; encoder, decoder and cross-attention are told apart, K need not be Q', async () => {
    await page.locator('#example').selectOption('1');
    expect(await page.locator('.kind h2').allTextContents()).toEqual([
      'Encoder self-attention',
      'Decoder self-attention',
      'Cross-attention',
    ]);
    await thumbnail(2, 1).click();
    expect(await page.locator('.subtitle').textContent()).toContain('3 queries × 6 keys');
    await pointAt(2, 5, 3, 6);
    const text = await page.locator('.tooltip').textContent();
    expect(text).toContain(weightOf(second, 2, 1, 2, 5).toFixed(4));
    expect(text).toMatch(/query“z” at 2key“↵” at 5/);
  });

  test('lines between tokens show the weights of the query pointed at', async () => {
    await page.locator('#example').selectOption('1');
    await thumbnail(2, 0).click();
    await page.locator('[data-view=lines]').click();
    await page.locator('g.token', { has: page.getByText('y', { exact: true }) }).hover();
    const shown = await page.locator('.token-weight').allTextContents();
    const expected = [0, 1, 2, 3, 4, 5].map((column) => weightOf(second, 2, 0, 1, column).toFixed(4));
    expect(shown.filter(Boolean)).toEqual(expected);
    const inked = await page.locator('.lines-scroll canvas').evaluate((canvas: HTMLCanvasElement) => {
      const { data } = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [] };
      return Array.from(data).some((value) => value > 0);
    });
    expect(inked).toBe(true);
    await page.locator('#all-heads').check();
    expect(await page.locator('.head-list button').count()).toBe(3);
  });

  test('light and dark follow the system, and the button', async () => {
    const paper = () => page.locator('.detail').evaluate((element) => getComputedStyle(element).backgroundColor);
    expect(await paper()).toBe('rgb(255, 255, 255)');
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await paper()).toBe('rgb(20, 22, 26)');
    await page.locator('#theme').click();
    expect(await paper()).toBe('rgb(255, 255, 255)');
  });

  test('labels of the axes never overlap', async () => {
    const long = Array.from({ length: 150 }, (_, i) => `token${i}`);
    const many: ViewExample = { title: 'long', queryTokens: long, attentions: [attention('a', 1, 2, 150, 150)] };
    const other = join(folder, 'long.html');
    writeFileSync(other, renderHtml(prepareView([many]), { title: 'long' }));
    await page.goto(`file://${other}`);
    for (const row of [0, 70]) {
      await pointAt(row, row, 150, 150);
      const boxes = await page.locator('.matrix-left text').evaluateAll((texts) =>
        texts
          .map((text) => text.getBoundingClientRect())
          .sort((a, b) => a.y - b.y)
          .map(({ top, bottom }) => ({ top, bottom })),
      );
      expect(boxes.length).toBeGreaterThan(20);
      for (const [i, { top }] of boxes.slice(1).entries()) {
        expect(top).toBeGreaterThanOrEqual((boxes[i]?.bottom as number) - 2.5);
      }
    }
  });
});

test('a title is text, whatever is in it', () => {
  execFileSync(process.execPath, [join(ROOT, 'scripts/build-page.mjs')]);
  const html = renderHtml(prepareView([first]), { title: '<img src=x onerror=alert(1)> & more' });
  expect(html).toContain('<title>&lt;img src=x onerror=alert(1)&gt; &amp; more</title>');
  // One closing tag for each script element: data, weights of two layers, code.
  expect(html.match(/<\/script/gi)).toHaveLength(4);
});
