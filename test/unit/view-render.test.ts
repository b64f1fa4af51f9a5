import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inflateRawSync } from 'node:zlib';
import {
  type Attention,
  attentionRelevance,
  attentionRollout,
  renderView,
  ScriptModule,
  Tensor,
  writeAttentionView,
} from '../../lib';
import { encodePng } from '../../lib/view/png';
import type { ViewData } from '../../lib/view/view-data';

const folder = mkdtempSync(join(tmpdir(), 'render-'));
const ids = [2, 4, 5, 6, 3];
const tokens = ['[CLS]', 'the', 'cat', 'sat', '[SEP]'];
let model: ScriptModule;

beforeAll(async () => {
  model = await ScriptModule.load(join(__dirname, '../fixtures/cli/text.pt'));
});
afterAll(() => {
  model.dispose();
  rmSync(folder, { recursive: true });
});

const inputs = () => [Tensor.from([ids], { dtype: 'int64' })];

function dataOf(html: string): ViewData & { title: string } {
  const [, json] = /<script type="application\/json" id="view-data">(.*?)<\/script>/s.exec(html) ?? [];
  return JSON.parse(json ?? '') as ViewData & { title: string };
}

/** Weights of a small page, which has them as they are: one matrix. */
function weightsOf(html: string, attention: number, head: number): Float32Array {
  const data = dataOf(html);
  const [example] = data.examples as [ViewData['examples'][0]];
  const { store, blocks } = example.attentions[attention] as (typeof example.attentions)[0];
  expect(data.encoding).toBe('float32');
  const [, text] = new RegExp(`id="store-${store}">(.*?)</script>`, 's').exec(html) ?? [];
  const planes = inflateRawSync(Buffer.from((text ?? '').split('\n')[blocks.full[head] as number] ?? '', 'base64'));
  const bytes = new Uint8Array(planes.length);
  const count = planes.length / 4;
  for (let i = 0; i < planes.length; i++) bytes[(i % count) * 4 + Math.floor(i / count)] = planes[i] as number;
  return new Float32Array(bytes.buffer);
}

function closeTo(found: Float32Array, wanted: Tensor): void {
  const values = wanted.toTypedArray() as Float32Array;
  expect(found).toHaveLength(values.length);
  for (const [i, value] of values.entries()) expect(found[i]).toBeCloseTo(value, 5);
}

describe('writeAttentionView', () => {
  test('a path that cannot be written is an error with a code', async () => {
    const { attentions } = await model.captureAttention(inputs());
    await expect(writeAttentionView(join(folder, 'none', 'page.html'), [{ attentions }])).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/^Expected a path that can be written but received '.*page\.html': ENOENT/),
    });
  });

  test('a stream is disposed as it goes, and selections are drawn for what they are', async () => {
    const held: Tensor[] = [];
    async function* watched() {
      for await (const attention of model.captureAttentionStream(inputs(), { heads: [1], queries: [3, 4] })) {
        held.push(attention.weights);
        yield attention;
      }
    }
    const path = join(folder, 'page.html');
    await writeAttentionView(path, [{ attentions: watched(), tokens }]);
    const { examples, title } = dataOf(readFileSync(path, 'utf8'));
    expect(title).toBe('Attention');
    expect(examples[0]).toMatchObject({ title: 'Example 1' });
    expect(examples[0]?.attentions[1]).toMatchObject({
      heads: [1],
      rows: 2,
      columns: 5,
      queries: [3, 4],
      queryTokens: 0,
    });
    for (const tensor of held) expect(() => tensor.shape).toThrow(/disposed/);
    const top = await model.captureAttention(inputs(), { topK: 2, averageHeads: true });
    const page = dataOf(await renderView([{ attentions: top.attentions }]));
    expect(page.examples[0]?.attentions[0]).toMatchObject({ averaged: true, capturedTopK: 2, columns: 5 });
  });
});

describe('renderView', () => {
  test('a capture becomes a page with its tokens and weights', async () => {
    const { attentions } = await model.captureAttention(inputs());
    const html = await renderView([{ attentions, tokens, title: 'the cat' }], { title: 'Model <b>' });
    const { title, examples } = dataOf(html);
    expect([title, examples[0]?.title, examples[0]?.tokens]).toEqual(['Model <b>', 'the cat', [tokens]]);
    expect(examples[0]?.attentions.map(({ label, heads }) => [label, heads])).toEqual([
      ['layer 0', [0, 1, 2]],
      ['layer 1', [0, 1, 2]],
    ]);
    closeTo(weightsOf(html, 1, 2), (attentions[1] as Attention).weights.select(0, 0).select(0, 2));
    // What was given is the caller's.
    expect(attentions[0]?.weights.shape).toEqual([1, 3, 5, 5]);
  });

  test.each(['float16', 'bfloat16'] as const)(
    'of a capture in %s the page says how far off numbers are',
    async (dtype) => {
      const { attentions } = await model.captureAttention(inputs());
      const halves = attentions.map((each) => ({ ...each, weights: each.weights.to({ dtype }) }));
      const html = await renderView([{ attentions: halves, tokens }]);
      const [shown] = dataOf(html).examples[0]?.attentions ?? [];
      expect(shown?.held).toBe(dtype);
      closeTo(weightsOf(html, 0, 1), halves[0]?.weights.select(0, 0).select(0, 1).to({ dtype: 'float32' }) as Tensor);
    },
  );

  test('codes of a capture are decoded, and that is said', async () => {
    const { attentions } = await model.captureAttention(inputs());
    const coded = attentions.map((each) => ({
      ...each,
      weights: each.weights.mul(255).to({ dtype: 'uint8' }),
      decode: () => each.weights.mul(1),
    }));
    const html = await renderView([{ attentions: coded as never, tokens }]);
    expect(dataOf(html).examples[0]?.attentions[0]?.held).toBe('uint8');
    closeTo(weightsOf(html, 0, 1), (attentions[0] as Attention).weights.select(0, 0).select(0, 1));
  });

  test('rollout, gradients and relevance stand beside the layers', async () => {
    const { attentions } = await model.captureAttention(inputs(), {
      gradientOf: (output) => (output as Tensor).select(1, 0).select(1, 3).sum(),
    });
    const html = await renderView([{ attentions, tokens }], { rollout: true });
    const shown = dataOf(html).examples[0]?.attentions ?? [];
    expect(shown.map(({ label, kind, signed }) => [label, kind, signed ?? false])).toEqual([
      ['layer 0', 'encoder', false],
      ['gradient of layer 0', 'derived', true],
      ['layer 1', 'encoder', false],
      ['gradient of layer 1', 'derived', true],
      ['rollout', 'derived', false],
      ['relevance', 'derived', expect.anything()],
    ]);
    closeTo(weightsOf(html, 1, 1), ((attentions[0] as Attention).gradient as Tensor).select(0, 0).select(0, 1));
    closeTo(weightsOf(html, 4, 0), attentionRollout(attentions).select(0, 0));
    closeTo(weightsOf(html, 5, 0), attentionRelevance(attentions).select(0, 0));
  });

  test('what cannot be a page is refused, with what was expected', async () => {
    const { attentions } = await model.captureAttention(inputs());
    const refused = async (examples: unknown, options: unknown, message: RegExp, code = 'ERR_INVALID_ARGUMENT') => {
      const attempt = renderView(examples as never, options as never);
      await expect(attempt).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    };
    await refused({}, {}, /an array for examples/);
    await refused([{}], {}, /an iterable of attentions for attentions of example 0/);
    await refused(
      [{ attentions, tokens: ['a', 'b'] }],
      {},
      /a token for each position of 'Example 1', 5, but received 2/,
    );
    await refused([{ attentions, tokens: [1] }], {}, /array of strings for tokens of example 0/);
    await refused([{ attentions }], { compare: true }, /at least two examples to compare but received 1/);
    await refused([{ attentions }], { maxSize: 0 }, /maxSize/);
    await refused([{ attentions }], { maxSize: 5000 }, /beyond the \d+ bytes of the page's code but received 5000/);
    await refused([{ attentions }], { rollout: 'yes' }, /rollout/);
    await refused([{ attentions }], { size: 3 }, /size/);
    await refused([{ attentions, prompt: 0 }], {}, /at least 1 for prompt of example 0/);
    const image = { path: join(folder, 'none.png'), patches: [2, 2], prefix: 1 };
    await refused([{ attentions, image }], {}, /a picture that can be read for example 0.*none\.png/);
    writeFileSync(join(folder, 'none.png'), '<svg>');
    await refused([{ attentions, image }], {}, /PNG, JPEG, WebP or GIF file for image.path of example 0/);
    writeFileSync(join(folder, 'none.png'), encodePng(new Uint32Array(2), 2, 1));
    await refused(
      [{ attentions, image: { ...image, patches: [3, 3] } }],
      {},
      /3 × 3 patches and 1 tokens before them, 10 in all, where attentions have 5 keys/,
    );
    const page = await renderView([{ attentions, image: { ...image, path: join(folder, 'none.png') } as never }]);
    expect(dataOf(page).examples[0]?.image).toMatchObject({ size: { width: 2, height: 1 }, patches: [2, 2] });
    await expect(writeAttentionView(1 as never, [])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });
});
