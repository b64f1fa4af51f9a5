/// <reference lib="dom" />
import { describeInBrowser, long, PageWindow, pageOf } from './page-window';

let state = 1;
/** The same numbers in every run. */
const random = (count: number) => {
  state = (state * 48271) % (2 ** 31 - 1);
  return state % count;
};

describe('the page of renderView: codes', () => {
  describeInBrowser('of codes of 8 bits each number is as near as it says, however small', () => {
    const at = new PageWindow();
    const size = 60;
    const tokens = Array.from({ length: size }, (_, i) => (i % 3 === 2 ? '##s' : `word${i}`));
    const spread = long('layers.0.attn', 2, size, (data) => {
      let state = 5;
      for (let row = 0; row < 2 * size; row++) {
        const part = data.subarray(row * size, (row + 1) * size);
        let sum = 0;
        for (let i = 0; i < size; i++) {
          state = (state * 1103515245 + 12345) % 2 ** 31;
          part[i] = Math.exp((-30 * state) / 2 ** 31);
          sum += part[i] as number;
        }
        for (let i = 0; i < size; i++) part[i] = (part[i] as number) / sum;
      }
    });
    const { data } = spread.weights as unknown as { data: Float32Array };
    const truth = (head: number, row: number, column: number) =>
      head < 2
        ? (data[(head * size + row) * size + column] as number)
        : ((data[row * size + column] as number) + (data[(size + row) * size + column] as number)) / 2;
    let file = '';
    beforeAll(async () => {
      file = await at.write('codes', pageOf([{ tokens, attentions: [spread] }], 'codes', { maxSize: 28_000 }));
    });

    /** Whether a number is what is said of it, within the digits that are shown; how it is said. */
    function said(text: string, value: number): string {
      const [, kind, number, off, unit] = /^(≈ |below )?([\d.e-]+)(?: ± ([\d.e-]+)( %)?)?$/.exec(text) ?? [];
      const shown = Number(number);
      if (kind === 'below ') {
        expect({ text, value, below: value <= 1.01 * shown }).toEqual({ text, value, below: true });
        return 'below';
      }
      const digits = kind ? 0.006 * shown : value < 0.001 ? 0.006 * value : 0.00006;
      const bound = (unit ? (1.02 * shown * Number(off)) / 100 : Number(off ?? 0)) + digits;
      expect({ text, value, near: Math.abs(shown - value) <= bound }).toEqual({ text, value, near: true });
      return kind ? 'about' : 'exact';
    }

    const heading = async () => (await at.page.locator('.tooltip-weight').textContent()) ?? '';

    const words = Array.from({ length: size }, (_, i) => i).filter((i) => !tokens[i]?.startsWith('##'));
    /** The weight of a word among others, by their numbers. */
    const sum = (query: number, key: number) => {
      const end = (word: number) => words[word + 1] ?? size;
      let total = 0;
      for (let row = words[query] as number; row < end(query); row++)
        for (let column = words[key] as number; column < end(key); column++) total += truth(1, row, column);
      return total / (end(query) - (words[query] as number));
    };

    test('heads and their mean', async () => {
      const kinds = new Set<string>();
      for (let head = 0; head < 3; head++) {
        await at.open(file, `view=matrix&head=${head}`);
        const precision = await at.page.locator('#precision').textContent();
        expect(precision).toMatch(/All weights of this head are in this page, at most 2\.8 % off/);
        for (let i = 0; i < 20; i++) {
          const row = random(size);
          const weights = Array.from({ length: size }, (_, column) => truth(head, row, column));
          // The largest of a row are exact to the digits that are shown.
          const column = i % 5 === 0 ? weights.indexOf(Math.max(...weights)) : random(size);
          await at.pointAt(row, column, size, size);
          kinds.add(said(await heading(), truth(head, row, column)));
        }
      }
      expect([...kinds].sort()).toEqual(['about', 'below', 'exact']);
    });

    test('words of several pieces', async () => {
      await at.open(file, 'view=matrix&head=1&mergeWords=1');
      for (let i = 0; i < 40; i++) {
        const [query, key] = [random(words.length), random(words.length)];
        await at.pointAt(query, key, words.length, words.length);
        said(await heading(), sum(query, key));
      }
    });

    test.each([
      ['what a token attends to', 'locked=7', (other: number) => truth(1, 7, other)],
      ['who attends to it', 'locked=7&from=key', (other: number) => truth(1, other, 7)],
      ['words', 'locked=6&mergeWords=1', (other: number) => sum(words.indexOf(6), other)],
    ])('the running text: %s', async (_, hash, value) => {
      await at.open(file, `view=text&head=1&${hash}`);
      const count = await at.page.locator('.word').count();
      for (let i = 0; i < 15; i++) {
        const other = random(count);
        await at.page.mouse.move(2, 2);
        await at.page.locator('.word').nth(other).hover();
        said(await heading(), value(other));
      }
    });
  });
});
