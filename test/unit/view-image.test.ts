/// <reference lib="dom" />
import type { Page } from 'playwright-core';
import { encodePng } from '../../lib/view/png';
import { prepareView } from '../../lib/view/prepare';
import { attention, describeInBrowser, type Example, long, PageWindow, weightOf } from './page-window';

/** A picture of so many pixels, each of another colour. */
function picture(columns: number, rows: number): string {
  const pixels = Uint32Array.from({ length: columns * rows }, (_, i) => 0xff000000 + i * 4093);
  return `data:image/png;base64,${encodePng(pixels, columns, rows).toString('base64')}`;
}

const patched: Example = {
  title: 'patches',
  image: { url: picture(80, 60), size: { width: 80, height: 60 }, patches: [3, 4], prefix: 1 },
  attentions: [attention('vit.layers.0.attn', 1, 2, 13, 13), attention('vit.pool', 2, 2, 1, 5)],
};

describe('prepareView', () => {
  test('a picture whose patches are the keys of nothing is refused', async () => {
    const wrong = {
      ...patched,
      image: { url: picture(8, 8), size: { width: 8, height: 8 }, patches: [4, 4] as [number, number], prefix: 1 },
    };
    await expect(prepareView([wrong], { maxSize: 1e6 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(
        /4 × 4 patches and 1 tokens before them, 17 in all, where attentions have 13, 5 keys/,
      ),
    });
  });
});

describe('the page of renderView: pictures', () => {
  describeInBrowser('a picture of patches', () => {
    const at = new PageWindow();
    let page: Page;
    beforeEach(async () => {
      page = at.page;
      await at.openExamples('image', [patched], 'view=image');
      await page.waitForFunction(() => (document.querySelector('.image-box img') as HTMLImageElement)?.complete);
    });

    async function patch(row: number, column: number): Promise<{ x: number; y: number }> {
      const box = await page.locator('.image-box').boundingBox();
      if (!box) throw new Error('no picture');
      return { x: box.x + ((column + 0.5) * box.width) / 4, y: box.y + ((row + 0.5) * box.height) / 3 };
    }

    test('the patch that is pointed at is the query, and the picture is dimmed where it does not look', async () => {
      const { x, y } = await patch(1, 2);
      await page.mouse.move(x, y);
      expect(await page.locator('#image .text-heading').textContent()).toMatch(/^patch 1,2 attends to/);
      const opacity = await page.locator('.image-shade').evaluate((canvas: HTMLCanvasElement) => {
        const context = canvas.getContext('2d') as CanvasRenderingContext2D;
        return Array.from({ length: 12 }, (_, i) => {
          const [at, top] = [((i % 4) + 0.3) / 4, (Math.floor(i / 4) + 0.3) / 3];
          return context.getImageData(at * canvas.width, top * canvas.height, 1, 1).data[3] as number;
        });
      });
      const weights = opacity.map((_, i) => weightOf(patched, 0, 0, 1 + 1 * 4 + 2, 1 + i));
      const order = (values: number[]) =>
        [...values.keys()].sort((a, b) => (values[a] as number) - (values[b] as number));
      expect(order(opacity.map((value) => -value))).toEqual(order(weights));
      await page.mouse.click(x, y);
      for (const [row, column] of [
        [0, 0],
        [2, 3],
      ] as const) {
        const to = await patch(row, column);
        await page.mouse.move(to.x, to.y);
        expect(await at.tooltip()).toContain(weightOf(patched, 0, 0, 7, 1 + row * 4 + column).toFixed(4));
      }
    });

    test('a hundred numbers at random, by query and by key, are the capture’s', async () => {
      const to = async (position: number) => {
        if (position === 0) return await page.locator('.image-chips .chip').hover();
        const { x, y } = await patch(Math.floor((position - 1) / 4), (position - 1) % 4);
        await page.mouse.move(x, y);
      };
      const random = () => Math.floor(13 * Math.random());
      for (const from of ['query', 'key'] as const) {
        for (let asked = 0; asked < 5; asked++) {
          const index = random();
          const head = asked % 2;
          const hash = `view=image&head=${head}&locked=${index}&from=${from}&n=${asked}`;
          await page.evaluate((text) => {
            location.hash = text;
          }, hash);
          await page.waitForFunction(
            ([verb, name]) => {
              const heading = document.querySelector('#image .text-heading')?.textContent ?? '';
              return (
                heading.includes(verb as string) && document.querySelector('#head option:checked')?.textContent === name
              );
            },
            [
              `${index === 0 ? 'token #0' : `patch ${Math.floor((index - 1) / 4)},${(index - 1) % 4}`} ${from === 'query' ? 'attends to' : 'is attended to by'}`,
              `head ${head}`,
            ],
          );
          for (let i = 0; i < 10; i++) {
            const other = random();
            await page.mouse.move(2, 2);
            await to(other);
            const [row, column] = from === 'query' ? [index, other] : [other, index];
            expect(await page.locator('.tooltip-weight').textContent()).toBe(
              weightOf(patched, 0, head, row, column).toFixed(4),
            );
          }
        }
      }
    });

    test('tokens before the patches are chips; keys go from patch to patch', async () => {
      await page.locator('.image-box').focus();
      for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown', 'Enter']) await page.keyboard.press(key);
      expect(await page.locator('#image .text-heading').textContent()).toMatch(/^patch 1,1 attends to/);
      expect(await page.locator('.image-chips .chip').textContent()).toBe(
        `token #0 ${weightOf(patched, 0, 0, 6, 0).toFixed(4)}`,
      );
      await page.keyboard.press('Escape');
      await page.locator('.image-chips .chip').click();
      expect(await page.locator('#image .text-heading').textContent()).toMatch(/^token #0 attends to/);
      const { x, y } = await patch(0, 0);
      await page.keyboard.down('Shift');
      await page.mouse.click(x, y);
      await page.keyboard.up('Shift');
      expect(await page.locator('#image .text-heading').textContent()).toMatch(/^patch 0,0 is attended to by/);
      expect(await page.locator('.row-summary tbody tr').first().textContent()).toMatch(/^(#0|\d,\d)\d+0\.\d{4}$/);
    });

    test.each(['light', 'dark'] as const)('axe finds nothing, %s', async (colorScheme) => {
      await page.emulateMedia({ colorScheme });
      await page.locator('.image-chips .chip').click();
      expect(await at.violations()).toEqual([]);
    });

    test('an attention of other positions says so', async () => {
      await page.locator('#layer').selectOption('1');
      await page
        .locator('#image .text-heading', {
          hasText: "This attention has 1 queries and 5 keys: its positions aren't the patches",
        })
        .waitFor();
      expect(await page.locator('.image-box').isVisible()).toBe(false);
      // What is no text has no view of text.
      expect(await page.locator('#views [data-view=text]').isVisible()).toBe(false);
    });
  });

  describeInBrowser('a generation', () => {
    const at = new PageWindow();
    const size = 8;
    const causal = long('h.0.attn', 2, size, (data) => {
      for (let i = 0; i < data.length; i++) if (i % size > Math.floor(i / size) % size) data[i] = 0;
    });
    const words = ['Once', ' upon', ' a', ' time', ' there', ' was', ' a', ' fox'];

    test('is shown step by step: what had come by then, and what the newest token looked at', async () => {
      const { page } = at;
      await at.openExamples(
        'generation',
        [{ title: 'g', prompt: 3, tokens: words, attentions: [causal] }],
        'view=text',
      );
      expect(await page.locator('#step-label output').textContent()).toBe('5 of 5 “␣fox”');
      expect(await page.locator('.word').count()).toBe(8);
      const to = (step: number) =>
        page.locator('#step').evaluate((input: HTMLInputElement, value) => {
          input.value = String(value);
          input.dispatchEvent(new Event('input'));
        }, step);
      await to(5);
      await page.waitForFunction(() => document.querySelectorAll('.word').length === 5);
      expect(await page.locator('#step-label output').textContent()).toBe('2 of 5 “␣there”');
      expect(await page.locator('#text .text-heading').textContent()).toMatch(/“␣there” at 4 attends to/);
      await at.view('matrix');
      await page.waitForFunction(() => document.querySelectorAll('#matrix .matrix-left .tick').length === 5);
      await page.waitForFunction(() => /step=5/.test(location.hash));
      await to(8);
      await page.waitForFunction(() => document.querySelectorAll('#matrix .matrix-left .tick').length === 8);
      // The slider goes by keys too.
      await page.locator('#step').focus();
      await page.keyboard.press('ArrowLeft');
      expect(await page.locator('#step-label output').textContent()).toBe('4 of 5 “␣a”');
    });

    test('without one there is no slider', async () => {
      await at.openExamples('plain', [{ title: 'g', tokens: words, attentions: [causal] }], 'view=text');
      expect(await at.page.locator('#step-label').isVisible()).toBe(false);
    });
  });
});
