import assert from 'node:assert';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { parseJson } from '../../lib/formats/json';
import { type DType, ScriptModule, Tensor, type TensorContents, type TensorJson } from '../../lib/index';

const MODEL = join(__dirname, '../fixtures/cli/text.pt');

const values = (dtype: DType = 'float32') =>
  Tensor.from(
    [
      [1, 0, 2],
      [3, 1, 1],
    ],
    { dtype },
  );

describe('equality of tensors', () => {
  const equal: [string, () => unknown, () => unknown][] = [
    ['the same elements', () => values(), () => values()],
    ['a view with the same elements', () => values(), () => values().transpose(0, 1).transpose(0, 1)],
    ['within other values', () => ({ logits: [values(), 1] }), () => ({ logits: [values(), 1] })],
    ['both disposed', () => disposed(), () => disposed()],
  ];
  const different: [string, () => unknown, () => unknown][] = [
    ['another element', () => values(), () => values().add(Tensor.from([0, 0, 1e-7]))],
    ['another shape', () => values(), () => values().reshape([3, 2])],
    ['another number of elements', () => Tensor.zeros([2]), () => Tensor.zeros([3])],
    ['another dtype', () => values('float16'), () => values('bfloat16')],
    ['an integer dtype', () => values('int8'), () => values('uint8')],
    [
      'bits of another half',
      () => Tensor.from([1], { dtype: 'float16' }),
      () => Tensor.from([2], { dtype: 'float16' }),
    ],
    ['within other values', () => ({ logits: [values(), 1] }), () => ({ logits: [values().mul(2), 1] })],
    ['a disposed one', () => values(), () => disposed()],
    ['an array', () => Tensor.from([1, 2]), () => [1, 2]],
  ];
  function disposed(): Tensor {
    const tensor = values();
    tensor.dispose();
    return tensor;
  }

  test.each(equal)('%s: equal', (_, one, other) => {
    expect(one()).toEqual(other());
    expect(one()).toStrictEqual(other());
    assert.deepStrictEqual(one(), other());
    assert.deepEqual(one(), other());
  });

  test.each(different)('%s: different', (_, one, other) => {
    expect(one()).not.toEqual(other());
    expect(() => expect(one()).toEqual(other())).toThrow(/./);
    assert.notDeepStrictEqual(one(), other());
    assert.notDeepEqual(one(), other());
  });

  test('what a comparison says holds the elements', () => {
    expect(() => assert.deepStrictEqual(Tensor.from([1, 2]), Tensor.from([1, 3]))).toThrow(/3/);
    expect(() => expect(Tensor.from([1, 2])).toEqual(Tensor.from([1, 3]))).toThrow(/3/);
  });

  test('a model is equal to itself alone', async () => {
    const [one, other] = [await ScriptModule.load(MODEL), await ScriptModule.load(MODEL)];
    expect(one).toEqual(one);
    expect(one).not.toEqual(other);
    assert.notDeepStrictEqual(one, other);
    expect(() => structuredClone(one)).toThrow(/could not be cloned/);
    expect(JSON.parse(JSON.stringify({ one }))).toEqual({
      one: { type: 'TextModel', modules: expect.any(Number), parameters: expect.any(Number), device: 'cpu' },
    });
    one.dispose();
    expect(JSON.stringify(one)).toBe('null');
  });
});

describe('texts of tensors', () => {
  test('String() and templates show what console.log shows', () => {
    const tensor = values();
    expect(String(tensor)).toBe(inspect(tensor));
    expect(`${tensor}`).toMatch(/shape: \[ 2, 3 \],\s+dtype: 'float32',.*values: \[ \[ 1, 0, 2 \], \[ 3, 1, 1 \] \]/s);
    tensor.dispose();
    expect(String(tensor)).toBe('Tensor { (disposed) }');
  });

  test.each<[DType, number[]]>([
    ['float32', [1.5, -2, 0.1]],
    ['float64', [Math.PI, 1e300, -0.5]],
    ['float16', [1.5, -2, 65504]],
    ['bfloat16', [1.5, -2, 3]],
    ['int64', [1, -2, 2 ** 53 - 1]],
    ['int32', [1, -2, 3]],
    ['int16', [1, -2, 3]],
    ['int8', [1, -2, 3]],
    ['uint8', [1, 2, 255]],
    ['uint16', [1, 2, 65535]],
    ['uint32', [1, 2, 2 ** 32 - 1]],
    ['uint64', [1, 2, 2 ** 53 - 1]],
    ['complex64', [1.5, -2, 0.1, 0, -0.5, 3]],
    ['complex128', [Math.PI, 1e300, -0.5, 0, 1, 2]],
    ['bool', [1, 0, 1]],
  ])('JSON of %s makes the same tensor again', (dtype, elements) => {
    const tensor = Tensor.from(elements, { dtype, shape: [1, 3] });
    const text = JSON.stringify({ tensor });
    const { data, ...options } = (JSON.parse(text) as { tensor: TensorJson }).tensor;
    expect(Tensor.from(data as number[][], options)).toEqual(tensor);
    const [entry] = parseJson(text).entries;
    expect(Tensor.from(entry!.data, { dtype: entry!.dtype, shape: entry!.shape })).toEqual(tensor);
  });

  test('JSON has what it has no number for as texts, which files of inputs may hold', () => {
    const floats = Tensor.from([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
    expect(JSON.stringify(floats)).toBe('{"dtype":"float32","shape":[3],"data":["NaN","Infinity","-Infinity"]}');
    const large = Tensor.from([2n ** 62n + 1n, -1n]);
    expect(JSON.stringify(large)).toBe('{"dtype":"int64","shape":[2],"data":["4611686018427387905",-1]}');
    for (const tensor of [floats, large]) {
      const [entry] = parseJson(JSON.stringify({ tensor })).entries;
      expect(Tensor.from(entry!.data, { dtype: entry!.dtype })).toEqual(tensor);
    }
    for (const wrong of ['"x"', '"1e5"', '""', '"1.5"', '"nan"']) {
      expect(() => parseJson(`{"tensor":{"dtype":"int64","data":[${wrong}]}}`)).toThrow(/expected integers/);
    }
    expect(() => parseJson('{"tensor":{"dtype":"float32","data":["many"]}}')).toThrow(/expected numbers for float32/);
  });

  test('JSON of a tensor too large to be looked at is an error', () => {
    expect(() => JSON.stringify(Tensor.zeros([2 ** 26]))).toThrow(/at most 33554432 elements/);
  });
});

describe('copies of tensors', () => {
  const rebuilt = (clone: unknown): Tensor => {
    const { data, ...options } = (clone as { contents: TensorContents }).contents;
    return Tensor.from(data, options);
  };

  test('structuredClone gives what the same tensor can be made of', () => {
    for (const dtype of ['float32', 'int64', 'bfloat16', 'bool'] as const) {
      const tensor = values(dtype);
      const clone = structuredClone(tensor);
      tensor.dispose();
      expect(rebuilt(clone)).toEqual(values(dtype));
    }
  });

  test('so does postMessage', () => {
    const { port1, port2 } = new MessageChannel();
    port1.postMessage({ results: [values()] });
    const { message } = receiveMessageOnPort(port2) as { message: { results: unknown[] } };
    port1.close();
    expect(rebuilt(message.results[0])).toEqual(values());
  });
});
