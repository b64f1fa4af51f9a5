/// <reference lib="dom" />
import { join } from 'node:path';
import { renderView, ScriptModule, Tensor } from '../../lib';
import type { PrepareExample, ViewAttention } from '../../lib/view/prepare';
import { describeInBrowser, long, PageWindow, pageOf } from './page-window';

// What stands beside the pointer, a hundred numbers at random of each view, beside the capture. Pictures of patches and
// comparisons are read in view-image and view-compare.

const LENGTH = 40;
const HEADS = 3;
const LAYERS = 2;
const TOKENS = Array.from({ length: LENGTH }, (_, i) => (i % 5 === 3 ? '##ly' : i % 7 === 5 ? '##er' : `word${i}`));
TOKENS[0] = '[CLS]';
TOKENS[LENGTH - 1] = '[SEP]';
const layers = Array.from({ length: LAYERS }, (_, layer) =>
  long(`layers.${layer}.attn`, HEADS, LENGTH, broader(layer)),
);
const example: PrepareExample = { title: 'numbers', tokens: TOKENS, attentions: layers };

/** No two layers alike. */
function broader(layer: number) {
  return (data: Float32Array) => {
    for (let row = 0; row < HEADS * LENGTH; row++) {
      let sum = 0;
      const part = data.subarray(row * LENGTH, (row + 1) * LENGTH);
      part.forEach((weight, i) => {
        part[i] = weight ** (1 / (1 + 2 * layer));
        sum += part[i] as number;
      });
      part.forEach((weight, i) => {
        part[i] = weight / sum;
      });
    }
  };
}

function weight(layer: number, head: number, row: number, column: number): number {
  const { data } = (layers[layer] as ViewAttention).weights as unknown as { data: Float32Array };
  if (head < HEADS) return data[(head * LENGTH + row) * LENGTH + column] as number;
  let sum = 0;
  for (let each = 0; each < HEADS; each++) sum += data[(each * LENGTH + row) * LENGTH + column] as number;
  return sum / HEADS;
}

const random = (count: number) => Math.floor(count * Math.random());

/** The number that was read is the true one, to the digits that are shown, or as near as it says it is. */
function expectNear(text: string | null | undefined, truth: number, within = 0): void {
  const [, about, value, percent] = /^(≈ )?([−-]?[\d.e-]+)(?: ± ([\d.]+) %)?/.exec(text ?? '') ?? [];
  const digits = Math.abs(truth) < 0.001 ? 0.006 * Math.abs(truth) : 0.00006;
  const off = (percent ? Number(percent) / 100 : about ? 0.029 : 0) + within;
  const bound = digits + (off + (about ? 0.006 : 0)) * Math.abs(truth);
  expect({ text, truth, near: Math.abs(Number(value) - truth) <= bound }).toEqual({ text, truth, near: true });
}

describe('the page of renderView: numbers', () => {
  describeInBrowser('a hundred of each view, at random, are the capture’s', () => {
    const at = new PageWindow();
    let file = '';
    beforeAll(async () => {
      file = await at.write('numbers', pageOf([example], 'numbers'));
    });

    const show = (hash: string) => at.open(file, hash);
    const heading = () => at.page.locator('.tooltip-weight').textContent();

    test('matrix, the mean over the heads too', async () => {
      for (let head = 0; head <= HEADS; head++) {
        const layer = head % LAYERS;
        await show(`view=matrix&attention=${layer}&head=${head}`);
        for (let i = 0; i < 25; i++) {
          const [row, column] = [random(LENGTH), random(LENGTH)];
          await at.pointAt(row, column, LENGTH, LENGTH);
          expectNear(await heading(), weight(layer, head, row, column));
        }
      }
    });

    test('matrix of words, without special tokens', async () => {
      // Words by their pieces, first and last token left out.
      const words: [number, number][] = [];
      for (let i = 1; i < LENGTH - 1; i++) {
        const before = words.at(-1);
        if (TOKENS[i]?.startsWith('##') && before) before[1] = i + 1;
        else words.push([i, i + 1]);
      }
      for (const [hash, rows] of [
        ['mergeWords=1&hideSpecial=1', words],
        ['hideSpecial=1', Array.from({ length: LENGTH - 2 }, (_, i): [number, number] => [i + 1, i + 2])],
      ] as const) {
        await show(`view=matrix&head=1&${hash}`);
        for (let i = 0; i < 50; i++) {
          const [y, x] = [random(rows.length), random(rows.length)];
          await at.pointAt(y, x, rows.length, rows.length);
          const [[top, bottom], [left, right]] = [rows[y], rows[x]] as [[number, number], [number, number]];
          let sum = 0;
          for (let row = top; row < bottom; row++)
            for (let column = left; column < right; column++) sum += weight(0, 1, row, column);
          expectNear(await heading(), sum / (bottom - top));
          expect(await at.tooltip()).toContain(` at ${top}`);
        }
      }
    });

    test('lines', async () => {
      for (const [layer, from, index] of [
        [0, 'query', random(LENGTH)],
        [1, 'query', random(LENGTH)],
        [1, 'key', random(LENGTH)],
      ] as const) {
        await show(`view=heads&attention=${layer}&heads=0_1_2_3&locked=${index}&from=${from}`);
        for (let i = 0; i < 9; i++) {
          const other = random(LENGTH);
          await at.page.mouse.move(2, 2);
          await at.page.locator(`.${from === 'query' ? 'keys' : 'queries'} .token[data-index="${other}"]`).hover();
          const values = await at.page.locator('.tooltip dd').allTextContents();
          expect(values).toHaveLength(HEADS + 1);
          const [row, column] = from === 'query' ? [index, other] : [other, index];
          for (const [head, text] of values.entries()) expectNear(text, weight(layer, head, row, column));
        }
      }
    });

    test('text', async () => {
      for (const [layer, from, index] of [
        [0, 'query', 7],
        [1, 'key', random(LENGTH)],
      ] as const) {
        await show(`view=text&attention=${layer}&head=2&locked=${index}&from=${from}`);
        for (let i = 0; i < 50; i++) {
          const other = random(LENGTH);
          await at.page.mouse.move(2, 2);
          await at.page.locator('.word').nth(other).hover();
          const [row, column] = from === 'query' ? [index, other] : [other, index];
          expectNear(await heading(), weight(layer, 2, row, column));
        }
      }
    });

    test('all heads: what a tile says of its head', async () => {
      await show('arrange=layer');
      let read = 0;
      for (let layer = 0; layer < LAYERS; layer++) {
        for (let head = 0; head <= HEADS; head++) {
          await at.page.locator(`.tile[data-attention="${layer}"][data-head="${head}"]`).hover();
          const [terms, values] = [
            await at.page.locator('.tooltip dt').allTextContents(),
            await at.page.locator('.tooltip dd').allTextContents(),
          ];
          const said = Object.fromEntries(terms.map((term, i) => [term, values[i] as string]));
          const truth = statsOf((row, column) => weight(layer, head, row, column));
          const numbers = [
            ...(said['token before, itself, after']?.split(', ') ?? []),
            said['within 8'],
            said['first or special'],
            said.entropy,
          ].map((text) => Number.parseFloat(text ?? ''));
          for (const [i, share] of [
            truth.previous,
            truth.self,
            truth.next,
            truth.local,
            truth.special,
            truth.entropy,
          ].entries()) {
            const percent = 100 * share;
            expect(Math.abs((numbers[i] as number) - percent)).toBeLessThan(percent < 10 ? 0.07 : 0.52);
            read++;
          }
          const largest = Number(said['largest weight']);
          expect(Math.abs(largest / truth.largest - 1)).toBeLessThan(0.051);
          read++;
        }
      }
      expect(read).toBe(LAYERS * (HEADS + 1) * 7);
    });
  });

  describeInBrowser('of a narrow capture each number is as near as the page says', () => {
    const at = new PageWindow();
    const tokens = ['[CLS]', 'the', 'cat', 'sat', '[SEP]'];
    const inputs = () => [Tensor.from([[2, 4, 5, 6, 3]], { dtype: 'int64' })];

    test.each([
      ['float16', 'float16', 0.00049, 6e-8, /float16 numbers: each may be 0\.049 % off/],
      ['levels from 0 to 1', { type: 'uint8', scale: 'linear' }, 0, 1 / 510, /256 levels.*0\.002 off/],
      ['levels of a logarithmic scale', { type: 'uint8', scale: 'log' }, 0.034, 6e-8, /logarithmic.*3\.4 % off/],
    ] as const)('%s', async (_, dtype, share, beyond, said) => {
      const model = await ScriptModule.load(join(__dirname, '../fixtures/cli/text.pt'));
      const { attentions: truth } = await model.captureAttention(inputs());
      const { attentions } = await model.captureAttention(inputs(), { dtype });
      await at.open(await at.write('narrow', renderView([{ attentions, tokens }])), 'view=matrix');
      expect(await at.page.locator('#precision').textContent()).toMatch(said);
      for (const [layer, { weights }] of truth.entries()) {
        const values = weights.toTypedArray() as Float32Array;
        for (let head = 0; head < 3; head++) {
          await at.page.locator('#layer').selectOption(String(layer));
          await at.page.locator('#head').selectOption(String(head));
          for (let i = 0; i < 17; i++) {
            const [row, column] = [random(5), random(5)];
            await at.page.mouse.move(2, 2);
            await at.pointAt(row, column, 5, 5);
            const true_ = values[(head * 5 + row) * 5 + column] as number;
            const shown = Number(await at.page.locator('.tooltip-weight').textContent());
            // Beside what it says, the digits that are shown.
            expect(Math.abs(shown - true_)).toBeLessThanOrEqual(share * true_ + beyond + 0.00006);
          }
        }
      }
      model.dispose();
    });
  });
});

/** What is said of a head, by its weights. */
function statsOf(weightAt: (row: number, column: number) => number) {
  const sums = { previous: 0, self: 0, next: 0, local: 0, special: 0, entropy: 0, largest: 0 };
  const counts = {
    previous: LENGTH - 1,
    self: LENGTH,
    next: LENGTH - 1,
    local: LENGTH,
    special: LENGTH,
    entropy: LENGTH,
  };
  for (let row = 0; row < LENGTH; row++) {
    for (let column = 0; column < LENGTH; column++) {
      const share = weightAt(row, column);
      if (column === row - 1) sums.previous += share;
      if (column === row) sums.self += share;
      if (column === row + 1) sums.next += share;
      if (Math.abs(column - row) <= 8) sums.local += share;
      if (column === 0 || column === LENGTH - 1) sums.special += share;
      if (share > 0) sums.entropy -= (share * Math.log(share)) / Math.log(LENGTH);
      sums.largest = Math.max(sums.largest, share);
    }
  }
  const means = Object.entries(counts).map(([name, count]) => [name, sums[name as keyof typeof counts] / count]);
  return { ...(Object.fromEntries(means) as Record<keyof typeof counts, number>), largest: sums.largest };
}
