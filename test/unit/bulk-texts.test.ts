import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bulk } from '../../lib/bulk';
import { ScriptModule, Tensor } from '../../lib/index';
import { TextTokenizer } from '../../lib/text/tokenizer';
import { expectEachOnce, folder, resultsOf, TOKENIZER } from './bulk-fixtures';
import { archiveOf } from './script-archive';

/** Reads a text by what another one is: cross-attention of one head, without weights of its own. */
function crossAttention(name: string, decoderMask: boolean): string {
  const path = join(folder, `${name}.pt`);
  const parameters = [
    'input_ids',
    'attention_mask',
    'decoder_input_ids',
    ...(decoderMask ? ['decoder_attention_mask'] : []),
  ];
  const rows = decoderMask ? 'torch.mul(y, torch.unsqueeze(decoder_attention_mask, 2))' : 'y';
  writeFileSync(
    path,
    archiveOf(
      `def forward(self: __torch__.M, ${parameters.map((each) => `${each}: Tensor`).join(', ')}) -> Tensor:
  f = torch.arange(1, 9)
  q = torch.sin(torch.mul(torch.unsqueeze(decoder_input_ids, 2), f))
  k = torch.sin(torch.mul(torch.unsqueeze(input_ids, 2), f))
  bias = torch.mul(torch.sub(torch.unsqueeze(attention_mask, 1), 1), 10000)
  w = torch.softmax(torch.add(torch.matmul(q, torch.transpose(k, 1, 2)), bias), -1)
  y = torch.matmul(w, k)
  return ${rows}
`,
    ),
  );
  return path;
}

const TEXTS = [
  { text: 'the cat sat', decoder_text: 'a dog' },
  { text: 'the dog', text_pair: 'on the mat', decoder_text: 'the cat sat on the mat' },
  { text: 'cat', decoder_text: 'the dog sat on the mat the cat sat' },
  { text: 'a cat' },
];

/** The first of each row, up to as many as there are of its own. */
function rowsOf({ shape, data }: { shape: number[]; data: number[] }, rows: number, columns: number): number[] {
  const width = shape.at(-1) as number;
  return Array.from(
    { length: rows * columns },
    (_, i) => data[Math.floor(i / columns) * width + (i % columns)] as number,
  );
}

// Tokens of a decoder's text and of a text, and what they are padded to, where the decoder has a mask and where it has none.
test.each([
  {
    masked: true,
    sizes: [
      [8, 8],
      [8, 8],
      [16, 8],
    ],
  },
  {
    masked: false,
    sizes: [
      [4, 8],
      [8, 8],
      [11, 8],
    ],
  },
])(
  "a decoder's texts give what they give by themselves, padded where there is a mask for them: $masked",
  async ({ masked, sizes }) => {
    const name = `decoder-${masked}`;
    const path = crossAttention(name, masked);
    const [text, out] = [join(folder, `${name}.jsonl`), join(folder, `${name}-out`)];
    writeFileSync(text, TEXTS.map((each) => `${JSON.stringify(each)}\n`).join(''));
    const source = { text, tokenizer: TOKENIZER, buckets: [8, 16], decoderStart: 2 };
    await bulk({ model: path, ...source, out, workers: 1, batchSize: 2 });
    const results = await resultsOf(out);
    expectEachOnce(results, 4);
    expect(results.failed).toEqual([
      expect.objectContaining({
        index: 3,
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(/decoder's text/),
      }),
    ]);
    const tokenizer = await TextTokenizer.load(TOKENIZER);
    const model = await ScriptModule.load(path);
    for (const [i, [padded, width]] of sizes.entries()) {
      const { text, text_pair, decoder_text } = TEXTS[i] as (typeof TEXTS)[number];
      const ids = tokenizer.encode(text, text_pair).ids;
      const decoder = [2, ...tokenizer.encode(decoder_text as string).ids.slice(0, -1)];
      expect(results.descriptions.get(i)).toMatchObject({ length: ids.length, decoderLength: decoder.length });
      const tensors = [ids, ids.map(() => 1), decoder, ...(masked ? [decoder.map(() => 1)] : [])];
      const own = await model.captureAttention(tensors.map((each) => Tensor.from([each.map(BigInt)])));
      const [weights, output] = [results.tensors.get(`${i}.attentions.0`), results.tensors.get(`${i}.output`)];
      expect([weights?.shape, output?.shape]).toEqual([
        [1, 1, padded, width],
        [1, padded, 8],
      ]);
      const pairs = [
        [weights, own.attentions[0]?.weights, ids.length],
        [output, own.output, 8],
      ] as const;
      for (const [found, expected, columns] of pairs) {
        const values = rowsOf(found as { shape: number[]; data: number[] }, decoder.length, columns);
        const wanted = Array.from((expected as Tensor).toTypedArray() as Float32Array);
        expect(values.length).toBe(wanted.length);
        expect(Math.max(...values.map((value, at) => Math.abs(value - (wanted[at] as number))))).toBeLessThan(1e-6);
      }
      // What is padding takes no weight, and makes no row.
      const rows = rowsOf(weights as { shape: number[]; data: number[] }, decoder.length, width as number);
      expect(rows.every((weight, at) => at % (width as number) < ids.length || weight === 0)).toBe(true);
      expect(output?.data.slice(decoder.length * 8).every((value) => value === 0)).toBe(true);
    }
    model.dispose();
  },
);
