import { readFileSync } from 'node:fs';
import { ScriptModule, Tensor, type Value } from '../../lib/index';
import { bits, difference, fixture, inputsOf, path } from './model-fixtures';

const transformer = fixture('transformer');
const nested = fixture('nested');
const methods = fixture('methods');

const f32 = (...shape: number[]): Tensor =>
  Tensor.from(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)),
    { shape },
  );

describe('ScriptModule.load', () => {
  test('bytes load like the file they came from', async () => {
    const inputs = await inputsOf(transformer);
    const fromFile = await ScriptModule.load(path(transformer.file));
    const fromBytes = await ScriptModule.load(readFileSync(path(transformer.file)));
    expect(bits(await fromBytes.forward(inputs))).toEqual(bits(await fromFile.forward(inputs)));
  });

  test.each<[string, () => Promise<unknown>, string]>([
    ['a missing file', () => ScriptModule.load('/nowhere/model.pt'), 'ERR_MODEL_LOAD'],
    ['a folder', () => ScriptModule.load(__dirname), 'ERR_MODEL_LOAD'],
    ['no path', () => ScriptModule.load(5 as never), 'ERR_INVALID_ARGUMENT'],
    ['empty bytes', () => ScriptModule.load(new Uint8Array()), 'ERR_MODEL_LOAD'],
    ['an unknown option', () => ScriptModule.load('x', { gpu: 1 } as never), 'ERR_INVALID_ARGUMENT'],
    ['an unknown type', () => ScriptModule.load('x', { dtype: 'float' as never }), 'ERR_INVALID_ARGUMENT'],
    [
      'a missing device',
      () => ScriptModule.load(path(transformer.file), { device: 'cuda:77' }),
      'ERR_DEVICE_UNAVAILABLE',
    ],
    ['no device', () => ScriptModule.load(path(transformer.file), { device: 'brain' }), 'ERR_INVALID_ARGUMENT'],
  ])('loading %s fails with its code', async (_, load, code) => {
    await expect(load()).rejects.toMatchObject({ code, name: 'TorchError' });
  });

  test('dtype casts the parameters; optimize keeps the results close', async () => {
    const inputs = await inputsOf(transformer);
    const plain = (await (await ScriptModule.load(path(transformer.file))).forward(inputs)) as Tensor;
    const half = await ScriptModule.load(path(transformer.file), { dtype: 'bfloat16' });
    expect(half.namedParameters().every(({ tensor }) => tensor.dtype === 'bfloat16')).toBe(true);
    const optimized = await ScriptModule.load(path(transformer.file), { optimize: true });
    const fast = (await optimized.forward(inputs)) as Tensor;
    const distance = fast.add(plain.mul(-1));
    expect(Number(distance.mul(distance).mean().item())).toBeLessThan(1e-8);
  });

  test('dtype is refused where parameters could not be of it, and says which they can be', async () => {
    for (const dtype of ['int64', 'int32', 'uint8', 'bool'] as const) {
      const options = { dtype: dtype as never };
      await expect(ScriptModule.load(path(fixture('transformer').file), options)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: `Expected 'float32' or 'float64' or 'float16' or 'bfloat16' for dtype but received '${dtype}' of type string`,
      });
    }
  });

  test('dtype leaves integer buffers what they are: embeddings are looked up with them', async () => {
    const positions = fixture('positions');
    const inputs = await inputsOf(positions);
    const plain = (await (await ScriptModule.load(path(positions.file))).forward(inputs)) as Tensor;
    for (const dtype of ['bfloat16', 'float64'] as const) {
      const cast = await ScriptModule.load(path(positions.file), { dtype });
      const output = (await cast.forward([(inputs[0] as Tensor).to({ dtype })])) as Tensor;
      expect(output.dtype).toBe(dtype);
      expect(difference(output, plain)).toBeLessThan(dtype === 'float64' ? 1e-5 : 0.1);
    }
  });
});

describe('ScriptModule#modules and namedParameters', () => {
  test('modules and parameters have Python’s names', async () => {
    const model = await ScriptModule.load(path(transformer.file));
    const modules = model.modules();
    expect(modules[0]).toEqual({ name: '', type: expect.any(String) });
    expect(modules.find(({ name }) => name.endsWith('encoder.layers.0.self_attn'))?.type).toBe('MultiheadAttention');
    expect(new Set(modules.map(({ name }) => name)).size).toBe(modules.length);
    const parameter = model
      .namedParameters()
      .find(({ name }) => name.endsWith('encoder.layers.0.self_attn.in_proj_weight'));
    expect(parameter?.tensor.shape).toEqual([3 * (parameter?.tensor.shape[1] as number), parameter?.tensor.shape[1]]);
  });
});

describe('ScriptModule#signature', () => {
  test('a signature tells what a method takes and gives', async () => {
    const model = await ScriptModule.load(path(methods.file));
    expect(model.methods()).toEqual(expect.arrayContaining(['forward', 'encode']));
    const { parameters, returns } = model.signature('forward');
    expect(parameters[0]).toMatchObject({ type: 'Tensor', optional: false });
    expect(returns).toBe('Tensor');
    expect(() => model.signature('nothing')).toThrow(/forward.*received 'nothing'/);
  });
});

describe('ScriptModule#forward', () => {
  test('structures go in and come out: tuples, lists, dictionaries, optionals, named tuples', async () => {
    const model = await ScriptModule.load(path(nested.file));
    const inputs = await inputsOf(nested);
    const output = (await model.forward(inputs)) as Value[];
    expect(Array.isArray(output)).toBe(true);
    expect(output[0]).toMatchObject({ out: expect.any(Tensor), hidden: expect.any(Tensor) });
    const named = output[2] as Value[] & Record<string, Value>;
    const fields = Object.keys(named).filter((key) => !/^\d+$/.test(key));
    expect(fields.length).toBeGreaterThan(0);
    for (const field of fields) expect(named).toContain(named[field]);
  });

  test.each<[string, Value[] | undefined, RegExp]>([
    ['no array', undefined, /array.*inputs/],
    ['too few', [], /Expected 2 to \d+ inputs for forward\(src: Tensor, tgt: Tensor.*received 0/],
    ['too many', Array(20).fill(null), /received 20/],
    [
      'a number for a tensor',
      [5, 6],
      /Expected a Tensor for input 0 \('src'\) of forward but received 5 of type number/,
    ],
    ['a bare typed array', [new Float32Array(2) as never, null], /Tensor\.from/],
    ['null for a tensor', [null, null], /Expected a Tensor.*received null/],
    ['a string for an optional tensor', [f32(1, 2, 8), f32(1, 2, 8), 'mask'], /input 2 \('tgt_mask'\)/],
  ])('inputs that do not fit are refused by name: %s', async (_, inputs, message) => {
    const model = await ScriptModule.load(path(transformer.file));
    const error = await model.forward(inputs as Value[]).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    expect((error as Error).message).toMatch(message);
    // The model is as good as before.
    await expect(model.forward(await inputsOf(transformer))).resolves.toBeDefined();
  });

  test('values inside structures are refused by their place', async () => {
    const model = await ScriptModule.load(path(nested.file));
    const inputs = await inputsOf(nested);
    const wrong = (change: (copy: Value[]) => void) => {
      const copy = structuredCloneValue(inputs) as Value[];
      change(copy);
      return model.forward(copy);
    };
    await expect(wrong((copy) => ((copy[0] as Value[])[1] = 'two'))).rejects.toThrow(/\[1\]/);
    await expect(wrong((copy) => (copy[0] as Value[]).pop())).rejects.toThrow(/array of 2/);
    await expect(wrong((copy) => (copy[7] = [3, 4.5]))).rejects.toThrow(/integer.*4\.5/);
    await expect(wrong((copy) => (copy[2] = { shift: 1 }))).rejects.toThrow(/\.shift/);
    await expect(wrong((copy) => (copy[4] = 1))).rejects.toThrow(/boolean/);
  });

  function structuredCloneValue(value: Value): Value {
    if (Array.isArray(value)) return value.map(structuredCloneValue);
    if (value !== null && typeof value === 'object' && !(value instanceof Tensor)) {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, structuredCloneValue(item)]));
    }
    return value;
  }

  test('an error has the JavaScript stack of the call that failed', async () => {
    const model = await ScriptModule.load(path(transformer.file));
    async function whereItWasCalled() {
      return await model.forward([f32(1, 2, 3), f32(1, 2, 3)]);
    }
    const error = await whereItWasCalled().catch((reason: Error) => reason);
    expect((error as Error).stack).toContain('whereItWasCalled');
  });

  test('an unknown method is refused', async () => {
    const model = await ScriptModule.load(path(transformer.file));
    await expect(model.forward([], { method: 'nothing' })).rejects.toThrow(/received 'nothing'/);
  });

  test('several runs of one model at once give what they give one by one', async () => {
    const model = await ScriptModule.load(path(transformer.file));
    const inputs = await inputsOf(transformer);
    await model.forward(inputs);
    await model.forward(inputs);
    const alone = bits(await model.forward(inputs));
    const together = await Promise.all(
      Array.from({ length: 16 }, (_, i) =>
        i % 2 ? model.forward(inputs) : model.captureAttention(inputs).then(({ output }) => output),
      ),
    );
    for (const output of together) expect(bits(output)).toEqual(alone);
  });

  test('an input that is written into between two runs is read by the next, without a new tensor', async () => {
    const model = await ScriptModule.load(path(transformer.file));
    const [source, target] = (await inputsOf(transformer)) as [Tensor, Tensor];
    const filled = Tensor.zeros(source.shape);
    const memory = filled.toTypedArray() as Float32Array;
    const zero = bits(await model.forward([filled, target]));
    memory.set(source.toTypedArray() as Float32Array);
    expect(bits(await model.forward([filled, target]))).toEqual(bits(await model.forward([source, target])));
    memory.fill(0);
    expect(bits(await model.forward([filled, target]))).toEqual(zero);
  });

  test('an input in memory that was taken over gives the same bits, and results reach arrays without a copy', async () => {
    const model = await ScriptModule.load(path(transformer.file));
    const [source, target] = (await inputsOf(transformer)) as [Tensor, Tensor];
    const taken = Tensor.from(Float32Array.from(source.toTypedArray() as Float32Array), {
      shape: source.shape,
      copy: false,
    });
    const output = (await model.forward([taken, target])) as Tensor;
    expect(bits(output)).toEqual(bits(await model.forward([source, target])));
    const { attentions } = await model.captureAttention([taken, target]);
    const results = [output, ...attentions.map(({ weights }) => weights)];
    for (const tensor of results) {
      (tensor.toTypedArray() as Float32Array)[0] = 1234.5;
      expect((tensor.toTypedArray() as Float32Array)[0]).toBe(1234.5);
      const index = tensor.shape.map(() => 0);
      let element = tensor;
      for (const i of index) element = element.select(0, i);
      expect(element.item()).toBe(1234.5);
    }
  });
});

describe('ScriptModule#dispose', () => {
  test('a disposed model refuses, and lets runs under way finish', async () => {
    const model = await ScriptModule.load(path(transformer.file));
    const inputs = await inputsOf(transformer);
    const running = model.forward(inputs);
    model.dispose();
    model.dispose();
    await expect(running).resolves.toBeDefined();
    await expect(model.forward(inputs)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(model.captureAttention(inputs)).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    expect(() => model.modules()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  });
});

describe('ScriptModule#warmUp', () => {
  test('warmUp changes no bit of what follows', async () => {
    const inputs = await inputsOf(transformer);
    const [warm, cold] = [
      await ScriptModule.load(path(transformer.file)),
      await ScriptModule.load(path(transformer.file)),
    ];
    expect(await warm.warmUp(inputs)).toBeUndefined();
    expect(bits(await warm.forward(inputs))).toEqual(bits(await cold.forward(inputs)));
  });

  test('warmUp runs the model: one that keeps state has it from these runs', async () => {
    const stateful = fixture('stateful');
    const inputs = await inputsOf(stateful);
    const [warm, cold] = [await ScriptModule.load(path(stateful.file)), await ScriptModule.load(path(stateful.file))];
    await warm.warmUp(inputs);
    const outputs: unknown[] = [];
    for (let call = 0; call < 4; call++) outputs.push(bits(await cold.forward(inputs)));
    expect(bits(await warm.forward(inputs))).toEqual(outputs[3]);
    expect(outputs[3]).not.toEqual(outputs[0]);
  });

  test('warmUp takes the method asked for, and rejects as forward does', async () => {
    const model = await ScriptModule.load(path(methods.file));
    const other = fixture('methods__encode');
    await model.warmUp(await inputsOf(other), { method: other.method });
    await expect(model.warmUp([])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await expect(model.warmUp(await inputsOf(other), { method: 'nothing' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
    const reason = new Error('enough');
    await expect(model.warmUp(await inputsOf(methods), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    model.dispose();
    await expect(model.warmUp(await inputsOf(methods))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });
});
