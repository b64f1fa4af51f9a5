import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import { type Attention, ExportedProgram, ScriptModule, setNumThreads, Tensor, type Unseen } from '../../lib/index';
import { bits, difference, path } from './model-fixtures';

// Every way of writing attention that Python made, against the weights that Python multiplied with the values
// (scripts/make_form_fixtures.py).
const FORMS = join(__dirname, '..', 'fixtures', 'forms');

interface Form {
  name: string;
  attentions: Pick<Attention, 'name' | 'operator' | 'kind' | 'shape'>[];
  unseen: number;
  decomposed: boolean;
}

const forms = JSON.parse(readFileSync(join(FORMS, 'forms.json'), 'utf8')) as Form[];
const tensors = new Map<string, { shape: readonly number[]; data: Float32Array }>();

beforeAll(async () => {
  setNumThreads(1);
  const { entries } = await readSafetensors(join(FORMS, 'forms.safetensors'));
  for (const { name, shape, data } of entries) tensors.set(name, { shape, data: data as Float32Array });
});

function tensor(name: string): Tensor {
  const entry = tensors.get(name);
  if (!entry) throw new Error(`no tensor ${name}`);
  return Tensor.from(entry.data, { shape: entry.shape });
}

const described = ({ name, operator, kind, shape }: Form['attentions'][number]) => ({ name, operator, kind, shape });

test.each(forms.map((form) => [form.name, form] as const))(
  '%s: its weights, or why there are none',
  async (_, form) => {
    const model = await ScriptModule.load(join(FORMS, `${form.name}.pt`));
    const inputs = [tensor('input')] as const;
    const plain = await model.forward([...inputs]);
    if (form.attentions.length === 0) {
      const error = (await model.captureAttention([...inputs]).catch((reason: unknown) => reason)) as {
        code: string;
        message: string;
        unseen: Unseen[];
      };
      expect(error).toMatchObject({ code: 'ERR_NO_ATTENTION' });
      expect(error.unseen.map(({ reason }) => reason)).toHaveLength(form.unseen);
      for (const { name, reason, shape } of error.unseen) {
        expect(name).toBe('attention');
        expect(shape.length).toBeGreaterThan(0);
        expect(error.message).toContain(reason);
      }
      return;
    }
    const { output, attentions, unseen } = await model.captureAttention([...inputs]);
    expect(bits(output)).toEqual(bits(plain));
    expect(attentions.map(described)).toEqual(form.attentions);
    expect(unseen).toHaveLength(form.unseen);
    for (const [i, { weights, heads, queries }] of attentions.entries()) {
      const expected = tensor(`${form.name}.weights.${i}`);
      expect(weights.shape).toEqual(expected.shape);
      expect([heads.length, queries.length]).toEqual(expected.shape.slice(1, 3));
      expect(difference(weights, expected)).toBeLessThanOrEqual(1e-5);
    }
    const sites = await model.attentionSites([...inputs]);
    expect(sites.map(described)).toEqual(form.attentions);
    expect(sites.unseen).toEqual(unseen);
  },
);

test.each(forms.filter(({ decomposed }) => decomposed).map((form) => [form.name, form] as const))(
  '%s, exported and decomposed: the same',
  async (_, form) => {
    const model = await ExportedProgram.load(join(FORMS, `${form.name}.decomposed.pt2`));
    const plain = await model.forward([tensor('input')]);
    const { output, attentions, unseen } = await model.captureAttention([tensor('input')]).catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'ERR_NO_ATTENTION' });
      return { output: plain, attentions: [], unseen: (error as { unseen: Unseen[] }).unseen };
    });
    expect(bits(output)).toEqual(bits(plain));
    const told = ({ name, kind, shape }: Pick<Attention, 'name' | 'kind' | 'shape'>) => ({ name, kind, shape });
    expect(attentions.map(told)).toEqual(form.attentions.map(told));
    expect(unseen.map(({ reason }) => reason)).toHaveLength(form.unseen);
    for (const [i, { weights }] of attentions.entries()) {
      expect(difference(weights, tensor(`${form.name}.weights.${i}`))).toBeLessThanOrEqual(1e-5);
    }
  },
);

test('streams and captures of many inputs tell what could not be recorded, too', async () => {
  const model = await ScriptModule.load(join(FORMS, 'Nystrom.pt'));
  const inputs = [tensor('input')] as const;
  const { unseen } = await model.captureAttention([...inputs]);
  expect(unseen).toHaveLength(1);
  const stream = model.captureAttentionStream([...inputs]);
  let count = 0;
  for await (const { weights } of stream) {
    weights.dispose();
    count++;
  }
  expect(count).toBe(2);
  expect(await stream.unseen).toEqual(unseen);
  for await (const result of model.captureMany([[...inputs], [...inputs]])) {
    expect('unseen' in result && result.unseen).toEqual(unseen);
  }
});

test('heads, queries, averages and the largest weights are selected of windows and of parts as of any attention', async () => {
  for (const name of ['Windows', 'HeadsInParts', 'KeysInParts', 'SdpaWindows']) {
    const model = await ScriptModule.load(join(FORMS, `${name}.pt`));
    const inputs = [tensor('input')];
    const whole = tensor(`${name}.weights.0`);
    const [{ weights: some } = { weights: whole }] = (
      await model.captureAttention(inputs, { heads: [1], queries: [2, 0] })
    ).attentions;
    const rows = [2, 0].map((query) => whole.narrow(1, 1, 1).narrow(2, query, 1));
    for (const [i, row] of rows.entries()) expect(difference(some.narrow(2, i, 1), row)).toBeLessThanOrEqual(1e-5);
    const [{ weights: mean } = { weights: whole }] = (await model.captureAttention(inputs, { averageHeads: true }))
      .attentions;
    expect(difference(mean, whole.mean(1))).toBeLessThanOrEqual(1e-5);
    const [top] = (await model.captureAttention(inputs, { topK: 2 })).attentions;
    expect(top?.weights.shape).toEqual([...whole.shape.slice(0, -1), 2]);
  }
});

test.each([
  ['ConvolvedHeads', true],
  ['PooledGlobally', true],
  ['SoftmaxOverHeads', true],
  ['UnfoldedWindows', true],
  ['IndexedWindows', true],
  ['WindowsWithoutSoftmax', false],
  ['FoldedGroups', true],
  ['ComplexRotation', true],
  ['ChunksAheadOfBatch', true],
  ['ChunksStacked', true],
  ['HeadsOfValues', true],
  ['PairsOfHeads', true],
  ['GlimpsesOfPairs', true],
  ['HeadsAheadOfBatchWithoutLayers', false],
  ['HeadsAheadOfBatchInParts', false],
  ['BlocksWithoutLayers', false],
])('%s: whether its heads are known: %p', async (name, known) => {
  const model = await ScriptModule.load(join(FORMS, `${name}.pt`));
  const sites = await model.attentionSites([tensor('input')]);
  expect(sites.map(({ headsKnown }) => headsKnown)).toEqual([known]);
});

test('gradients by weights that were copied for each head are those by the weights of all', async () => {
  const gradientOf = (output: unknown) => (output as Tensor).mul(output as Tensor).sum();
  const gradients: Tensor[] = [];
  for (const model of [
    await ScriptModule.load(join(FORMS, 'MeanOverHeads.pt')),
    await ExportedProgram.load(join(FORMS, 'MeanOverHeads.decomposed.pt2')),
  ]) {
    const { attentions } = await model.captureAttention([tensor('input')], { gradientOf });
    expect(attentions).toHaveLength(1);
    expect(attentions[0]?.gradient?.shape).toEqual(tensor('MeanOverHeads.weights.0').shape);
    gradients.push(attentions[0]?.gradient as Tensor);
  }
  expect(difference(gradients[1] as Tensor, gradients[0] as Tensor)).toBeLessThanOrEqual(1e-5);
});

test('gradients by weights that are taken in parts, scaled or multiplied and summed are those of the parts', async () => {
  const gradientsOf = async (name: string): Promise<Tensor> => {
    const model = await ScriptModule.load(join(FORMS, `${name}.pt`));
    const { attentions } = await model.captureAttention([tensor('input')], {
      gradientOf: (output) => (output as Tensor).mul(output as Tensor).sum(),
    });
    expect(attentions).toHaveLength(1);
    expect(attentions[0]?.gradient?.shape).toEqual(attentions[0]?.weights.shape);
    return attentions[0]?.gradient as Tensor;
  };
  for (const name of ['KeysInParts', 'HeadsInParts', 'SamplesInParts', 'MultipliedAndSummed', 'Renormalized']) {
    const gradient = await gradientsOf(name);
    expect(Math.abs(Number(gradient.mul(gradient).sum().item()))).toBeGreaterThan(0);
  }
});

test('weights that are multiplied in parts have no scores; those of one softmax have', async () => {
  for (const [name, has] of [
    ['KeysInParts', false],
    ['HeadsInParts', false],
    ['TwoSteps', false],
    ['TwoValues', true],
  ] as const) {
    const model = await ScriptModule.load(join(FORMS, `${name}.pt`));
    const { attentions } = await model.captureAttention([tensor('input')], { scores: true, logSumExp: true });
    expect(attentions).toHaveLength(1);
    for (const { scores, logSumExp } of attentions) {
      expect([scores !== undefined, logSumExp !== undefined]).toEqual([has, has]);
    }
  }
});

test('a padded batch in which every sequence is shorter than the input: zeros up to its length', async () => {
  const model = await ScriptModule.load(path('encoder_nested.pt'));
  const [batch, length, width] = [3, 9, 16];
  const source = Tensor.from(
    Float32Array.from({ length: batch * length * width }, (_, i) => Math.sin(i)),
    { shape: [batch, length, width] },
  );
  const lengths = [7, 5, 3];
  const padding = Tensor.from(
    Uint8Array.from({ length: batch * length }, (_, i) => Number(i % length >= (lengths[Math.floor(i / length)] ?? 0))),
    { shape: [batch, length], dtype: 'bool' },
  );
  const { attentions } = await model.captureAttention([source, null, padding, null]);
  for (const { weights, shape } of attentions) {
    expect([shape, weights.shape]).toEqual([
      [batch, 2, length, length],
      [batch, 2, length, length],
    ]);
    lengths.forEach((own, i) => {
      const one = weights.select(0, i);
      expect(
        one
          .narrow(2, own, length - own)
          .sum()
          .item(),
      ).toBe(0);
      expect(
        one
          .narrow(1, own, length - own)
          .sum()
          .item(),
      ).toBe(0);
      expect(one.sum().item() as number).toBeCloseTo(2 * own, 4);
    });
  }
});
