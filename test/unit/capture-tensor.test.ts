import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import {
  type CapturedTensor,
  type DType,
  nn,
  ScriptModule,
  setNumThreads,
  Tensor,
  type TensorCaptureOptions,
} from '../../lib/index';
import { Data } from './hook-fixtures';
import { bits, difference, fixture, inputsOf, MODELS, manifest, numbers, path } from './model-fixtures';

beforeAll(() => setNumThreads(1));

async function loaded(name: string) {
  const each = fixture(name);
  return { model: await ScriptModule.load(path(each.file)), inputs: await inputsOf(each), method: each.method };
}

/** softmax(x) over the last dimension, in float64. */
function softmax(tensor: Tensor): Tensor {
  return tensor.to({ dtype: 'float64' }).softmax(-1);
}

/** x · weightᵀ + bias in float64, of float32 tensors. */
function linear(x: Tensor, weight: Tensor, bias: Tensor): Float64Array {
  const [values, rows, added] = [numbers(x), numbers(weight), numbers(bias)];
  const width = x.shape.at(-1) as number;
  const result = new Float64Array((values.length / width) * added.length);
  for (let i = 0; i < result.length; i++) {
    const [row, column] = [Math.floor(i / added.length), i % added.length];
    let sum = added[column] as number;
    for (let k = 0; k < width; k++) sum += (values[row * width + k] as number) * (rows[column * width + k] as number);
    result[i] = sum;
  }
  return result;
}

const place = ({ name, operator, occurrence, output }: CapturedTensor) => `${name} ${operator} ${occurrence} ${output}`;

describe('whatever is captured, the output has the bits of forward', () => {
  /** They compute with numbers alone, or return their input. */
  const without = ['looped_sdpa__0', 'looped_matmul__0', 'methods__add'];
  const runnable = manifest.fixtures.filter(
    ({ name, throws, calls }) => throws === undefined && calls === undefined && !without.includes(name),
  );

  test.each(without)('%s calls no operator', async (name) => {
    const { model, inputs, method } = await loaded(name);
    await expect(model.captureTensor({}, inputs, { method })).rejects.toMatchObject({ code: 'ERR_UNKNOWN_MODULE' });
  });

  test.each(runnable.map(({ name }) => name))('%s', async (name) => {
    const { model, inputs, method } = await loaded(name);
    const wanted = bits(await model.forward(inputs, { method }));
    const { output, tensors } = await model.captureTensor({}, inputs, { method, dtype: 'same' });
    expect(bits(output)).toEqual(wanted);
    expect(tensors.length).toBeGreaterThan(0);
  });
});

describe('scores before their softmax', () => {
  it.each([
    'hand_matmul_script',
    'hand_matmul_trace',
    'hand_matmul_script_frozen',
    'hand_bmm_script',
    'hand_einsum_trace',
  ])('of %s give its weights', async (name) => {
    const { model, inputs } = await loaded(name);
    const { attentions } = await model.captureAttention(inputs);
    const { tensors: weights } = await model.captureTensor({ operator: 'softmax' }, inputs);
    const { tensors: all } = await model.captureTensor({}, inputs);
    // What comes behind the attentions is a classifier's.
    expect(weights.length).toBeGreaterThan(attentions.length);
    for (const [i, { weights: captured }] of attentions.entries()) {
      const { tensor } = weights[i] as CapturedTensor;
      const at = all.findIndex((each) => place(each) === place(weights[i] as CapturedTensor));
      const scores = all[at - 1] as CapturedTensor; // what the softmax was given
      expect(difference(softmax(scores.tensor), tensor)).toBeLessThan(1e-6);
      expect(difference(captured.reshape([-1]), tensor.reshape([-1]))).toBe(0);
    }
  });
});

describe('the weights of a router', () => {
  it('and its logits, by module and operator', async () => {
    const { model, inputs } = await loaded('dense_router');
    const parameters = Object.fromEntries(model.namedParameters().map(({ name, tensor }) => [name, tensor]));
    const logits = await model.captureTensor({ module: 'router', operator: 'linear' }, inputs);
    const [captured] = logits.tensors;
    expect(logits.tensors.map(place)).toEqual(['router linear 0 0']);
    const x = inputs[0] as Tensor;
    const expected = linear(x, parameters['router.weight'] as Tensor, parameters['router.bias'] as Tensor);
    const got = numbers((captured as CapturedTensor).tensor);
    expect(got.length).toBe(expected.length);
    expect(Math.max(...got.map((value, i) => Math.abs(value - (expected[i] as number))))).toBeLessThan(1e-6);

    const { tensors } = await model.captureTensor({ module: '', operator: 'softmax' }, inputs);
    const [weights] = tensors as [CapturedTensor];
    expect(weights.tensor.shape).toEqual([weights.tensor.shape[0], 4]);
    expect(difference(softmax((captured as CapturedTensor).tensor), weights.tensor)).toBeLessThan(1e-6);
  });

  it.each(['router_script', 'router_trace'])('of the chosen experts: %s gives values and positions', async (name) => {
    const { model, inputs } = await loaded(name);
    const { tensors } = await model.captureTensor({ operator: 'topk' }, inputs);
    expect(tensors.map(({ operator, output, tensor }) => `${operator} ${output} ${tensor.dtype}`)).toEqual([
      'topk 0 float32',
      'topk 1 int64',
    ]);
    const [values, positions] = tensors as [CapturedTensor, CapturedTensor];
    const { tensors: before } = await model.captureTensor({ module: '', operator: 'softmax' }, inputs);
    const all = numbers((before[0] as CapturedTensor).tensor);
    const [weights, chosen] = [numbers(values.tensor), numbers(positions.tensor)];
    for (let i = 0; i < weights.length; i++) {
      const row = Math.floor(i / 2);
      expect(weights[i]).toBe(all[row * 4 + (chosen[i] as number)]);
    }
  });
});

describe('the relative position bias before the softmax', () => {
  it('of T5: rows of its table, one for each query and key', async () => {
    const folder = join(MODELS, '..', 'generation');
    const model = await ScriptModule.load(join(folder, 't5.pt'));
    const cases = JSON.parse(readFileSync(join(folder, 'generation.json'), 'utf8')) as {
      file: string;
      steps: { inputs: unknown[] }[];
    }[];
    const data = await Data.read('generation.safetensors', folder);
    const inputs = data.tensors(cases.find(({ file }) => file === 't5.pt')?.steps[0]?.inputs) as Tensor[];
    const module = /relative_attention_bias$/;
    const { tensors } = await model.captureTensor({ module, operator: 'embedding' }, inputs);
    const [bias] = tensors as [CapturedTensor];
    expect(tensors).toHaveLength(1);
    expect(bias.name).toMatch(module);
    const table = model.namedParameters().find(({ name }) => name === `${bias.name}.weight`)?.tensor as Tensor;
    const [buckets, heads] = table.shape as [number, number];
    expect(bias.tensor.shape).toHaveLength(3); // queries, keys, heads
    const rowsOf = (tensor: Tensor, count: number) => {
      const values = numbers(tensor);
      return Array.from({ length: count }, (_, i) => values.slice(i * heads, (i + 1) * heads).join());
    };
    const known = new Set(rowsOf(table, buckets));
    const [queries, keys] = bias.tensor.shape as [number, number];
    for (const row of rowsOf(bias.tensor, queries * keys)) expect(known.has(row)).toBe(true);
  });
});

describe('values that the model writes into afterwards', () => {
  const folder = join(__dirname, '..', 'fixtures', 'inplace');
  const models = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as { name: string; forms: string[] }[];
  const cases = models
    .filter(({ name }) =>
      ['weights_after', 'weights_before_and_after', 'returns_its_weights', 'softmax_into'].includes(name),
    )
    .flatMap(({ name, forms }) => forms.map((form) => [name, form] as const));

  it.each(cases)('%s %s: are as they were when they were computed', async (name, form) => {
    const { entries } = await readSafetensors(join(folder, 'expected.safetensors'));
    const stored = (key: string) => {
      const { data, shape, dtype } = entries.find((entry) => entry.name === key) as {
        data: Float32Array;
        shape: number[];
        dtype: DType;
      };
      return Tensor.from(data, { shape, dtype });
    };
    const plain = await ScriptModule.load(join(folder, `${name}_${form}.pt`));
    const model = await ScriptModule.load(join(folder, `${name}_${form}.pt`));
    const inputs = () => [0, 1, 2].map((i) => stored(`${name}.input.${i}`));
    const wanted = bits(await plain.forward(inputs()));
    const { output, tensors } = await model.captureTensor({}, inputs());
    expect(bits(output)).toEqual(wanted);
    for (const [i, { operator, tensor }] of tensors.entries()) {
      if (!/^_?softmax/.test(operator)) continue;
      const scores = (tensors[i - 1] as CapturedTensor).tensor;
      // A softmax is of what came right before it, and its rows sum up to one whatever the model does to them later.
      const sums = numbers(tensor.sum(-1));
      expect(Math.max(...sums.map((sum) => Math.abs(sum - 1)))).toBeLessThan(1e-5);
      if (scores.shape.join() === tensor.shape.join()) {
        expect(difference(softmax(scores), tensor)).toBeLessThan(1e-5);
      }
    }
  });
});

describe('occurrences', () => {
  it('are counted within a module and an operator', async () => {
    const { model, inputs } = await loaded('hand_matmul_script');
    const { tensors } = await model.captureTensor({}, inputs, { dtype: 'same' });
    const counts = new Map<string, number>();
    let last = '';
    for (const each of tensors) {
      const key = `${each.name} ${each.operator}`;
      if (each.output === 0 || last !== place(each)) {
        expect(each.occurrence).toBeGreaterThanOrEqual(counts.get(key) ?? 0);
        counts.set(key, each.occurrence + 1);
      }
      last = place(each);
    }
    const one = await model.captureTensor({ operator: 'matmul', occurrence: 1 }, inputs, { dtype: 'same' });
    const products = tensors.filter(({ operator, occurrence }) => operator === 'matmul' && occurrence === 1);
    expect(one.tensors.map(place)).toEqual(products.map(place));
    expect(one.tensors.map(({ tensor }) => bits(tensor))).toEqual(products.map(({ tensor }) => bits(tensor)));
  });

  it('go on from call to call of one module', async () => {
    const { model, inputs } = await loaded('called_thrice_matmul_script');
    const { tensors } = await model.captureTensor({ operator: 'softmax' }, inputs);
    expect(tensors.map(({ occurrence }) => occurrence)).toEqual([0, 1, 2]);
    expect(new Set(tensors.map(({ name }) => name)).size).toBe(1);
  });

  it('of tasks that the model forks all count', async () => {
    const { model, inputs } = await loaded('forked');
    const { attentions } = await model.captureAttention(inputs);
    const { tensors } = await model.captureTensor({ operator: 'linear' }, inputs);
    expect(tensors.length).toBeGreaterThan(attentions.length);
  });
});

describe('modules of nn', () => {
  const inputs = () =>
    Tensor.from(
      Float32Array.from({ length: 48 }, (_, i) => Math.sin(i)),
      { shape: [2, 3, 8] },
    );

  it('are captured as checkpoints are, with named arguments and hooks', async () => {
    const layer = new nn.TransformerEncoderLayer({
      dModel: 8,
      nhead: 2,
      dimFeedforward: 16,
      batchFirst: true,
      normFirst: true,
    });
    const encoder = new nn.TransformerEncoder(layer, 2).eval();
    // What composes the layers of operators of their own: a hook below them.
    let hooked: Tensor | undefined;
    encoder.registerForwardHook('layers.1.linear1', (_, __, output) => {
      hooked = output as Tensor;
    });
    const srcKeyPaddingMask = Tensor.from([
      [false, false, true],
      [false, false, false],
    ]);
    const wanted = bits(await encoder.forward(inputs(), { srcKeyPaddingMask }));
    const selector = { module: 'layers.1.linear1', operator: 'add_' }; // the bias: libtorch's own linear layers are a product and a sum
    const { output, tensors } = await encoder.captureTensor(selector, [inputs()], { srcKeyPaddingMask });
    expect(bits(output)).toEqual(wanted);
    expect(tensors.map(place)).toEqual(['layers.1.linear1 add_ 0 0']);
    expect(difference((tensors[0] as CapturedTensor).tensor, hooked as Tensor)).toBe(0);
  });

  it('whose layers are fused say what computes them', async () => {
    const layer = new nn.TransformerEncoderLayer({ dModel: 8, nhead: 2, dimFeedforward: 16, batchFirst: true });
    const encoder = new nn.TransformerEncoder(layer, 1).eval();
    await expect(encoder.captureTensor({ module: 'layers.0.linear1' }, [inputs()])).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_MODULE',
      message: expect.stringMatching(
        /'layers\.0\.linear1' called none.*'layers\.0' called _transformer_encoder_layer_fwd/,
      ),
    });
  });
});

describe('where nothing fits the selector', () => {
  const wrong = async (selector: object) => {
    const { model, inputs } = await loaded('hand_matmul_script');
    return model.captureTensor(selector, inputs);
  };

  it('an unknown module is told before the run, with those there are', async () => {
    await expect(wrong({ module: 'nowhere' })).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_MODULE',
      message: expect.stringContaining("received 'nowhere'; it has"),
    });
    await expect(wrong({ module: /nowhere/ })).rejects.toMatchObject({ code: 'ERR_UNKNOWN_MODULE' });
  });

  it('an operator that was not called is told with those that were', async () => {
    await expect(wrong({ operator: 'conv2d' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/received 'conv2d'; called were .*matmul.*softmax/),
    });
  });

  it('an occurrence beyond the last is told with how many there were', async () => {
    await expect(wrong({ operator: 'softmax', occurrence: 7 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/occurrence from 0 to \d.*'softmax' was called \d/),
    });
    await expect(wrong({ occurrence: 10_000 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });

  it('a frozen checkpoint has no names to select by', async () => {
    const { model, inputs } = await loaded('hand_matmul_script_frozen');
    await expect(model.captureTensor({ module: 'attention' }, inputs)).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_MODULE',
      message: expect.stringContaining('values can be selected by operator and occurrence'),
    });
    const { tensors } = await model.captureTensor({ operator: 'softmax' }, inputs);
    expect(tensors.length).toBeGreaterThan(0);
  });

  it.each([
    [undefined],
    [null],
    ['softmax'],
    [{ module: 5 }],
    [{ operator: 5 }],
    [{ operator: '' }],
    [{ operator: 'softmax.int' }],
    [{ occurrence: -1 }],
    [{ occurrence: 0.5 }],
    [{ layer: 'x' }],
  ])('%j is no selector', async (selector) => {
    await expect(wrong(selector as object)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });
});

describe('options', () => {
  it('aten:: may stand before the operator', async () => {
    const { model, inputs } = await loaded('hand_matmul_script');
    const { tensors } = await model.captureTensor({ operator: 'aten::softmax' }, inputs);
    expect(tensors[0]?.operator).toBe('softmax');
  });

  it.each([
    ['hand_matmul_float16', 'float16'],
    ['hand_matmul_bfloat16', 'bfloat16'],
    ['hand_matmul_float64', 'float64'],
  ])('dtype: %s is converted to float32, or stays', async (name, own) => {
    const { model, inputs } = await loaded(name);
    const selector = { operator: 'softmax', occurrence: 0 };
    const first = async (options: TensorCaptureOptions) => {
      const { tensors } = await model.captureTensor(selector, inputs, options);
      return (tensors[0] as CapturedTensor).tensor;
    };
    const [converted, same] = [await first({}), await first({ dtype: 'same' })];
    expect([converted.dtype, same.dtype]).toEqual(['float32', own]);
    expect(difference(converted, same.to({ dtype: 'float32' }))).toBe(0);
  });

  it('maxBytes holds to the byte', async () => {
    const { model, inputs } = await loaded('hand_matmul_script');
    const { tensors } = await model.captureTensor({ operator: 'softmax' }, inputs);
    const bytes = tensors.reduce((sum, { tensor }) => sum + numbers(tensor).length * 4, 0);
    await expect(model.captureTensor({ operator: 'softmax' }, inputs, { maxBytes: bytes })).resolves.toBeDefined();
    await expect(model.captureTensor({ operator: 'softmax' }, inputs, { maxBytes: bytes - 1 })).rejects.toMatchObject({
      code: 'ERR_CAPTURE_TOO_LARGE',
      message: expect.stringContaining("what 'softmax' gave"),
    });
  });

  it('a signal, a time limit and a memory limit end the run', async () => {
    const { model, inputs } = await loaded('hand_matmul_script');
    const reason = new Error('no more');
    await expect(model.captureTensor({}, inputs, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(model.captureTensor({}, inputs, { timeLimit: 0 })).rejects.toMatchObject({ code: 'ERR_TIME_LIMIT' });
    await expect(model.captureTensor({}, inputs, { memoryLimit: 100 })).rejects.toMatchObject({
      code: 'ERR_MEMORY_LIMIT',
    });
    await expect(model.captureTensor({}, inputs)).resolves.toBeDefined();
  });

  it('what is not known is refused', async () => {
    const { model, inputs } = await loaded('hand_matmul_script');
    for (const options of [{ layers: [0] }, { device: 'cuda' }, { dtype: 'float16' }, { maxBytes: -1 }]) {
      await expect(model.captureTensor({}, inputs, options as object)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
      });
    }
  });

  it('a disposed model is refused, and a model that fails fails as in forward', async () => {
    const { model, inputs } = await loaded('hand_matmul_script');
    await expect(model.captureTensor({}, [Tensor.zeros([3])])).rejects.toMatchObject({ code: 'ERR_MODEL_RUN' });
    model.dispose();
    await expect(model.captureTensor({}, inputs)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });
});
