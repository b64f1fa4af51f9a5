import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeFigure } from '../../lib/cli/view-figure';
import { imageInfo } from '../../lib/view/image-size';
import { FONT } from '../../lib/view/page/figure/svg';
import { encodePng } from '../../lib/view/png';
import type { PrepareExample } from '../../lib/view/prepare';
import { renderPng } from '../../lib/view/render-figure';
import { readImage } from '../../lib/view/render-view';
import { attention, type Example, weightOf } from './page-window';

const HOSTILE = ['[CLS]', '</text><script>x</script>', '\u202eabc', '\u200b', 'y'.repeat(10_000), 'a\u0007&"'];
const example: Example = { title: '<b>', tokens: HOSTILE, attentions: [attention('layers.0.attn', 1, 2, 6, 6)] };
const options = { layer: 0, head: 1, threshold: 0.05, scale: 'log', pixelRatio: 1, figure: 'matrix' } as const;

describe('libtorch-attention view --svg', () => {
  const folder = mkdtempSync(join(tmpdir(), 'figure-'));
  const svg = join(folder, 'f.svg');
  afterAll(() => rmSync(folder, { recursive: true }));

  async function draw(own: Partial<Parameters<typeof writeFigure>[1]>, of: PrepareExample = example): Promise<string> {
    await writeFigure(of, { ...options, svg, ...own });
    return readFileSync(svg, 'utf8');
  }

  test.each([
    ['matrix', {}],
    ['heads', { figure: 'heads', query: 2 }],
    ['text', { figure: 'text', query: 2 }],
    ['text, by key', { figure: 'text', key: 4, mergeWords: true }],
  ] as const)('tokens stay text and readable, whatever is in them: %s', async (_, own) => {
    const source = await draw(own);
    expect(source).not.toMatch(/<script|\u202e|\u200b|[^\P{Cc}\n]/u);
    expect(source).toContain('&lt;/text&gt;');
    expect(source).toContain('⟨RLO⟩abc');
    expect(source).not.toContain('y'.repeat(100));
    expect(source).toContain('layers.0.attn, head 1 · softmax · &lt;b&gt;');
  });

  test('the logarithmic scale ends with the largest weight of the heads, the linear one with 1', async () => {
    const { data } = (example.attentions as { weights: { data: Float32Array } }[])[0]?.weights ?? { data: [] };
    const words = (source: string) => source.replace(/<[^>]+>/g, ' ').replace(/\s+/g, ' ');
    const source = words(await draw({ scale: 'log' }));
    const [, least, largest] = /one logarithmic scale from ([\d.e-]+) to ([\d.]+)/.exec(source) ?? [];
    expect(Number(largest)).toBeCloseTo(Math.max(...data), 2);
    expect(Number(least)).toBe(0.0005);
    expect(words(await draw({ scale: 'linear' }))).toMatch(/linear scale from 0 to 1/);
  });

  test('a PNG has letters without serifs, where the system has such', async () => {
    const { Resvg } = await import('@resvg/resvg-js');
    const svg = (family: string) =>
      `<svg xmlns="http://www.w3.org/2000/svg" width="200" height="40" font-family="${family}"><text x="9" y="30">ill</text></svg>`;
    const font = { loadSystemFonts: true };
    const widthIn = (family: string) => new Resvg(svg(family), { font }).getBBox()?.width;
    const families = ['Noto Sans', 'DejaVu Sans', 'Segoe UI', 'Helvetica', 'Arial', 'Liberation Sans'];
    const there = families.find((family) => widthIn(family) !== widthIn('no such family'));
    if (there === undefined) return;
    expect(await renderPng(svg(FONT), 1)).toEqual(await renderPng(svg(there), 1));
  });

  test('lines for the weights that reach the threshold', async () => {
    const all = Array.from({ length: 36 }, (_, i) => weightOf(example, 0, 1, Math.floor(i / 6), i % 6));
    const source = await draw({ figure: 'heads', threshold: 0.2 });
    expect(source.match(/stroke-opacity/g)).toHaveLength(all.filter((weight) => weight >= 0.2).length);
    expect(source).toContain('lines for weights of 0.2 and more');
  });

  test('text in the colours of who is asked', async () => {
    const plain = { ...example, tokens: ['a', 'b', 'c', 'd', 'e', 'f'] };
    const asked = await draw({ figure: 'text', query: 3 }, plain);
    expect(asked).toMatch(/“d” at 3 attends to/);
    const colours = [...asked.matchAll(/rx="3" fill="([^"]+)"/g)].map(([, colour]) => colour);
    expect(colours).toHaveLength(6);
    // Like weights have like colours, and no others.
    const weights = plain.tokens.map((_, column) => weightOf(plain, 0, 1, 3, column));
    expect(new Set(colours).size).toBe(new Set(weights).size);
    expect(await draw({ figure: 'text', key: 3 }, plain)).toMatch(/“d” at 3 is attended to by/);
  });

  describe('padding', () => {
    const padded = { ...example, tokens: ['[CLS]', 'a', 'b', '[SEP]', '[PAD]', '[PAD]'] };

    test.each([
      ['matrix', {}],
      ['heads', { figure: 'heads', query: 2 }],
      ['text', { figure: 'text', query: 2 }],
    ] as const)('is drawn only where it is asked for: %s', async (_, own) => {
      expect(await draw(own, padded)).not.toContain('[PAD]');
      expect(await draw({ ...own, padding: true }, padded)).toContain('[PAD]');
    });

    test('is told by the mask too', async () => {
      const masked = attention('layers.0.attn', 1, 2, 6, 6);
      masked.weights.data.forEach((_, i, data) => {
        if (i % 6 > 3) data[i] = 0;
      });
      const source = await draw({}, { title: 'm', attentions: [masked] });
      const [, cells] = /<g shape-rendering="crispEdges">(.*?)<\/g>/.exec(source) ?? [];
      expect(cells?.match(/<rect/g)).toHaveLength(16);
    });

    test('is shown to who asks for a position of it', async () => {
      expect(await draw({ figure: 'text', query: 4 }, padded)).toContain('“[PAD]” at 4 attends to');
      expect(await draw({ figure: 'text', key: 5 }, padded)).toContain('“[PAD]” at 5 is attended to by');
    });
  });

  describe('of a picture', () => {
    const path = join(folder, 'p.dat');
    const patched = async (): Promise<PrepareExample> => ({
      title: 'cat',
      image: await readImage({ path, patches: [3, 4], prefix: 1 }, 'it'),
      attentions: [attention('vit.0', 1, 2, 13, 13)],
    });
    beforeAll(() => writeFileSync(path, encodePng(new Uint32Array(80 * 40).fill(0xff336699), 80, 40)));

    test('each patch as dark as its weight is small, the asked one framed, the tokens before with their weights', async () => {
      const of = await patched();
      const source = await draw({ figure: 'image', query: 7 }, of);
      expect(source).toContain('patch 1,2 attends to');
      expect(source).toContain(
        `token #0 ${weightOf({ ...example, attentions: [attention('', 1, 2, 13, 13)] }, 0, 1, 7, 0).toFixed(4)}`,
      );
      const shades = [...source.matchAll(/fill-opacity="([\d.]+)"/g)].map(([, value]) => Number(value));
      expect(shades).toHaveLength(12);
      expect(source).toMatch(/<image[^>]* width="460" height="230"/);
      expect(await draw({ figure: 'image', key: 7 }, of)).toContain('patch 1,2 is attended to by');
    });

    test('positions that are no patches, and a picture that is none, are refused', async () => {
      const wrong = { ...(await patched()), attentions: [attention('vit.0', 1, 2, 6, 6)] };
      await expect(draw({ figure: 'image', query: 1 }, wrong)).rejects.toThrow(
        /patches are the 6 keys but received 3 × 4/,
      );
      await expect(draw({ figure: 'image', query: 1 })).rejects.toThrow(/Expected --image/);
      const text = join(folder, 'p.png');
      writeFileSync(text, 'no picture');
      await expect(readImage({ path: text, patches: [1, 1], prefix: 0 }, 'it')).rejects.toThrow(
        /Expected the path of a PNG, JPEG, WebP or GIF file for image.path of it/,
      );
    });
  });

  test.each([
    [{ figure: 'text' }, /Expected --query or --key with --figure text/],
    [{ figure: 'image' }, /Expected --query or --key with --figure image/],
    [{ query: 1, key: 1 }, /Expected either --query or --key but received both/],
    [{ figure: 'text', query: 6 }, /Expected a query from 0 to 5 for --query but received 6/],
    [{ figure: 'heads', key: 6 }, /Expected a key from 0 to 5 for --key but received 6/],
  ] as const)('what says nothing is refused: %j', async (own, message) => {
    await expect(draw(own)).rejects.toThrow(message);
  });
});

describe('imageInfo', () => {
  const of = (hex: string) => imageInfo(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

  test('tells type and size by the header', () => {
    expect(imageInfo(encodePng(new Uint32Array(6), 3, 2))).toEqual({ type: 'image/png', width: 3, height: 2 });
    expect(of('474946383961 0300 0200 00')).toEqual({ type: 'image/gif', width: 3, height: 2 });
    // An application segment, then fill bytes, a table, and the frame.
    expect(of('ffd8 ffe0 0004 0000 ff ffc4 0003 00 ffc2 0011 08 0002 0003')).toEqual({
      type: 'image/jpeg',
      width: 3,
      height: 2,
    });
    const riff = '52494646 00000000 57454250';
    expect(of(`${riff} 56503858 0a000000 00000000 020000 010000`)).toMatchObject({ width: 3, height: 2 });
    expect(of(`${riff} 5650384c 00000000 2f 02400000`)).toMatchObject({ width: 3, height: 2 });
    expect(of(`${riff} 56503820 00000000 000000 9d012a 0300 0200`)).toMatchObject({ width: 3, height: 2 });
  });

  test.each(['', '89504e470d0a1a0a', 'ffd8ff', 'ffd8 ffe0 ffff', 'ffd8 0000', '474946383961 0000 0200', '3c737667'])(
    'of what is none or ends too early it tells nothing: %s',
    (hex) => expect(of(hex)).toBeUndefined(),
  );
});
