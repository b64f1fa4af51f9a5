import assert from 'node:assert';
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import { type Attention, ExportedProgram, HookedModel, nn, ScriptModule, Tensor } from '../../lib/index';

// Jest gives each file a realm of its own, with classes of its own, and the addon isn't of it: strict comparisons look at
// the classes.

const FIXTURES = join(__dirname, '../fixtures');
const ids = () => Tensor.from([[2n, 4n, 5n, 3n]]);

/** All that a value is made of, as far as it is the language's. */
function* partsOf(value: unknown): Generator<object> {
  if (value === null || typeof value !== 'object' || value instanceof Tensor) return;
  yield value;
  if (!ArrayBuffer.isView(value)) for (const part of Object.values(value)) yield* partsOf(part);
}

function expectOwn(value: unknown): void {
  const parts = [...partsOf(value)];
  expect(parts.length).toBeGreaterThan(0);
  for (const part of parts) {
    const own = Array.isArray(part)
      ? Object.getPrototypeOf(part) === Array.prototype
      : part instanceof Object && (ArrayBuffer.isView(part) || Object.getPrototypeOf(part) === Object.prototype);
    expect([part, own]).toEqual([part, true]);
  }
}

test('the addon is of another realm than this file', () => {
  expect(process.versions instanceof Object).toBe(false);
});

test.each([
  [new Float32Array([1]), 'float32'],
  [new Float64Array([1]), 'float64'],
  [new BigInt64Array([1n]), 'int64'],
  [new Int32Array([1]), 'int32'],
  [new Int16Array([1]), 'int16'],
  [new Int8Array([1]), 'int8'],
  [new Uint8Array([1]), 'uint8'],
  [new Uint16Array([1]), 'float16'],
] as const)('typed arrays are those that the caller knows: %o', async (array, dtype) => {
  const tensor = Tensor.from(array as Float32Array, { dtype: dtype as 'float32' });
  for (const given of [tensor.toTypedArray(), await tensor.data(), tensor.contents?.data]) {
    expect(given).toBeInstanceOf(array.constructor);
    expect(given).toStrictEqual(array);
    assert.deepStrictEqual(given, array);
    expect(Tensor.from(given as Float32Array, { dtype: dtype as 'float32' })).toEqual(tensor);
  }
});

test('shapes and nested elements are arrays that the caller knows', () => {
  const tensor = Tensor.from([[1, 2]]);
  assert.deepStrictEqual(tensor.shape, [1, 2]);
  assert.deepStrictEqual(tensor.toArray(), [[1, 2]]);
  expect(tensor.shape).toBeInstanceOf(Array);
});

test('so is all that a checkpoint says of itself and gives', async () => {
  const model = await ScriptModule.load(join(FIXTURES, 'cli/text.pt'));
  const given: unknown[] = [];
  const hooked = new HookedModel(model);
  hooked.setForwardHook('recorded', 'layers.0');
  model.registerForwardHook('layers.0', (_module, input) => {
    given.push(input);
  });
  const attention = { layers: [0], topK: 2, statistics: ['received' as const], scores: true };
  const handed: Attention[] = [];
  const all = {
    modules: model.modules(),
    signature: model.signature(),
    methods: model.methods(),
    sites: await model.attentionSites([ids()]),
    capture: await model.captureAttention([ids()], attention),
    stream: await model.captureAttention([ids()], { ...attention, onAttention: (each) => handed.push(each) }),
    tensors: (await model.captureTensor({ operator: 'linear' }, [ids()])).tensors,
    records: hooked.hooks.get('recorded'),
    given,
    handed,
  };
  for (const [name, value] of Object.entries(all)) expect([name, expectOwn(value)]).toEqual([name, undefined]);
});

test('and the values of models, dictionaries and tuples in them', async () => {
  const program = await ExportedProgram.load(join(FIXTURES, 'exported/gpt2_tuples.pt2'));
  expectOwn(program.signature());
  expectOwn(program.modules());
});

test('so are the modules of nn', async () => {
  const mha = new nn.MultiheadAttention({ embedDim: 4, numHeads: 2 });
  const x = Tensor.zeros([2, 1, 4]);
  expectOwn(mha.modules());
  expectOwn((await mha.captureAttention([x, x, x])).attentions);
});

test('errors are errors that the caller knows', async () => {
  const model = await ScriptModule.load(join(FIXTURES, 'cli/text.pt'));
  for (const failing of [() => Tensor.from([1]).select(9, 9), () => model.signature('none')]) {
    expect(failing).toThrow(Error);
  }
  await expect(model.forward([1])).rejects.toBeInstanceOf(Error);
});

test('what another realm makes is taken as what it is', async () => {
  const foreign = runInContext(
    `({
      data: Float32Array.of(1, 2), nested: [[1n, 2n]], options: { shape: [2, 1] }, ids: BigInt64Array.of(2n, 4n, 3n),
      map: new Map([['a', 1]]), bytes: new Uint8Array(4), inputs: (...values) => values,
    })`,
    createContext({}),
  );
  expect(Tensor.from(foreign.data, foreign.options)).toEqual(Tensor.from([[1], [2]]));
  expect(Tensor.from(foreign.nested).dtype).toBe('int64');
  const model = await ScriptModule.load(join(FIXTURES, 'cli/text.pt'));
  const output = await model.forward(foreign.inputs(Tensor.from(foreign.ids, { shape: [1, 3] })));
  expect((output as Tensor).shape).toEqual([1, 3, 12]);
  await expect(ScriptModule.load(foreign.bytes)).rejects.toMatchObject({ code: 'ERR_MODEL_LOAD' });
});
