import { type CaptureOptions, ScriptModule, Tensor, type Value } from '../../lib/index';
import { difference, fixture, inputsOf, path } from './model-fixtures';

// An encoder of one layer and a decoder of two: five attentions, with cross-attention of another width.
const each = fixture('transformer');
let model: ScriptModule;
let inputs: Value[];
let whole: Awaited<ReturnType<ScriptModule['captureAttention']>>;

beforeAll(async () => {
  model = await ScriptModule.load(path(each.file));
  inputs = await inputsOf(each);
  whole = await model.captureAttention(inputs);
});

const capture = async (options: CaptureOptions) => (await model.captureAttention(inputs, options)).attentions;
const rows = (weights: Tensor, heads: number[], queries: number[]): number[][] => {
  const [batch, , , keys] = weights.shape as [number, number, number, number];
  const list: number[][] = [];
  for (let b = 0; b < batch; b++) {
    for (const h of heads) {
      for (const q of queries) {
        const row = weights.select(0, b).select(0, h).select(0, q).toTypedArray() as Float32Array;
        expect(row).toHaveLength(keys);
        list.push(Array.from(row));
      }
    }
  }
  return list;
};

describe('ScriptModule#captureAttention', () => {
  test('layers are chosen by name, by what lies above, by pattern, by position from either end', async () => {
    const names = whole.attentions.map(({ name }) => name);
    const total = names.length;
    const chosen = async (...layers: (string | RegExp | number)[]) =>
      (await capture({ layers })).map(({ index }) => index);
    expect(await chosen(names[1] as string)).toEqual([1]);
    expect(await chosen('transformer.decoder')).toEqual(
      names.flatMap((name, i) => (name.startsWith('transformer.decoder.') ? [i] : [])),
    );
    expect(await chosen(/multihead_attn$/)).toEqual(
      names.flatMap((name, i) => (name.endsWith('multihead_attn') ? [i] : [])),
    );
    expect(await chosen(0, -1)).toEqual([0, total - 1]);
    expect(await chosen(-2)).toEqual([total - 2]);
    expect(await chosen(1, names[1] as string, -total + 1)).toEqual([1]);
  });

  test('a layer from the end has the weights that it has among all', async () => {
    for (const position of [-1, -3]) {
      const [only] = await capture({ layers: [position] });
      expect(difference((only as { weights: Tensor }).weights, whole.attentions.at(position)?.weights as Tensor)).toBe(
        0,
      );
    }
  });

  test('heads and queries are the rows of the whole', async () => {
    const selected = await capture({ heads: [1, 0], queries: [2, 0] });
    const range = await capture({ queries: { start: 1, end: 3 } });
    whole.attentions.forEach(({ weights }, i) => {
      const some = selected[i] as (typeof selected)[number];
      expect([some.heads, some.queries]).toEqual([
        [1, 0],
        [2, 0],
      ]);
      expect(some.weights.shape).toEqual([weights.shape[0], 2, 2, weights.shape[3]]);
      rows(weights, [1, 0], [2, 0]).forEach((row, k) => {
        const received = rows(some.weights, [0, 1], [0, 1])[k] as number[];
        row.forEach((value, key) => {
          expect(received[key]).toBeCloseTo(value, 6);
        });
      });
      expect(range[i]?.queries).toEqual([1, 2]);
      expect(difference(range[i]?.weights as Tensor, weights.narrow(2, 1, 2))).toBeLessThan(1e-6);
    });
  });

  test('the average over heads is their mean', async () => {
    const averaged = await capture({ averageHeads: true });
    whole.attentions.forEach(({ weights, heads }, i) => {
      expect(averaged[i]?.weights.shape).toEqual([weights.shape[0], weights.shape[2], weights.shape[3]]);
      expect(averaged[i]?.heads).toEqual(heads);
      expect(difference(averaged[i]?.weights as Tensor, weights.mean(1))).toBeLessThan(1e-6);
    });
  });

  test('dtype: the model’s own where asked for', async () => {
    const half = fixture('hand_sdpa_float16');
    const halfModel = await ScriptModule.load(path(half.file));
    const eager = fixture('hand_matmul_float16');
    const eagerModel = await ScriptModule.load(path(eager.file));
    for (const [m, f] of [
      [halfModel, half],
      [eagerModel, eager],
    ] as const) {
      const same = await m.captureAttention(await inputsOf(f), { dtype: 'same', device: 'same' });
      expect(same.attentions.map(({ weights }) => weights.dtype)).toEqual(same.attentions.map(() => 'float16'));
      const float = await m.captureAttention(await inputsOf(f));
      expect(float.attentions.every(({ weights }) => weights.dtype === 'float32')).toBe(true);
    }
  });

  /** Three elements, none in the middle. */
  const holed = (first: number, last: number): number[] => Object.assign([first], { 2: last });

  test.each<[string, CaptureOptions, string, RegExp]>([
    ['an unknown layer', { layers: ['nope'] }, 'ERR_UNKNOWN_MODULE', /'nope'/],
    ['a pattern that fits nothing', { layers: [/nope/] }, 'ERR_UNKNOWN_MODULE', /\/nope\//],
    ['a position out of reach', { layers: [99] }, 'ERR_UNKNOWN_MODULE', /99.*positions 0 to 4/],
    ['a position out of reach from the end', { layers: [-99] }, 'ERR_UNKNOWN_MODULE', /-99/],
    ['a module without attention', { layers: ['transformer.encoder.norm'] }, 'ERR_UNKNOWN_MODULE', /encoder\.norm/],
    ['no layers', { layers: [] }, 'ERR_INVALID_ARGUMENT', /at least one/],
    ['a layer of no kind', { layers: [{}] as never }, 'ERR_INVALID_ARGUMENT', /layers/],
    ['a head that is not there', { heads: [64] }, 'ERR_INVALID_ARGUMENT', /heads.*64/],
    ['a negative head', { heads: [-1] }, 'ERR_INVALID_ARGUMENT', /-1/],
    ['a head twice', { heads: [0, 0] }, 'ERR_INVALID_ARGUMENT', /once/],
    ['a fraction of a head', { heads: [0.5] }, 'ERR_INVALID_ARGUMENT', /0\.5/],
    ['a hole in heads', { heads: holed(1, 2) }, 'ERR_INVALID_ARGUMENT', /element of heads.*undefined/],
    ['a hole in queries', { queries: holed(0, 1) }, 'ERR_INVALID_ARGUMENT', /element of queries.*undefined/],
    ['a hole in layers', { layers: holed(0, 1) }, 'ERR_INVALID_ARGUMENT', /element of layers.*undefined/],
    ['a signal that is none', { signal: {} as never }, 'ERR_INVALID_ARGUMENT', /AbortSignal for signal/],
    ['a query that is not there', { queries: [1000] }, 'ERR_INVALID_ARGUMENT', /queries.*1000/],
    ['a range past the end', { queries: { start: 0, end: 1000 } }, 'ERR_INVALID_ARGUMENT', /1000/],
    ['an empty range', { queries: { start: 2, end: 2 } }, 'ERR_INVALID_ARGUMENT', /greater than start/],
    [
      'a range with a step',
      { queries: { start: 0, end: 2, step: 2 } as never },
      'ERR_INVALID_ARGUMENT',
      /start, end in queries.*'step'/,
    ],
    ['too much', { maxBytes: 10 }, 'ERR_CAPTURE_TOO_LARGE', /maxBytes is 10/],
    ['an unknown option', { layer: [0] } as never, 'ERR_INVALID_ARGUMENT', /'layer'/],
    ['a wrong choice', { device: 'gpu' as never }, 'ERR_INVALID_ARGUMENT', /'cpu' or 'same'/],
  ])('%s is refused, and the next capture is whole', async (_, options, code, message) => {
    const error = await model.captureAttention(inputs, options).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code });
    expect((error as Error).message).toMatch(message);
    const again = await model.captureAttention(inputs);
    again.attentions.forEach(({ weights }, i) => {
      expect(difference(weights, whole.attentions[i]?.weights as Tensor)).toBe(0);
    });
  });

  test('maxBytes counts what is kept, not what is computed', async () => {
    const bytes = (attentions: { weights: Tensor }[]) =>
      attentions.reduce((sum, { weights }) => sum + 4 * weights.shape.reduce((a, b) => a * b, 1), 0);
    const all = bytes(whole.attentions);
    await expect(capture({ maxBytes: all })).resolves.toHaveLength(5);
    await expect(capture({ maxBytes: all - 1 })).rejects.toMatchObject({ code: 'ERR_CAPTURE_TOO_LARGE' });
    const few = bytes(await capture({ heads: [0] }));
    await expect(capture({ heads: [0], maxBytes: few })).resolves.toHaveLength(5);
  });

  test('a frozen checkpoint has positions but no names', async () => {
    const frozen = fixture('hand_sdpa_trace_frozen');
    const frozenModel = await ScriptModule.load(path(frozen.file));
    const frozenInputs = await inputsOf(frozen);
    await expect(frozenModel.captureAttention(frozenInputs, { layers: ['attention'] })).rejects.toThrow(/frozen/);
    const { attentions } = await frozenModel.captureAttention(frozenInputs, { layers: [0] });
    expect(attentions.map(({ name }) => name)).toEqual(['']);
  });

  test('a model without attention says what to do', async () => {
    const none = fixture('no_attention_script');
    const noneModel = await ScriptModule.load(path(none.file));
    const error = await noneModel.captureAttention(await inputsOf(none)).catch((reason: Error) => reason);
    expect(error).toMatchObject({ code: 'ERR_NO_ATTENTION' });
    expect((error as Error).message).toMatch(/Check that/);
  });

  test('an aborted signal rejects with its reason, before and during a run', async () => {
    const reason = new Error('enough');
    await expect(capture({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(model.forward(inputs, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const running = capture({ signal: controller.signal });
    controller.abort(reason);
    await expect(running).rejects.toBe(reason);
    await expect(capture({})).resolves.toHaveLength(5);
  });

  test('an abort rejects while gradientOf is waited for', async () => {
    const reason = new Error('enough');
    const controller = new AbortController();
    const gradientOf = () => {
      setTimeout(() => controller.abort(reason), 10);
      return new Promise<Tensor>(() => {});
    };
    await expect(capture({ gradientOf, signal: controller.signal })).rejects.toBe(reason);
  });

  test('kept weights stay what they are while the model runs again', async () => {
    const before = whole.attentions.map(({ weights }) => Array.from(weights.toTypedArray() as Float32Array));
    for (let run = 0; run < 3; run++)
      await model.captureAttention(inputs.map((value) => (value instanceof Tensor ? value.mul(1.5) : value)));
    whole.attentions.forEach(({ weights }, i) => {
      expect(Array.from(weights.toTypedArray() as Float32Array)).toEqual(before[i]);
    });
  });
});
