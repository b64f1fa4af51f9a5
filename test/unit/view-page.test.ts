/// <reference lib="dom" />
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Page } from 'playwright-core';
import type { PrepareExample } from '../../lib/view/prepare';
import { attention, describeInBrowser, type Example, long, PageWindow, pageOf, weightOf } from './page-window';

const HOSTILE = '</script><script>window.hacked = true</script><!--';
const tokens = ['[CLS]', HOSTILE, 'a b', '<b>', '&amp;', '\n'];
const decoderTokens = ['x', 'y', 'z'];

const first: Example = {
  title: `one ${HOSTILE}`,
  tokens,
  attentions: [
    attention('encoder.layers.0.self_attn', 1, 3, 6, 6),
    attention('encoder.layers.1.self_attn', 2, 3, 6, 6),
  ],
};
const second: Example = {
  title: 'two',
  tokens,
  targetTokens: decoderTokens,
  attentions: [
    attention('encoder.layers.0.self_attn', 3, 3, 6, 6),
    attention('decoder.layers.0.self_attn', 4, 3, 3, 3),
    attention('decoder.layers.0.multihead_attn', 5, 3, 3, 6),
  ],
};

describe('the page of renderView', () => {
  describeInBrowser('the page', () => {
    const at = new PageWindow();
    let file = '';
    let page: Page;

    beforeAll(async () => {
      file = await at.write('page', pageOf([first, second], `Title ${HOSTILE}`));
    });

    beforeEach(async () => {
      page = at.page;
      await at.open(file);
    });

    const tile = (index: number, head: number) => page.locator(`.tile[data-attention="${index}"][data-head="${head}"]`);
    const title = () => page.locator('#detail-title').textContent();
    const { errors, requests } = at;
    const [open, openExamples, pointAt, tooltip, view] = [
      at.open.bind(at),
      at.openExamples.bind(at),
      at.pointAt.bind(at),
      at.tooltip.bind(at),
      at.view.bind(at),
    ];

    test('asks the network for nothing, nor could it', async () => {
      const server: Server = createServer((_request, response) => response.end('x'));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as AddressInfo;
      await page.mouse.move(400, 400);
      await view('heads');
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
      expect(await page.locator('#example option').first().textContent()).toBe(`one ${HOSTILE}`);
      await tile(0, 0).click();
      await pointAt(0, 1, 6, 6);
      expect(await tooltip()).toContain('</script><script>');
      for (const name of ['text', 'heads']) {
        await view(name);
        await page
          .locator(`.${name === 'text' ? 'word' : 'token'}`, { hasText: '</script>' })
          .first()
          .waitFor();
      }
      expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
    });

    test('tokens of any length and of characters that show nothing are readable, and turn nothing around', async () => {
      const odd = ['x'.repeat(10_000), '\u200b', '\u202eabc', 'a\u0301', '👩‍🚀', 'z'];
      await openExamples('odd', [{ ...first, tokens: odd }], 'view=matrix');
      await pointAt(0, 1, 6, 6);
      const { width, height } = (await page.locator('.tooltip').boundingBox()) ?? { width: 0, height: 9999 };
      expect(width).toBeLessThan(360);
      expect(height).toBeLessThan(240);
      expect(await tooltip()).toContain('⟨ZWSP⟩');
      await pointAt(2, 4, 6, 6);
      expect(await tooltip()).toContain('⟨RLO⟩abc');
      expect(await tooltip()).toContain('👩‍🚀');
      await view('heads');
      expect(await at.violations()).toEqual([]);
      // Fillers and accents of their own, which would show nothing or stand on the quotation mark.
      const marks = ['\u3164', '\u2800', '\u034f', '\u0301', '1\ufe0f\u20e3', 'a\u200db'];
      await openExamples('marks', [{ ...first, tokens: marks }], 'view=text');
      const seen = ['⟨U+3164⟩', '⟨U+2800⟩', '⟨U+034F⟩', '◌\u0301', '1\ufe0f\u20e3', 'a⟨ZWJ⟩b'];
      expect(await page.locator('.word').allTextContents()).toEqual(seen);
    });

    test('an address may say anything: what makes no sense is left out', async () => {
      const heads = () => page.locator('.chip[aria-pressed=true]').allTextContents();
      await open(file, 'view=heads&heads=0.5_1_1_-3_99&locked=1.5&threshold=-3&attention=1e9&other=7_7_7&step=-4');
      expect(await heads()).toEqual(['1']);
      expect(await title()).toBe('layer 1, head 1');
      expect(await page.locator('.lines-count').textContent()).toMatch(/^\(36 of 36 shown, 100 % /);
      expect(await page.locator('.token[aria-pressed=true]').count()).toBe(0);
      // Beyond the end of the matrix nothing would be seen.
      await open(file, 'view=matrix&zoom=4_9_-9');
      await page.locator('#matrix .matrix-body.enlarged').waitFor();
      const labels = await page.locator('.matrix-top .tick text').allTextContents();
      expect(labels).toEqual(['&amp;', '↵']);
      expect(await page.locator('.matrix-left .tick text').allTextContents()).toEqual(['[CLS]', '</script><scrip…']);
    });

    test('a number in the name of a layer is enough for a tile, whatever it counts', async () => {
      const blocks = [0, 1].map((i) => attention(`encoder.block.${i}.layer.0.SelfAttention`, i, 12, 6, 6));
      await openExamples('blocks', [{ tokens, attentions: blocks }]);
      expect(await page.locator('.tile-name').allTextContents()).toContain('1.11');
      const cut = await page
        .locator('.tile-name, .tile-strength')
        .evaluateAll((nodes) => nodes.filter((node) => node.scrollWidth > node.clientWidth).length);
      expect(cut).toBe(0);
      await page.locator('[data-arrange=layer]').click();
      expect(await page.locator('.group-title').first().textContent()).toBe('Block 012 heads');
    });

    test('in no view, tooltip, address, figure or row is a token anything but text', async () => {
      const odd = [
        HOSTILE,
        '<img src=x onerror="window.hacked = true">',
        '\u202eabc',
        '\u200b',
        'x'.repeat(10_000),
        '"=1+1',
      ];
      const image = { url: 'data:image/gif;base64,R0lGODlhAQABAAAAACw=', size: { width: 1, height: 1 } };
      const patched = { ...first, tokens: odd, image: { ...image, patches: [2, 2] as [number, number], prefix: 2 } };
      await openExamples('everywhere', [patched, { ...patched, title: odd[1] as string }]);
      for (const name of ['model', 'heads', 'matrix', 'text', 'image', 'compare']) {
        await view(name);
        await page.evaluate(() => {
          for (const node of document.querySelectorAll<HTMLElement>('.token, .word, .chip, .tile')) node.focus();
        });
        if (name === 'matrix' || name === 'compare') {
          const pane = name === 'matrix' ? '#matrix' : '[data-pane=a]';
          for (let i = 0; i < 6; i++) await pointAt(i, i, 6, 6, pane);
        }
        const seen = await page.evaluate(() => ({
          elements: document.querySelectorAll('.app script, .app img:not(.image-box img)').length,
          text: document.querySelector('main')?.textContent ?? '',
          wide: document.documentElement.scrollWidth - innerWidth,
        }));
        expect([name, seen.elements, seen.wide]).toEqual([name, 0, 0]);
        expect([name, /\u202e|\u200b|x{100}/.test(seen.text)]).toEqual([name, false]);
        await page.locator('#export summary').click();
        const [download] = await Promise.all([
          page.waitForEvent('download'),
          page.locator('#export [data-format=svg]').click(),
        ]);
        const svg = readFileSync(await download.path(), 'utf8');
        expect([name, /<script|<img|\u202e|\u200b|x{100}/.test(svg)]).toEqual([name, false]);
      }
      expect(decodeURIComponent(page.url())).not.toMatch(/<|\u202e|xxx/);
      expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
    });

    test('the exact value is under the pointer, with its tokens and the row sum', async () => {
      await tile(1, 2).click();
      await pointAt(2, 4, 6, 6);
      const text = await tooltip();
      expect(text).toContain(weightOf(first, 1, 2, 2, 4).toFixed(4));
      expect(text).toMatch(/query“a␣b” at 2key“&amp;” at 4row sum1\.0000/);
      await page.mouse.move(5, 5);
      expect(await page.locator('.tooltip').isVisible()).toBe(false);
    });

    test('a click keeps a row until the next', async () => {
      await tile(0, 0).click();
      const at = await pointAt(1, 1, 6, 6);
      await page.mouse.click(at.x, at.y);
      await pointAt(4, 3, 6, 6);
      expect(await tooltip()).toContain(weightOf(first, 0, 0, 1, 3).toFixed(4));
      expect(await page.locator('.row-summary h3').textContent()).toMatch(/at 1 attends to \(kept\)/);
      const strongest = Math.max(...[0, 1, 2, 3, 4, 5].map((column) => weightOf(first, 0, 0, 1, column)));
      expect(await page.locator('td.weight').first().textContent()).toBe(strongest.toFixed(4));
      await page.mouse.click(at.x, at.y);
      await pointAt(4, 3, 6, 6);
      expect(await tooltip()).toContain(weightOf(first, 0, 0, 4, 3).toFixed(4));
    });

    test('tiles choose layer and head; the mean over heads, by layer', async () => {
      await tile(0, 0).click();
      expect(await title()).toBe('layer 0, head 0');
      await view('model');
      await tile(1, 1).click();
      expect(await title()).toBe('layer 1, head 1');
      await view('model');
      expect(await page.locator('.tile[aria-current=true]').count()).toBe(1);
      await page.locator('[data-arrange=layer]').click();
      await tile(1, 3).click();
      expect(await title()).toBe('layer 1, mean of 3 heads');
      await pointAt(0, 0, 6, 6);
      const mean = [0, 1, 2].reduce((sum, head) => sum + weightOf(first, 1, head, 0, 0), 0) / 3;
      expect(await page.locator('.tooltip-weight').textContent()).toBe(mean.toFixed(4));
    });

    test.each(['pattern', 'layer', 'entropy', 'similarity'])('heads arranged by %s are all there', async (by) => {
      await page.locator(`[data-arrange=${by}]`).click();
      await page.locator(`[data-arrange=${by}][aria-pressed=true]`).waitFor();
      expect(await page.locator('.tile:not(.mean)').count()).toBe(6);
      for (const note of await page.locator('.group-note').allTextContents()) expect(note).toMatch(/^\d+ heads?/);
    });

    test('the keyboard goes everywhere, and arrow keys only where the focus is', async () => {
      await page.keyboard.press('ArrowDown');
      expect(await page.evaluate(() => document.activeElement === document.body)).toBe(true);
      await page.locator('[data-arrange=layer]').click();
      await tile(0, 0).focus();
      for (const key of ['ArrowRight', 'ArrowDown']) await page.keyboard.press(key);
      await page.keyboard.press('Enter');
      expect(await title()).toBe('layer 1, head 1');
      await page.locator('#matrix .matrix-body').focus();
      for (const key of ['ArrowDown', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
      const cell = weightOf(first, 1, 1, 0, 2).toFixed(4);
      expect(await page.locator('.tooltip-weight').textContent()).toBe(cell);
      await page.waitForFunction((text) => document.getElementById('live')?.textContent?.includes(text), cell);
      await page.keyboard.press('Enter');
      await page.keyboard.press('ArrowDown');
      expect(await page.locator('.row-summary h3').textContent()).toMatch(/at 1 attends to \(kept\)/);
      await page.keyboard.press('Escape');
      expect(await page.locator('#matrix .shade:not([hidden])').count()).toBe(0);
      // Lines and text too.
      for (const [name, node] of [
        ['heads', '.token'],
        ['text', '.word'],
      ] as const) {
        await view(name);
        await page.locator(node).first().focus();
        await page.keyboard.press('ArrowDown');
        await page.keyboard.press('Enter');
        expect(await page.locator('.row-summary h3').textContent()).toMatch(/at 1 attends to \(kept\)/);
        await page.keyboard.press('Escape');
      }
    });

    test('examples switch; encoder, decoder and cross-attention are told apart, K need not be Q', async () => {
      await page.locator('#example').selectOption('1');
      await page.locator('.kind > h2').first().waitFor();
      expect(await page.locator('.kind > h2').allTextContents()).toEqual([
        'Encoder self-attention',
        'Decoder self-attention',
        'Cross-attention',
      ]);
      await tile(2, 1).click();
      expect(await page.locator('.subtitle').textContent()).toContain('3 queries × 6 keys');
      await pointAt(2, 5, 3, 6);
      const text = await tooltip();
      expect(text).toContain(weightOf(second, 2, 1, 2, 5).toFixed(4));
      expect(text).toMatch(/query“z” at 2key“↵” at 5/);
    });

    test('lines: the weights of the query asked, by head, and headings say which heads', async () => {
      await page.locator('#example').selectOption('1');
      await tile(2, 0).click();
      await view('heads');
      expect(await title()).toBe('layer 0, head 0');
      await page.locator('.queries .token', { hasText: 'y' }).click();
      for (const column of [0, 3, 5]) {
        await page.locator(`.keys .token[data-index="${column}"]`).hover();
        expect(await tooltip()).toContain(`head 0${weightOf(second, 2, 0, 1, column).toFixed(4)}`);
      }
      await page.locator('.chip[aria-label="head 2"]').click();
      expect(await title()).toBe('layer 0, 2 heads');
      await page.locator('.keys .token[data-index="4"]').hover();
      expect(await tooltip()).toContain(`head 2${weightOf(second, 2, 2, 1, 4).toFixed(4)}`);
      expect(await page.locator('.lines-count').textContent()).toMatch(/\(\d+ of 36 shown, \d+ % of the weight\)/);
      const inked = await page.locator('.lines-all').evaluate((canvas: HTMLCanvasElement) => {
        const { data } = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [] };
        return Array.from(data).some((value) => value > 0);
      });
      expect(inked).toBe(true);
    });

    test('pointing draws no line again: the lines of the token that is asked lie over the others', async () => {
      await view('heads');
      await page.locator('.queries .token').first().hover();
      const drawn = await page.evaluateHandle(() => {
        const seen = { all: 0, asked: 0 };
        for (const name of ['all', 'asked'] as const) {
          const canvas = document.querySelector(`.lines-${name}`) as HTMLCanvasElement;
          const context = canvas.getContext('2d') as CanvasRenderingContext2D;
          const stroke = context.stroke;
          context.stroke = (...given: unknown[]) => {
            seen[name]++;
            (stroke as (...all: unknown[]) => void).apply(context, given);
          };
        }
        return seen;
      });
      for (const side of ['queries', 'keys']) await page.locator(`.${side} .token`).nth(3).hover();
      await page.waitForTimeout(100);
      const { all, asked } = (await drawn.jsonValue()) as { all: number; asked: number };
      expect(all).toBe(0);
      expect(asked).toBeGreaterThan(0);
      expect(await page.locator('.lines-all.behind').count()).toBe(1);
    });

    test.each([1280, 420])('lines have room beside the tokens, %i pixels wide', async (width) => {
      await page.setViewportSize({ width, height: 800 });
      await view('heads');
      const { width: room } = (await page.locator('.lines-all').boundingBox()) ?? { width: 0 };
      expect(room).toBeGreaterThan(width * 0.3);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(overflow).toBeLessThanOrEqual(0);
    });

    test('the threshold says how many lines and how much of the weight are shown', async () => {
      await view('heads');
      const threshold = 0.2;
      await page.locator('#threshold').evaluate((input: HTMLInputElement, value) => {
        input.value = String(Math.log10(value));
        input.dispatchEvent(new Event('input'));
      }, threshold);
      const all = Array.from(first.attentions[0]?.weights.data.subarray(0, 36) ?? []);
      const slider = 10 ** (Math.round(Math.log10(threshold) / 0.05) * 0.05);
      const over = all.filter((weight) => weight >= slider);
      const share = Math.round((100 * over.reduce((a, b) => a + b, 0)) / all.reduce((a, b) => a + b, 0));
      await page.waitForFunction(
        (text) => document.querySelector('.lines-count')?.textContent?.startsWith(text),
        `(${over.length} of 36 shown`,
      );
      const said = await page.locator('.lines-count').textContent();
      expect(Math.abs(Number(/([\d.]+) %/.exec(said ?? '')?.[1]) - share)).toBeLessThan(1);
    });

    test('lines of one head’s values with signs have the colours of these; thresholds are shares of their size', async () => {
      const gradient = long('encoder.layers.0.self_attn', 2, 6, (data) => {
        data.forEach((value, i) => {
          data[i] = (i % 2 ? -1e-5 : 1e-5) * (0.5 + value / 2);
        });
      });
      const derived = { ...gradient, operator: 'gradient', kind: 'derived' };
      await openExamples('signs', [{ tokens, attentions: [derived] }], 'view=heads');
      expect(await page.locator('.lines-count').textContent()).toMatch(/^\(36 of 36 shown, 100 % of the weight\)$/);
      expect(Number(await page.locator('#threshold + output').textContent())).toBeCloseTo(5e-7, 7);
      /** The colours near the left end of the lines: how many pixels are redder than blue, and how many bluer than red. */
      const counts = () =>
        page.locator('.lines-all').evaluate((canvas: HTMLCanvasElement) => {
          const { data } = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [] };
          let [red, blue] = [0, 0];
          for (let i = 0; i < data.length; i += 4) {
            if ((data[i + 3] as number) < 40) continue;
            if ((data[i] as number) > (data[i + 2] as number) + 40) red++;
            if ((data[i + 2] as number) > (data[i] as number) + 40) blue++;
          }
          return { red, blue };
        });
      const one = await counts();
      expect(one.red).toBeGreaterThan(500);
      expect(one.blue).toBeGreaterThan(500);
      await page.locator('.chip', { hasText: '1' }).click();
      await page.waitForFunction(() =>
        /of either sign/.test(document.querySelector('.lines-count')?.textContent ?? ''),
      );
    });

    test('text is tinted by what a token attends to, or by who attends to it', async () => {
      await view('text');
      await page.locator('.word').nth(2).click();
      expect(await page.locator('#text .text-heading').textContent()).toMatch(/“a␣b” at 2 attends to/);
      for (const column of [1, 4]) {
        await page.locator('.word').nth(column).hover();
        expect(await tooltip()).toContain(weightOf(first, 0, 0, 2, column).toFixed(4));
      }
      await page
        .locator('.word')
        .nth(3)
        .click({ modifiers: ['Shift'] });
      expect(await page.locator('#text .text-heading').textContent()).toMatch(/at 3 is attended to by/);
      await page.locator('.word').nth(5).hover();
      expect(await tooltip()).toContain(weightOf(first, 0, 0, 5, 3).toFixed(4));
      const tints = await page.locator('.word').evaluateAll((words) => {
        const canvas = document.querySelector('.tints') as HTMLCanvasElement;
        const { left, top } = canvas.getBoundingClientRect();
        const ratio = canvas.width / canvas.clientWidth;
        return words.map((word) => {
          const box = word.getBoundingClientRect();
          const [x, y] = [(box.left + 3 - left) * ratio, (box.top + 4 - top) * ratio];
          return String(canvas.getContext('2d')?.getImageData(x, y, 1, 1).data);
        });
      });
      expect(new Set(tints).size).toBeGreaterThan(3);
    });

    test('pieces of a word merge: the sum over keys, the mean over queries', async () => {
      const pieces = { ...first, tokens: ['[CLS]', 'un', '##believ', '##able', 'cat', '[SEP]'] };
      await openExamples('pieces', [pieces], 'view=text');
      expect(await page.locator('.word').count()).toBe(6);
      await page.locator('#merge').check();
      expect(await page.locator('.word').allTextContents()).toEqual(['[CLS]', 'unbelievable', 'cat', '[SEP]']);
      await page.locator('.word').nth(1).click();
      await page.locator('.word').nth(2).hover();
      const mean = [1, 2, 3].reduce((sum, row) => sum + weightOf(first, 0, 0, row, 4), 0) / 3;
      expect(await tooltip()).toContain(mean.toFixed(4));
      await page.locator('.word').nth(2).click();
      await page.locator('.word').nth(1).hover();
      const sum = [1, 2, 3].reduce((total, column) => total + weightOf(first, 0, 0, 4, column), 0);
      expect(await tooltip()).toContain(sum.toFixed(4));
    });

    test('find goes to tokens, positions, heads, views and examples, by keys alone', async () => {
      const options = page.locator('.finder [role=option]');
      const find = async (text: string) => {
        await page.keyboard.press('Control+k');
        await page.locator('.finder[open]').waitFor();
        await page.keyboard.type(text);
      };
      await find('layer 1 head 2');
      expect(await options.first().textContent()).toMatch(/^layer 1, head 2 /);
      await page.keyboard.press('Enter');
      expect(await title()).toBe('layer 1, head 2');
      expect(await page.locator('.finder').isVisible()).toBe(false);
      await find('0.1');
      expect(await options.first().textContent()).toMatch(/^layer 0, head 1 /);
      await page.keyboard.press('Enter');
      expect(await title()).toBe('layer 0, head 1');
      // A token, as it is written and by its position; what is found is kept.
      await find('&amp');
      expect(await options.allTextContents()).toEqual(['&amp; at 4']);
      await page.keyboard.press('Enter');
      expect(await page.locator('.row-summary h3').textContent()).toMatch(/“&amp;” at 4 attends to \(kept\)/);
      await find('2');
      expect(await options.first().textContent()).toBe('a␣b at 2');
      await page.keyboard.press('ArrowDown');
      const second = await options.nth(1).textContent();
      expect(await page.locator('.finder [aria-selected=true]').textContent()).toBe(second);
      await page.keyboard.press('ArrowUp');
      await page.keyboard.press('Enter');
      await page.waitForFunction(() => /locked=2/.test(location.hash));
      await find('lines nobody has');
      expect(await page.locator('.finder .hint').textContent()).toBe('Nothing found.');
      expect(await at.violations()).toEqual([]);
      await page.keyboard.press('Escape');
      await find('');
      expect(await options.allTextContents()).toEqual(
        expect.arrayContaining(['Heads view', 'Compare view', expect.stringMatching(/^two example$/)]),
      );
      expect(await at.violations()).toEqual([]);
      await page.keyboard.type('heads');
      await page.keyboard.press('Enter');
      expect(await page.locator('.app').getAttribute('data-view')).toBe('heads');
      expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
    });

    test('in the lines of a long text, and in a text, what was found comes into sight', async () => {
      const many = Array.from({ length: 300 }, (_, i) => `word${i}`);
      await openExamples('found', [{ title: 'f', tokens: many, attentions: [long('a', 1, 300)] }], 'view=heads');
      for (const [name, node] of [
        ['heads', '.queries .token[aria-pressed=true]'],
        ['text', '.word[aria-pressed=true]'],
      ] as const) {
        await view(name);
        await page.keyboard.press('Control+k');
        await page.keyboard.type(name === 'heads' ? 'word250' : 'word280');
        await page.keyboard.press('Enter');
        await page.locator(node).waitFor();
        const { y = -1 } = (await page.locator(node).boundingBox()) ?? {};
        expect([name, y > 0 && y < 900]).toEqual([name, true]);
      }
    });

    test('special tokens are hidden, and pieces merged, in the pictures of all heads', async () => {
      const pieces = ['[CLS]', 'un', '##believ', '##able', 'cat', '[SEP]'];
      await openExamples('pieces', [{ ...first, tokens: pieces }]);
      const sizes = () =>
        page
          .locator('.tile canvas')
          .first()
          .evaluate((canvas: HTMLCanvasElement) => [canvas.width, canvas.height]);
      expect(await sizes()).toEqual([6, 6]);
      await page.locator('#special').check();
      await page.waitForFunction(() => document.querySelector<HTMLCanvasElement>('.tile canvas')?.width === 4);
      await page.locator('#merge').check();
      await page.waitForFunction(() => document.querySelector<HTMLCanvasElement>('.tile canvas')?.width === 2);
      expect(await sizes()).toEqual([2, 2]);
      await tile(0, 1).click();
      expect(await page.locator('#matrix .matrix-left .tick text').allTextContents()).toEqual(['unbelievable', 'cat']);
      await pointAt(1, 0, 2, 2);
      const sum = weightOf(first, 0, 1, 4, 1) + weightOf(first, 0, 1, 4, 2) + weightOf(first, 0, 1, 4, 3);
      expect(await tooltip()).toContain(sum.toFixed(4));
      expect(await tooltip()).toMatch(/piecessum of 3 keys/);
      // Of a text as long as that of most captures, cells that have special tokens go.
      const words = ['[CLS]', ...Array.from({ length: 198 }, (_, i) => `w${i}`), '[SEP]'];
      await openExamples('longer', [{ title: 'l', tokens: words, attentions: [long('a', 2, 200)] }]);
      expect(await sizes()).toEqual([64, 64]);
      await page.locator('#special').check();
      await page.waitForFunction(() => document.querySelector<HTMLCanvasElement>('.tile canvas')?.width === 62);
    });

    test('the layer is stepped through with the same heads', async () => {
      await open(file, 'view=heads&heads=0_2');
      await page.locator('#next-head').click();
      expect(await title()).toBe('layer 1, 2 heads');
      await page.locator('[aria-label="Previous layer"]').click();
      expect(await title()).toBe('layer 0, 2 heads');
    });

    test('what is shown is in the address, and a reload or a copied link restores it', async () => {
      await page.locator('#example').selectOption('1');
      await tile(2, 1).click();
      await page.locator('#scale').selectOption('root');
      await page.locator('#matrix .matrix-body').focus();
      for (const key of ['ArrowDown', 'ArrowDown', 'Enter', '+']) await page.keyboard.press(key);
      await page.waitForFunction(() => /locked=1/.test(location.hash) && /zoom=/.test(location.hash));
      const hash = new URL(page.url()).hash;
      await page.reload();
      await page.locator('.app.ready').waitFor();
      const state = async () => [
        await title(),
        await page.locator('#scale').inputValue(),
        await page.locator('.row-summary h3').textContent(),
        await page.locator('#matrix .minimap').isVisible(),
      ];
      expect(await state()).toEqual(['layer 0, head 1', 'root', expect.stringMatching(/“y” at 1 .*kept/), true]);
      await open(file);
      await open(file, hash.slice(1));
      expect(await state()).toEqual(['layer 0, head 1', 'root', expect.stringMatching(/“y” at 1 .*kept/), true]);
      await open(file, 'view=nonsense&attention=99&head=-5&zoom=x&locked=1e9');
      expect(await page.locator('.app').getAttribute('data-view')).toBe('model');
    });

    test('light and dark follow the system, and the button', async () => {
      const paper = () => page.locator('body').evaluate((element) => getComputedStyle(element).backgroundColor);
      expect(await paper()).toBe('rgb(255, 255, 255)');
      await page.emulateMedia({ colorScheme: 'dark' });
      expect(await paper()).toBe('rgb(20, 22, 26)');
      await page.locator('#theme').click();
      expect(await paper()).toBe('rgb(255, 255, 255)');
    });

    describe('of a long text', () => {
      const size = 300;
      const words = ['[CLS]', ...Array.from({ length: size - 2 }, (_, i) => `token${i}`), '[SEP]'];
      const last = long('layers.1.self_attn', 2, size);
      const example: PrepareExample = {
        title: 'long',
        tokens: words,
        attentions: [long('layers.0.self_attn', 2, size), last],
      };
      const exact = (head: number, row: number, column: number) =>
        (last.weights as unknown as { data: Float32Array }).data[(head * size + row) * size + column] as number;

      test('the whole head fits, labels never overlap, the first and last are there', async () => {
        await page.setViewportSize({ width: 1280, height: 700 });
        await openExamples('long', [example], 'view=matrix');
        const box = (await page.locator('#matrix .matrix-body').boundingBox()) ?? { width: 0, height: 0, y: 0 };
        expect(box.y + box.height).toBeLessThan(700);
        expect(Math.abs(box.width - box.height)).toBeLessThan(1);
        for (const row of [0, 150]) {
          await pointAt(row, row, size, size);
          const boxes = await page.locator('#matrix .matrix-left .tick text').evaluateAll((texts) =>
            texts
              .map((text) => text.getBoundingClientRect())
              .map(({ top, bottom }) => ({ top, bottom }))
              .sort((a, b) => a.top - b.top),
          );
          expect(boxes.length).toBeGreaterThan(10);
          for (const [i, { top }] of boxes.slice(1).entries()) {
            expect(top).toBeGreaterThanOrEqual((boxes[i]?.bottom as number) - 3);
          }
        }
        const labels = await page.locator('#matrix .matrix-left .tick text').allTextContents();
        expect([labels.includes('[CLS]'), labels.includes('[SEP]')]).toEqual([true, true]);
      });

      test('positions above a matrix stand apart, the first and the last too', async () => {
        for (const columns of [100, 213, 300, 1000]) {
          const thin = { ...attention('cross_attn', 1, 1, 2, columns), kind: 'cross' };
          await openExamples('thin', [{ attentions: [thin] }], 'view=matrix');
          const boxes = await page.locator('#matrix .matrix-top .tick text').evaluateAll((texts) =>
            texts
              .map((text) => text.getBoundingClientRect())
              .map(({ left, right }) => ({ left, right }))
              .sort((a, b) => a.left - b.left),
          );
          expect(boxes.length).toBeGreaterThan(5);
          for (const [i, { left }] of boxes.slice(1).entries())
            expect(left).toBeGreaterThanOrEqual((boxes[i]?.right as number) + 3);
        }
      });

      test('pointing changes no word, label or cell: what it shows lies over them', async () => {
        await openExamples('long', [example], 'view=matrix');
        await pointAt(10, 10, size, size);
        await page.locator('#matrix .matrix-left .marked', { hasText: 'token9' }).waitFor();
        const changes = await page.evaluateHandle(() => {
          const seen = { nodes: 0, cells: 0 };
          const watch = new MutationObserver((records) => {
            seen.nodes += records.filter(({ target }) => !(target as Element).closest?.('.tints')).length;
          });
          const everything = { attributes: true, childList: true, characterData: true, subtree: true };
          for (const part of document.querySelectorAll('.running-text, #matrix svg')) watch.observe(part, everything);
          const cells = document.querySelector('#matrix .matrix-body canvas') as HTMLCanvasElement;
          const context = cells.getContext('2d') as CanvasRenderingContext2D;
          const draw = context.drawImage;
          context.drawImage = (...given: unknown[]) => {
            seen.cells++;
            draw.apply(context, given as Parameters<typeof draw>);
          };
          return seen;
        });
        for (const row of [50, 150, 250]) await pointAt(row, 20, size, size);
        await page.locator('#matrix .matrix-left .marked', { hasText: 'token249' }).waitFor();
        expect(await page.locator('#text .text-heading').textContent()).toMatch(/“token249” at 250 attends to/);
        expect(await changes.jsonValue()).toEqual({ nodes: 0, cells: 0 });
      });

      test('wheel, drag and keys enlarge and move; a small map says where', async () => {
        await openExamples('long', [example], 'view=matrix');
        const box = (await page.locator('#matrix .matrix-body').boundingBox()) ?? { x: 0, y: 0, width: 0, height: 0 };
        await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
        for (let i = 0; i < 12; i++) await page.mouse.wheel(0, -240);
        await page.locator('#matrix .minimap').waitFor();
        // Cells are large now: their tokens are beside them.
        const before = await page.locator('#matrix .matrix-left .tick text').first().textContent();
        expect(before).toMatch(/^token1\d\d$/);
        await page.mouse.down();
        await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2 + 200, { steps: 4 });
        await page.mouse.up();
        await page.waitForFunction(
          (text) => document.querySelector('#matrix .matrix-left .tick text')?.textContent !== text,
          before,
        );
        expect(await page.locator('.row-summary h3').textContent()).not.toMatch(/kept/);
        await page.locator('#matrix .matrix-body').focus();
        await page.keyboard.press('0');
        await page.locator('#matrix .minimap').waitFor({ state: 'hidden' });
      });

      test('each number is exact, or says how far off it may be', async () => {
        const random = (count: number) => Math.floor(Math.random() * count);
        // Small enough that the first layer is there as pictures only.
        await openExamples('small', [example], 'view=matrix&attention=1', { maxSize: 330_000 });
        expect(await page.locator('#precision').textContent()).toMatch(
          /at most 2\.8 % off; the 4 largest weights of each query are exact/,
        );
        for (let i = 0; i < 25; i++) {
          const [row, column] = [random(size), random(size)];
          await pointAt(row, column, size, size);
          const [, about, value, percent] =
            /^(≈ )?([\d.e-]+)(?: ± ([\d.]+) %)?/.exec((await page.locator('.tooltip-weight').textContent()) ?? '') ??
            [];
          const true_ = exact(0, row, column);
          const error = Math.abs(Number(value) / true_ - 1);
          if (about) expect(error).toBeLessThan(Number(percent) / 100 + 0.006);
          else expect(Number(value)).toBe(Number(true_ < 0.001 ? true_.toPrecision(3) : true_.toFixed(4)));
        }
        await page.locator('#layer').selectOption('0');
        await page.waitForFunction(() =>
          document.querySelector('#precision')?.textContent?.startsWith('Of this head the page has a picture'),
        );
        await pointAt(120, 119, size, size);
        expect(await tooltip()).toMatch(/largest of\d × \d weights/);
        expect(await page.locator('#picture-note').textContent()).toMatch(/picture: each cell the largest of/);
        // Below the text, out of sight, it follows when the pointer rests.
        await page.waitForFunction(() =>
          /The 4 strongest of 300 keys, exactly: \d+ % of the weight/.test(
            document.querySelector('.row-summary')?.textContent ?? '',
          ),
        );
      });

      test('one scale for all heads is the default, said in every view, and tiles follow', async () => {
        await openExamples('long', [example]);
        const ink = () =>
          tile(0, 0)
            .locator('canvas')
            .evaluate((canvas: HTMLCanvasElement) => {
              const { data } = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height) ?? {
                data: new Uint8ClampedArray(),
              };
              return data.reduce((sum, value) => sum + value, 0);
            });
        const before = await ink();
        expect(before).toBeLessThan(0.97 * 64 * 64 * 4 * 255);
        await page.locator('#scale').selectOption('linear');
        await page.waitForTimeout(100);
        expect(await ink()).not.toBe(before);
        for (const name of ['model', 'matrix', 'heads', 'text']) {
          await view(name);
          expect(await page.locator('.legend').getAttribute('aria-label')).toBe('Colours from 0 by 0.5 to 1');
        }
      });
    });

    test('masked cells are hatched, NaN has a colour of its own, and neither is a number', async () => {
      const size = 8;
      const causal = long('decoder.layers.0.self_attn', 2, size, (data) => {
        for (let i = 0; i < data.length; i++) if (i % size > Math.floor(i / size) % size) data[i] = 0;
        for (let column = 0; column < size; column++) data[3 * size + column] = Number.NaN;
      });
      await openExamples('masked', [{ title: 'm', attentions: [causal] }], 'view=matrix');
      const pixel = (row: number, column: number) =>
        page.locator('#matrix .matrix-body canvas').evaluate(
          (canvas: HTMLCanvasElement, [x, y]) => {
            const { data } = canvas
              .getContext('2d')
              ?.getImageData((x ?? 0) * canvas.width, (y ?? 0) * canvas.height, 1, 1) ?? { data: [] };
            return Array.from(data);
          },
          [(column + 0.5) / size, (row + 0.5) / size],
        );
      expect((await pixel(0, 5))[3]).toBe(0);
      expect(await pixel(3, 1)).toEqual([232, 89, 12, 255]);
      await pointAt(0, 5, size, size);
      expect(await page.locator('.tooltip-weight').textContent()).toBe('masked');
      await pointAt(3, 1, size, size);
      expect(await page.locator('.tooltip-weight').textContent()).toBe('NaN');
      expect(await page.locator('.legend').textContent()).toMatch(/maskedNaN/);
      // The mean is NaN where a head is, and nowhere else.
      await page.locator('#head').selectOption('2');
      await pointAt(4, 1, size, size);
      expect(Number(await page.locator('.tooltip-weight').textContent())).toBeGreaterThan(0);
      await pointAt(3, 1, size, size);
      const summary = () => page.locator('.row-summary').textContent();
      await page.locator('#head').selectOption('0');
      await pointAt(3, 1, size, size);
      expect(await summary()).toMatch(/No weight at all: all are NaN\./);
      await page.locator('#head').selectOption('1');
      await pointAt(0, 1, size, size);
      expect(await summary()).not.toMatch(/No weight/);
    });

    test('of one head alone, what is 0 may be no mask', async () => {
      const alone = long('layers.0.attn', 1, 6, (data) => {
        data[8] = 0;
      });
      const relu = {
        ...long('layers.0.attn', 2, 6, (data) => {
          for (const i of [8, 44]) data[i] = 0;
        }),
        kind: 'relu',
      };
      for (const one of [alone, relu]) {
        await openExamples('alone', [{ tokens, attentions: [one] }], 'view=matrix');
        expect(await page.locator('.legend').textContent()).toMatch(/masked or 0$/);
        await pointAt(1, 2, 6, 6);
        expect(await page.locator('.tooltip-weight').textContent()).toBe('masked or 0');
      }
    });

    test('padding is trimmed unless asked for', async () => {
      const padded = { ...first, tokens: ['[CLS]', 'a', 'b', '[SEP]', '[PAD]', '[PAD]'] };
      await openExamples('padded', [padded], 'view=matrix');
      await pointAt(3, 3, 4, 4);
      expect(await tooltip()).toContain(weightOf(first, 0, 0, 3, 3).toFixed(4));
      expect(await page.locator('#matrix .matrix-left .tick').count()).toBe(4);
      await page.locator('#padding').check();
      await page.waitForFunction(() => document.querySelectorAll('#matrix .matrix-left .tick').length === 6);
    });

    test.each(['light', 'dark'] as const)('axe finds nothing in any view, %s', async (colorScheme) => {
      await page.emulateMedia({ colorScheme });
      for (const name of ['model', 'matrix', 'heads', 'text', 'compare']) {
        await view(name);
        if (name === 'compare') await page.locator('[data-pane=b] .matrix-body').click();
        else if (name !== 'model') {
          await page
            .locator(name === 'matrix' ? '#matrix .matrix-body' : name === 'heads' ? '.queries .token' : '.word')
            .nth(name === 'matrix' ? 0 : 2)
            .click();
        }
        expect([name, ...(await at.violations())]).toEqual([name]);
        if (name !== 'model') await page.keyboard.press('Escape');
      }
    });

    test.each([
      [320, 1],
      [420, 1],
      [640, 2],
    ])('nothing reaches beyond a window of %i pixels, enlarged %i times', async (width, enlarged) => {
      await page.setViewportSize({ width, height: Math.round(800 / enlarged) });
      for (const name of ['model', 'heads', 'matrix', 'text', 'compare']) {
        await view(name);
        await page.waitForFunction(
          (wanted) => document.querySelector('.app')?.getAttribute('data-view') === wanted,
          name,
        );
        // The head that is shown comes a moment later.
        if (name === 'compare') await page.locator('[data-pane=difference] .matrix-body').waitFor();
        expect([name, await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)]).toEqual([name, 0]);
      }
      await page.locator('#export summary').click();
      const menu = (await page.locator('.menu-items').boundingBox()) ?? { x: -1, width: 9999 };
      expect(menu.x).toBeGreaterThanOrEqual(0);
      expect(menu.x + menu.width).toBeLessThanOrEqual(width);
      await page.keyboard.press('Escape');
      expect(await page.locator('.menu-items').isVisible()).toBe(false);
      expect(await page.evaluate(() => document.activeElement?.tagName)).toBe('SUMMARY');
    });

    test('numbers of sixteen bits are said to be off by what they are, not by nothing', async () => {
      const exact = long('layers.0.attn', 8, 160);
      await openExamples('log16', [{ attentions: [exact] }], 'view=matrix', { maxSize: 700_000 });
      expect(await page.locator('#precision').textContent()).toMatch(/at most 0\.03 % off/);
      await pointAt(70, 20, 160, 160);
      const [, shown, off] =
        /^≈ ([\d.e-]+) ± ([\d.]+) %/.exec((await page.locator('.tooltip-weight').textContent()) ?? '') ?? [];
      const weight = (exact.weights as unknown as { data: Float32Array }).data[70 * 160 + 20] as number;
      expect(off).toBe('0.03');
      expect(Math.abs(Number(shown) / weight - 1)).toBeLessThan(0.0053);
      expect(await page.locator('.row-summary').textContent()).toMatch(/≈: at most 0\.03 % off/);
    });

    test('where motion is to be reduced nothing moves', async () => {
      const moving = () =>
        page.evaluate(
          () =>
            [...document.querySelectorAll('*')].filter((node) => {
              const { transitionDuration, animationName } = getComputedStyle(node);
              return transitionDuration !== '0s' || animationName !== 'none';
            }).length,
        );
      expect(await moving()).toBeGreaterThan(0);
      await page.emulateMedia({ reducedMotion: 'reduce' });
      expect(await moving()).toBe(0);
    });

    test('on paper a dark page is light, pictures too, and dark again afterwards', async () => {
      await tile(0, 0).click();
      const corner = () =>
        page.locator('#matrix .matrix-body canvas').evaluate((canvas: HTMLCanvasElement) => {
          const { data } = canvas.getContext('2d')?.getImageData(3, 3, 1, 1) ?? { data: [0, 0, 0] };
          return (data[0] as number) + (data[1] as number) + (data[2] as number);
        });
      const light = await corner();
      await page.emulateMedia({ colorScheme: 'dark' });
      await page.waitForTimeout(200);
      const dark = await corner();
      expect(dark).not.toBe(light);
      const printed = await page.evaluate(async () => {
        dispatchEvent(new Event('beforeprint'));
        await new Promise((resolve) => setTimeout(resolve, 100));
        return getComputedStyle(document.body).backgroundColor;
      });
      expect(printed).toBe('rgb(255, 255, 255)');
      expect(await corner()).toBe(light);
      await page.evaluate(() => dispatchEvent(new Event('afterprint')));
      await page.waitForTimeout(200);
      expect(await corner()).toBe(dark);
      expect((await page.pdf()).length).toBeGreaterThan(5000);
    });

    test('paper has no buttons, but what they say', async () => {
      await view('heads');
      await page.locator('.chip', { hasText: '1' }).click();
      await page.emulateMedia({ media: 'print' });
      for (const gone of ['#views', '#export', '#scale', '#layer', '#threshold', '.chip[aria-pressed=false]'])
        expect([gone, await page.locator(gone).first().isVisible()]).toEqual([gone, false]);
      expect(await page.locator('.chip:visible').allTextContents()).toEqual(['0', '1']);
      for (const there of ['h1', '#detail-title', '.legend', '.lines-count', '#precision'])
        expect([there, await page.locator(there).isVisible()]).toEqual([there, true]);
    });

    test('a text is printed from dark as it is from light', async () => {
      await view('text');
      await page.locator('.word').nth(2).click();
      const printed = () =>
        page.evaluate(() => {
          dispatchEvent(new Event('beforeprint'));
          const words = [...document.querySelectorAll<HTMLElement>('.word')];
          const colours = words.map(({ style }) => `${style.color} on ${style.backgroundColor}`);
          dispatchEvent(new Event('afterprint'));
          return colours;
        });
      const light = await printed();
      expect(new Set(light).size).toBeGreaterThan(3);
      await page.emulateMedia({ colorScheme: 'dark' });
      expect(await printed()).toEqual(light);
      expect(await page.locator('.word').nth(2).getAttribute('style')).not.toMatch(/rgb/);
    });

    test('forced colours keep what is chosen, and a page in a frame works', async () => {
      await page.emulateMedia({ forcedColors: 'active' });
      expect(await tile(0, 0).evaluate((node) => getComputedStyle(node).outlineStyle)).toBe('solid');
      const html = readFileSync(file, 'utf8');
      await page.setContent('<iframe style="width: 1000px; height: 700px"></iframe>');
      await page.locator('iframe').evaluate((frame: HTMLIFrameElement, text) => {
        frame.srcdoc = text;
      }, html);
      const frame = page.frameLocator('iframe');
      await frame.locator('.tile').nth(1).click();
      await frame.locator('#matrix .matrix-body').hover();
      expect(await frame.locator('.tooltip-weight').textContent()).toMatch(/^0\.\d{4}$/);
    });
  });

  test('a title is text, whatever is in it', async () => {
    const html = await pageOf([first], '<img src=x onerror=alert(1)> & more');
    expect(html).toContain('<title>&lt;img src=x onerror=alert(1)&gt; &amp; more</title>');
    // One closing tag for each script element: data, blocks of two layers, code.
    expect(html.match(/<\/script/gi)).toHaveLength(4);
  });
});
