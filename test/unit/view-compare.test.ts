/// <reference lib="dom" />
import type { Page } from 'playwright-core';
import { attention, describeInBrowser, type Example, long, PageWindow, weightOf } from './page-window';

const tokens = ['[CLS]', 'a', 'cat', 'sat', '.', '[SEP]'];
const layers = (seed: number) => [
  attention('encoder.layers.0.self_attn', seed, 3, 6, 6),
  attention('encoder.layers.1.self_attn', seed + 1, 3, 6, 6),
];
const cat: Example = { title: 'cat', tokens, attentions: layers(1) };
const dog: Example = { title: 'dog', tokens: tokens.with(2, 'dog'), attentions: layers(5) };

/** The mean Jensen–Shannon distance of the rows of two heads. */
function distance(a: Example, b: Example, index: number, [headA, headB]: [number, number], other = index): number {
  let sum = 0;
  for (let row = 0; row < 6; row++) {
    const rows = ([a, b] as const).map((example, side) => {
      const values = tokens.map((_, column) =>
        weightOf(example, side ? other : index, side ? headB : headA, row, column),
      );
      const total = values.reduce((x, y) => x + y);
      return values.map((value) => value / total);
    });
    const kullback = (p: number[], q: number[]) => p.reduce((s, x, i) => s + x * Math.log2(x / (q[i] as number)), 0);
    const [p, q] = rows as [number[], number[]];
    const mean = p.map((x, i) => (x + (q[i] as number)) / 2);
    sum += Math.sqrt((kullback(p, mean) + kullback(q, mean)) / 2);
  }
  return sum / 6;
}

describe('the page of renderView: comparisons', () => {
  describeInBrowser('two captures compared', () => {
    const at = new PageWindow();
    let page: Page;
    beforeEach(async () => {
      page = at.page;
      await at.openExamples('compare', [cat, dog], '', { compare: true });
    });

    const signed = (value: number) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(4)}`;
    const ranking = async () =>
      Object.fromEntries(
        (await page.locator('.ranked').allTextContents()).map((text) => text.split(' ') as [string, string]),
      );

    test('stand side by side, and the difference says by how much and where', async () => {
      expect(await page.locator('.app').getAttribute('data-view')).toBe('compare');
      expect(await page.locator('[data-pane=a] h3').textContent()).toBe('Alayer 0, head 0 · cat');
      expect(await page.locator('[data-pane=b] h3').textContent()).toBe('Blayer 0, head 0 · dog');
      // Three numbers each.
      for (let i = 0; i < 36; i++) {
        const [row, column] = [Math.floor(Math.random() * 6), Math.floor(Math.random() * 6)];
        const pane = ['a', 'b', 'difference'][i % 3];
        await at.pointAt(row, column, 6, 6, `[data-pane=${pane}]`);
        const [a, b] = [weightOf(cat, 0, 0, row, column), weightOf(dog, 0, 0, row, column)];
        const text = await at.tooltip();
        expect(text).toContain(`A${a.toFixed(4)}B${b.toFixed(4)}`);
        const said = await page.locator('.tooltip-weight').textContent();
        if (Math.abs(a - b) >= 0.001) expect(said).toBe(signed(a - b));
      }
      // All three show the same cell.
      expect(await page.locator('.matrix-marks .cell:not([hidden])').count()).toBe(3);
      expect(await page.locator('.compare-note').textContent()).toMatch(/texts differ.*by position/);
      const [row] = await page.locator('.differing tbody tr').allTextContents();
      expect(row).toMatch(/^\S+ \d0\.\d{4}0\.\d{4}[+−]0\.\d{4}$/);
    });

    test('differences have the colours of their signs', async () => {
      const pixel = (row: number, column: number) =>
        page.locator('[data-pane=difference] .matrix-body canvas').evaluate(
          (canvas: HTMLCanvasElement, [x, y]) => {
            const context = canvas.getContext('2d');
            const { data } = context?.getImageData((x ?? 0) * canvas.width, (y ?? 0) * canvas.height, 1, 1) ?? {};
            return Array.from(data ?? []);
          },
          [(column + 0.5) / 6, (row + 0.5) / 6],
        );
      let seen = 0;
      for (let row = 0; row < 6; row++) {
        for (let column = 0; column < 6; column++) {
          const difference = weightOf(cat, 0, 0, row, column) - weightOf(dog, 0, 0, row, column);
          if (Math.abs(difference) < 0.02) continue;
          seen++;
          const [red, , blue] = (await pixel(row, column)) as [number, number, number];
          expect(Math.sign(red - blue)).toBe(Math.sign(difference));
        }
      }
      expect(seen).toBeGreaterThan(8);
    });

    test('heads are ranked by how much they differ, and a click goes there in both', async () => {
      await page.waitForFunction(() => document.querySelectorAll('.ranked').length === 6);
      const found = await ranking();
      for (const index of [0, 1]) {
        for (const head of [0, 1, 2]) {
          expect(Number(found[`${index}.${head}`])).toBeCloseTo(distance(cat, dog, index, [head, head]), 2);
        }
      }
      const values = Object.entries(found).map(([, value]) => Number(value));
      const shown = (await page.locator('.ranked .tile-strength').allTextContents()).map(Number);
      expect(shown).toEqual([...values].sort((a, b) => b - a));
      await page.locator('.ranked', { hasText: '1.2' }).click();
      expect(await page.locator('[data-pane=b] h3').textContent()).toBe('Blayer 1, head 2 · dog');
      // The same head of both, until another is chosen for B.
      await page.locator('#previous-head').click();
      expect(await page.locator('[data-pane=a] h3').textContent()).toBe('Alayer 1, head 1 · cat');
      expect(await page.locator('[data-pane=b] h3').textContent()).toBe('Blayer 1, head 1 · dog');
      await page.locator('#other-head').selectOption('0');
      await page.locator('#previous-head').click();
      expect(await page.locator('[data-pane=b] h3').textContent()).toBe('Blayer 1, head 0 · dog');
    });

    test('two heads of one capture, too; the address says which', async () => {
      await page.locator('#other-example').selectOption('0');
      await page.locator('#other-layer').selectOption('1');
      await page.waitForFunction(() => document.querySelectorAll('.ranked').length === 5);
      const found = await ranking();
      expect(Number(found['1.2'])).toBeCloseTo(distance(cat, cat, 0, [0, 2], 1), 2);
      await page.waitForFunction(() => /other=0_1_0/.test(location.hash));
      await page.reload();
      await page.locator('.app.ready').waitFor();
      expect(await page.locator('[data-pane=b] h3').textContent()).toBe('Blayer 1, head 0');
      await page.locator('#swap').click();
      expect(await page.locator('[data-pane=a] h3').textContent()).toBe('Alayer 1, head 0');
    });

    test('what is enlarged in one is enlarged in all', async () => {
      await page.locator('[data-pane=b] .matrix-body').focus();
      for (const key of ['+', '+', '+']) await page.keyboard.press(key);
      for (const pane of ['a', 'b', 'difference']) await page.locator(`[data-pane=${pane}] .minimap`).waitFor();
      await page.locator('#zoom [data-zoom=fit]').click();
      for (const pane of ['a', 'b', 'difference'])
        await page.locator(`[data-pane=${pane}] .minimap`).waitFor({ state: 'hidden' });
    });

    test('of different sizes there is no difference, which is said', async () => {
      const short: Example = { title: 'short', attentions: [attention('encoder.layers.0.self_attn', 1, 3, 4, 4)] };
      await at.openExamples('sizes', [cat, short], '', { compare: true });
      expect(await page.locator('.compare-note').textContent()).toBe('No difference: 6 × 6 weights and 4 × 4.');
      expect(await page.locator('[data-pane=difference]').isVisible()).toBe(false);
      await at.pointAt(5, 5, 6, 6, '[data-pane=a]');
      expect(await at.tooltip()).toContain(`A${weightOf(cat, 0, 0, 5, 5).toFixed(4)}`);
    });

    test('pictures are compared as pictures', async () => {
      const names = ['layers.0.self_attn', 'layers.1.self_attn'];
      const examples = names.map((name) => ({ title: name, attentions: [long(name, 2, 300)] }));
      await at.openExamples('pictures', examples, '', { compare: true, maxSize: 150_000 });
      expect(await page.locator('.compare-note').textContent()).toMatch(
        /largest of \d × \d weights; differences are of these/,
      );
      await at.pointAt(120, 120, 300, 300, '[data-pane=difference]');
      expect(await at.tooltip()).toMatch(/A(≤ )?0\.\d+B(≤ )?0\.\d+query/);
    });
  });
});
