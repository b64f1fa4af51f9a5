/// <reference lib="dom" />
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { encodePng } from '../../lib/view/png';
import { attention, describeInBrowser, type Example, long, PageWindow, weightOf } from './page-window';

const HOSTILE = '</text><script>window.hacked = true</script>&"';
const PIXEL = encodePng(new Uint32Array([0xff0000ff]), 1, 1).toString('base64');
const example: Example = {
  title: `a ${HOSTILE}`,
  tokens: ['[CLS]', HOSTILE, '\u202eabc\u0007', 'sat', '.', '[SEP]'],
  attentions: [
    attention('encoder.layers.0.self_attn', 1, 3, 6, 6),
    attention('encoder.layers.1.self_attn', 2, 3, 6, 6),
  ],
};

describe('the page of renderView: figures', () => {
  describeInBrowser('what is exported', () => {
    const at = new PageWindow();
    let page: Page;
    beforeEach(async () => {
      page = at.page;
      await at.openExamples('export', [example, { ...example, title: 'other' }]);
    });

    async function save(what: string): Promise<{ name: string; path: string }> {
      const [download] = await Promise.all([page.waitForEvent('download'), page.locator(what).click()]);
      const path = join(at.folder, download.suggestedFilename());
      await download.saveAs(path);
      return { name: download.suggestedFilename(), path };
    }

    async function exported(what: string): Promise<{ name: string; path: string }> {
      await page.locator('#export summary').click();
      return await save(`#export ${what}`);
    }

    /** An SVG as a browser reads it, strictly. */
    async function svg(): Promise<{ name: string; texts: string[]; count: (selector: string) => Promise<number> }> {
      const { name, path } = await exported('[data-format=svg]');
      const source = readFileSync(path, 'utf8');
      const parsed = await page.evaluate((text) => {
        const document = new DOMParser().parseFromString(text, 'image/svg+xml');
        const error = document.querySelector('parsererror')?.textContent ?? '';
        return { error, texts: Array.from(document.querySelectorAll('text'), (node) => node.textContent ?? '') };
      }, source);
      expect(parsed.error).toBe('');
      expect(source).not.toMatch(/<script|http:\/\/(?!www\.w3\.org\/2000\/svg)/);
      const count = (selector: string) =>
        page.evaluate(
          ([text, query]) =>
            new DOMParser().parseFromString(text as string, 'image/svg+xml').querySelectorAll(query as string).length,
          [source, selector],
        );
      return { name, texts: parsed.texts, count };
    }

    test('a head: each cell a rectangle in its colour, tokens as text, a caption of layer, head, kind and scale', async () => {
      await page.locator('.tile[data-attention="1"][data-head="2"]').click();
      const { name, texts, count } = await svg();
      expect(name).toBe('matrix-layer-1-head-2.svg');
      expect(await count('g[shape-rendering] > rect')).toBe(36);
      expect(texts).toContain('[SEP]');
      expect(texts).toContain('⟨RLO⟩abc�');
      expect(texts.join(' ')).toMatch(/layer 1, head 2 · self-attention · one logarithmic scale from 0\.0005 to/);
      expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
    });

    test('what is enlarged is what is drawn', async () => {
      await at.view('matrix');
      await page.locator('#matrix .matrix-body').focus();
      for (let i = 0; i < 8; i++) await page.keyboard.press('+');
      await page.waitForTimeout(200);
      const { count } = await svg();
      const cells = await count('g[shape-rendering] > rect');
      expect(cells).toBeGreaterThan(0);
      expect(cells).toBeLessThan(36);
    });

    test('lines, heads, a comparison', async () => {
      await at.view('heads');
      await page.locator('.chip[aria-label="head 2"]').click();
      await page.waitForFunction(() => document.querySelector('.lines-count')?.textContent?.includes('of 72'));
      const lines = await svg();
      expect(await lines.count('path[stroke-opacity]')).toBe(
        Number(/\((\d+) of/.exec((await page.locator('.lines-count').textContent()) ?? '')?.[1]),
      );
      expect(lines.texts).toEqual(expect.arrayContaining(['queries', 'keys', 'head 0', 'head 2']));
      await at.view('model');
      expect(await (await svg()).count('image')).toBe(6);
      await at.view('compare');
      await page.locator('[data-pane=difference] .matrix-body').waitFor();
      const compared = await svg();
      expect(await compared.count('g[shape-rendering] > rect')).toBe(3 * 36);
      expect(compared.texts).toContain('A − B');
    });

    test('running text: each word on the colour of its weight, the asked one framed', async () => {
      await at.view('text');
      await page.locator('.word').nth(2).click();
      const { name, texts, count } = await svg();
      expect(name).toBe('text-layer-0-head-0.svg');
      expect(await count('rect[rx="3"]')).toBe(6);
      expect(await count('rect[rx="3"][stroke]')).toBe(1);
      expect(texts).toEqual(expect.arrayContaining(['[CLS]', 'sat', '[SEP]']));
      expect(texts[0]).toMatch(/⟨RLO⟩abc.* at 2 attends to/);
      expect(texts.join(' ')).toMatch(/layer 0, head 0 · self-attention · one logarithmic scale/);
      expect(await page.evaluate(() => 'hacked' in window)).toBe(false);
    });

    test('a picture of patches: as bright as its weight, the asked patch framed', async () => {
      const patched: Example = {
        title: 'patches',
        image: { url: `data:image/png;base64,${PIXEL}`, size: { width: 1, height: 1 }, patches: [3, 4], prefix: 1 },
        attentions: [attention('vit.layers.0.attn', 1, 2, 13, 13)],
      };
      await at.openExamples('patches', [patched], 'view=image&locked=7');
      await page.waitForFunction(() => (document.querySelector('.image-box img') as HTMLImageElement)?.complete);
      const { name, texts, count } = await svg();
      expect(name).toBe('image-layer-0-head-0.svg');
      expect(await count('image')).toBe(1);
      expect(await count('g[shape-rendering] > rect[fill-opacity]')).toBe(12);
      expect(texts).toContain('patch 1,2 attends to');
      expect(texts).toContain(`token #0 ${weightOf(patched, 0, 0, 7, 0).toFixed(4)}`);
    });

    test('PNG at one to four pixels a unit', async () => {
      await at.view('matrix');
      const size = (path: string) => {
        const bytes = readFileSync(path);
        return [bytes.readUInt32BE(16), bytes.readUInt32BE(20)] as [number, number];
      };
      const [one, three] = [
        size((await exported('[data-scale="1"]')).path),
        size((await exported('[data-scale="3"]')).path),
      ];
      expect(one[0]).toBeGreaterThan(250);
      expect(three).toEqual(one.map((side) => 3 * side));
    });

    test('above 64 rows a picture, of the codes that are shown', async () => {
      await at.openExamples(
        'picture',
        [{ title: 'long', attentions: [long('layers.0.self_attn', 1, 100)] }],
        'view=matrix',
      );
      const { texts, count } = await svg();
      expect(await count('image')).toBe(1);
      expect(await count('g[shape-rendering] > rect')).toBe(0);
      expect(texts).toContain('99');
    });

    test('a row as CSV, exact and with its tokens', async () => {
      await at.view('matrix');
      const point = await at.pointAt(3, 1, 6, 6);
      await page.mouse.click(point.x, point.y);
      const { path } = await save('.csv');
      const [header, ...lines] = readFileSync(path, 'utf8').trim().split('\n');
      expect(header).toBe('position,token,weight,relative_error');
      expect(lines).toHaveLength(6);
      expect(lines[1]).toContain('"</text><script>window.hacked = true</script>&"""');
      for (const [column, line] of lines.entries())
        expect(Number(line.split(',').at(-2))).toBe(weightOf(example, 0, 0, 3, column));
    });
  });
});
