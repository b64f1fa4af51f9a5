import { type DType, Tensor } from '../../lib/index';

describe('Tensor.zeros', () => {
  test('zeros are there to be filled', () => {
    const tensor = Tensor.zeros([2, 3], { dtype: 'int64' });
    expect(tensor).toMatchObject({ shape: [2, 3], dtype: 'int64', device: 'cpu' });
    expect(Tensor.zeros([]).dtype).toBe('float32');
    (tensor.toTypedArray() as BigInt64Array).set([1n, 2n], 2);
    expect(Array.from(tensor.toTypedArray() as BigInt64Array)).toEqual([0n, 0n, 1n, 2n, 0n, 0n]);
    for (const wrong of [
      () => Tensor.zeros([-1]),
      () => Tensor.zeros(3 as never),
      () => Tensor.zeros(Object.assign([1], { 2: 2 })),
      () => tensor.reshape(Object.assign([3], { 2: 2 })),
      () => Tensor.zeros([1], { dtype: 'x' as never }),
    ]) {
      expect(wrong).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
    }
  });
});

describe('Tensor#toTypedArray', () => {
  test('the typed array of a CPU tensor is its memory, a view’s is its elements in order', () => {
    const tensor = Tensor.from([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const array = tensor.toTypedArray();
    array[0] = 10;
    expect((tensor.toTypedArray() as Float32Array)[0]).toBe(10);
    expect(Array.from(tensor.transpose(0, 1).toTypedArray() as Float32Array)).toEqual([10, 4, 2, 5, 3, 6]);
    expect(Array.from(tensor.select(0, 1).toTypedArray() as Float32Array)).toEqual([4, 5, 6]);
  });

  test('a typed array outlives its tensor', () => {
    const tensor = Tensor.from(new Float32Array(1000).fill(7));
    const array = tensor.toTypedArray();
    tensor.dispose();
    globalThis.gc?.();
    expect(array.every((element: number | bigint) => element === 7)).toBe(true);
  });
});

describe('Tensor#copyTo', () => {
  test('copies the elements in order as float32, and nothing into an array of another length', () => {
    const tensor = Tensor.from(BigInt64Array.of(1n, 2n, 3n, 4n, 5n, 6n), { shape: [2, 3] });
    const target = new Float32Array(8);
    tensor.transpose(0, 1).copyTo(target.subarray(1, 7));
    expect(Array.from(target)).toEqual([0, 1, 4, 2, 5, 3, 6, 0]);
    expect(() => tensor.copyTo(target)).toThrow(/Expected 24 bytes of data but received 32/);
    tensor.dispose();
    expect(() => tensor.copyTo(target)).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  });
});

describe('Tensor#dispose', () => {
  test('a disposed tensor throws, disposing twice does not', () => {
    const tensor = Tensor.from([1]);
    tensor.dispose();
    tensor.dispose();
    for (const use of [() => tensor.shape, () => tensor.toTypedArray(), () => tensor.add(1), () => tensor.item()]) {
      expect(use).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
    }
    return expect(tensor.data()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });
});

describe('operations of Tensor', () => {
  test('operations compute what PyTorch’s do', async () => {
    const tensor = Tensor.from([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    const list = (each: Tensor) => Array.from(each.toTypedArray() as Float32Array, Number);
    expect(list(tensor.sum())).toEqual([21]);
    expect(list(tensor.sum(0))).toEqual([5, 7, 9]);
    expect(list(tensor.mean(-1))).toEqual([2, 5]);
    expect(list(tensor.argmax(1))).toEqual([2, 2]);
    expect(tensor.argmax().item()).toBe(5n);
    expect(list(tensor.narrow(1, 1, 2))).toEqual([2, 3, 5, 6]);
    expect(tensor.reshape([3, -1]).shape).toEqual([3, 2]);
    expect(list(tensor.add(tensor).mul(0.5))).toEqual([1, 2, 3, 4, 5, 6]);
    const softmax = list(Tensor.from([0, Math.log(3)]).softmax(0));
    expect(softmax[0]).toBeCloseTo(0.25, 6);
    expect(await tensor.data()).toEqual(new Float32Array([1, 2, 3, 4, 5, 6]));
    expect(tensor.to({ dtype: 'int32' }).toTypedArray()).toEqual(new Int32Array([1, 2, 3, 4, 5, 6]));
    expect(Tensor.from([true]).item()).toBe(true);
    expect(Tensor.from([2.5]).item()).toBe(2.5);
  });

  test.each<[string, (tensor: Tensor) => unknown]>([
    ['an index out of range', (tensor) => tensor.select(0, 9)],
    ['a dimension out of range', (tensor) => tensor.sum(7)],
    ['a shape of another size', (tensor) => tensor.reshape([5])],
    ['shapes that do not broadcast', (tensor) => tensor.add(Tensor.from([1, 2, 3, 4, 5]))],
    ['an item of many', (tensor) => tensor.item()],
    ['no number', (tensor) => tensor.select('x' as never, 0)],
  ])('%s in an operation is an error without a C++ backtrace', (_, use) => {
    const tensor = Tensor.from([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(() => use(tensor)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
    expect(() => use(tensor)).not.toThrow(/frame #\d|Exception raised from/);
  });
});

describe('Tensor#backward', () => {
  test('gradients reach leaves, and add up', async () => {
    const x = Tensor.from([1, 2, 3]);
    expect(x.requiresGrad).toBe(false);
    x.requiresGrad = true;
    expect(x.grad).toBeNull();
    await x.mul(x).sum().backward();
    expect(x.grad?.toTypedArray()).toEqual(new Float32Array([2, 4, 6]));
    await x.mul(2).backward(Tensor.from([1, 10, 100]));
    expect(x.grad?.toTypedArray()).toEqual(new Float32Array([4, 24, 206]));
    await expect(Tensor.from([1, 2]).backward()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });
});

describe('Tensor#toArray', () => {
  describe('toArray()', () => {
    test.each([
      [
        Tensor.from([
          [1, 2],
          [3, 4],
        ]),
        [
          [1, 2],
          [3, 4],
        ],
      ],
      [Tensor.from([[[1n, -2n]]]), [[[1n, -2n]]]],
      [Tensor.from([true, false]), [true, false]],
      [Tensor.from(2.5), 2.5],
      [Tensor.from([1.5, -2], { dtype: 'float16' }), [1.5, -2]],
      [Tensor.from([1.5, -2], { dtype: 'bfloat16' }), [1.5, -2]],
      [
        Tensor.from(
          [
            [1, 2],
            [3, 4],
          ],
          { dtype: 'int8' },
        ).transpose(0, 1),
        [
          [1, 3],
          [2, 4],
        ],
      ],
      [Tensor.zeros([2, 0, 3]), [[], []]],
    ])('gives nested elements', (tensor, expected) => {
      expect(tensor.toArray()).toEqual(expected);
    });

    test('gives what makes the same tensor', () => {
      for (const dtype of ['float32', 'int64', 'bool'] as const) {
        const tensor = Tensor.from(
          [
            [0, 1],
            [1, 1],
          ],
          { dtype },
        );
        const again = Tensor.from(tensor.toArray());
        expect([again.dtype, again.shape, again.toTypedArray()]).toEqual([dtype, tensor.shape, tensor.toTypedArray()]);
      }
    });

    test('refuses what would fill the heap', () => {
      for (const shape of [[2 ** 26], [2 ** 26, 0], [2 ** 20, 2 ** 20, 0]]) {
        expect(() => Tensor.zeros(shape).toArray()).toThrow(/at most 33554432 elements and rows for toArray/);
      }
    });

    test('of a disposed tensor is an error', () => {
      const tensor = Tensor.from([1]);
      tensor.dispose();
      expect(() => tensor.toArray()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
    });
  });
});

describe('Tensor.from', () => {
  test.each<[DType, unknown]>([
    ['float32', new Float32Array([1.5, -2, 0, 3e38])],
    ['float64', new Float64Array([1.5, -2, Math.PI, 1e300])],
    ['int64', new BigInt64Array([1n, -2n, 2n ** 62n, 0n])],
    ['int32', new Int32Array([1, -2, 2 ** 30, 0])],
    ['int16', new Int16Array([1, -2, 32767, 0])],
    ['int8', new Int8Array([1, -2, 127, 0])],
    ['uint8', new Uint8Array([1, 2, 255, 0])],
    ['bool', new Uint8Array([1, 0, 1, 0])],
    ['float16', new Uint16Array([0x3c00, 0xc000, 0x7bff, 0])],
    ['bfloat16', new Uint16Array([0x3f80, 0xc000, 0x7f7f, 0])],
    ['uint16', new Uint16Array([1, 2, 65535, 0])],
    ['uint32', new Uint32Array([1, 2, 2 ** 32 - 1, 0])],
    ['uint64', new BigUint64Array([1n, 2n, 2n ** 64n - 1n, 0n])],
    ['complex64', new Float32Array([1.5, -2, -0, 3e38, Number.NaN, 1, 0, Number.NEGATIVE_INFINITY])],
    ['complex128', new Float64Array([1.5, -2, -0, 3e300, Number.NaN, 1, 0, Number.NEGATIVE_INFINITY])],
  ])('%s goes through libtorch and back unchanged', (dtype, data) => {
    const tensor = Tensor.from(data as Float32Array, { shape: [2, 2], dtype });
    expect(tensor.dtype).toBe(dtype);
    expect(tensor.shape).toEqual([2, 2]);
    expect(tensor.device).toBe('cpu');
    expect(tensor.toTypedArray()).toEqual(data);
  });

  test('numbers become the element type asked for, with ties to even in half types', () => {
    const values = [
      1,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      65504,
      65520,
      2 ** -24,
      2 ** -25,
      3 * 2 ** -26,
      -0.1,
      Number.NaN,
    ];
    const half = Tensor.from(values, { dtype: 'float16' }).toTypedArray();
    // What torch.tensor(values, dtype=torch.float16).view(torch.int16) gives.
    expect(Array.from(half as Uint16Array)).toEqual([0x3c00, 0x3c00, 0x3c02, 0x7bff, 0x7c00, 1, 0, 1, 0xae66, 0x7e00]);
    const brain = Tensor.from([1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -0.1, Number.POSITIVE_INFINITY], { dtype: 'bfloat16' });
    expect(Array.from(brain.toTypedArray() as Uint16Array)).toEqual([0x3f80, 0x3f80, 0x3f82, 0xbdcd, 0x7f80]);
  });

  test('nested arrays give shape and type', () => {
    expect(
      Tensor.from([
        [1, 2, 3],
        [4, 5, 6],
      ]).shape,
    ).toEqual([2, 3]);
    expect(Tensor.from([[1n], [2n]]).dtype).toBe('int64');
    expect(Tensor.from([true, false]).dtype).toBe('bool');
    expect(Tensor.from(5).shape).toEqual([]);
    expect(Tensor.from([]).shape).toEqual([0]);
    expect(Tensor.from([1, 2, 3, 4], { shape: [2, 2], dtype: 'int8' }).toTypedArray()).toEqual(
      new Int8Array([1, 2, 3, 4]),
    );
  });

  test('int64 reaches to its ends', () => {
    const ends = [-(2n ** 63n), 2n ** 63n - 1n];
    expect(Array.from(Tensor.from(ends).toTypedArray() as BigInt64Array)).toEqual(ends);
    expect(
      Tensor.from([-(2 ** 63)], { dtype: 'int64' })
        .select(0, 0)
        .item(),
    ).toBe(ends[0]);
  });

  test.each<[string, () => unknown, RegExp]>([
    ['ragged rows', () => Tensor.from([[1, 2], [3]]), /rows of equal length/],
    ['mixed depths', () => Tensor.from([[1, 2], 3] as never), /Expected an array/],
    ['a shape of another size', () => Tensor.from([1, 2, 3], { shape: [2, 2] }), /Expected 4 elements.*received 3/],
    ['a negative size', () => Tensor.from([1], { shape: [-1] }), /at least 0/],
    ['an unknown type', () => Tensor.from([1], { dtype: 'float8' as never }), /float32.*received 'float8'/],
    ['a string', () => Tensor.from(['x'] as never), /numbers, bigints or booleans/],
    ['a fraction as int64', () => Tensor.from([1.5], { dtype: 'int64' }), /integer.*1\.5/],
    ['256 as uint8', () => Tensor.from([256], { dtype: 'uint8' }), /from 0 to 255.*256/],
    [
      '2⁶³ as int64',
      () => Tensor.from([2n ** 63n]),
      /to 9223372036854775807 for element 0 of int64.*received 9223372036854775808/,
    ],
    ['less than −2⁶³', () => Tensor.from([0n, -(2n ** 63n) - 1n]), /element 1 of int64.*-9223372036854775809/],
    ['a large number as int64', () => Tensor.from([2 ** 70], { dtype: 'int64' }), /element 0 of int64/],
    ['a large float64 as int64', () => Tensor.from(Float64Array.of(1e300), { dtype: 'int64' }), /element 0 of int64/],
    ['bits without a half type', () => Tensor.from(new Uint16Array(1) as never), /options\.dtype/],
    ['an unknown option', () => Tensor.from([1], { size: [1] } as never), /'size'/],
    ['an unknown device', () => Tensor.from([1], { device: 'tpu9' }), /device/i],
  ])('%s is an error that says so', (_, make, message) => {
    expect(make).toThrow(message);
    expect(make).toThrow(expect.objectContaining({ code: expect.stringMatching(/^ERR_/) }));
  });

  test('a device that this machine lacks is unavailable, not a crash', () => {
    expect(() => Tensor.from([1], { device: 'cuda:99' })).toThrow(
      expect.objectContaining({ code: 'ERR_DEVICE_UNAVAILABLE' }),
    );
  });

  describe('without a copy', () => {
    test('an ArrayBuffer is taken over: the tensor has its elements, and the array has gone', () => {
      const data = Float32Array.from([1, 2, 3, 4, 5, 6]);
      const tensor = Tensor.from(data, { shape: [2, 3], copy: false });
      expect(tensor).toMatchObject({ shape: [2, 3], dtype: 'float32', device: 'cpu' });
      expect(Array.from(tensor.toTypedArray(), Number)).toEqual([1, 2, 3, 4, 5, 6]);
      expect(data).toHaveLength(0);
      expect(Array.from(tensor.add(1).toTypedArray(), Number)).toEqual([2, 3, 4, 5, 6, 7]);
    });

    test('the array of such a tensor is its memory, and outlives it', () => {
      const tensor = Tensor.from(new Float64Array(1000).fill(7), { copy: false });
      const view = tensor.toTypedArray() as Float64Array;
      view[0] = 1;
      expect(tensor.select(0, 0).item()).toBe(1);
      tensor.dispose();
      globalThis.gc?.();
      expect(view.at(-1)).toBe(7);
    });

    test('a SharedArrayBuffer stays where it is, also in part: what is written on either side shows on the other', () => {
      const shared = new Int32Array(new SharedArrayBuffer(32));
      const tensor = Tensor.from(shared.subarray(2, 6), { shape: [2, 2], copy: false });
      shared[3] = 5;
      expect(Array.from(tensor.toTypedArray(), Number)).toEqual([0, 5, 0, 0]);
      (tensor.toTypedArray() as Int32Array)[3] = 9;
      expect(Array.from(shared)).toEqual([0, 0, 0, 5, 0, 9, 0, 0]);
    });

    test('half types and booleans lie in the arrays of their bits', () => {
      const half = Tensor.from(Uint16Array.of(0x3c00), { dtype: 'float16', copy: false });
      expect(half.item()).toBe(1);
      const yes = Tensor.from(Uint8Array.of(1, 0), { dtype: 'bool', copy: false });
      expect(yes.select(0, 0).item()).toBe(true);
      expect(Tensor.from(new Float32Array(0), { shape: [0, 3], copy: false }).shape).toEqual([0, 3]);
    });

    const whole = new Float32Array(4);
    const detached = new Float32Array(4);
    structuredClone(detached.buffer, { transfer: [detached.buffer] });
    const resizable = new (ArrayBuffer as unknown as new (size: number, options: object) => ArrayBuffer)(16, {
      maxByteLength: 32,
    });
    test.each<[string, unknown, object]>([
      ['another type of elements', new Float32Array(4), { dtype: 'float64' }],
      ['a half type that was not named', new Uint16Array(4), {}],
      ['bytes that are no booleans', Uint8Array.of(0, 2), { dtype: 'bool' }],
      ['a shape of another size', new Float32Array(4), { shape: [5] }],
      ['another device', new Float32Array(4), { device: 'cuda:0' }],
      ['nested arrays', [[1, 2]], {}],
      ['a number', 5, {}],
      ['a part of an ArrayBuffer, whose other views would lose it', whole.subarray(1), {}],
      ['what lies in the pool of small Buffers', new Uint8Array(Buffer.from('abc').buffer, 0, 3), {}],
      ['the whole pool', new Uint8Array(Buffer.from('abc').buffer), {}],
      ['an ArrayBuffer that was transferred', detached, {}],
      ['a resizable ArrayBuffer', new Float32Array(resizable), {}],
      [
        'memory of WebAssembly, which moves as it grows',
        new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer),
        {},
      ],
      ['the memory of another tensor', Tensor.from([1, 2]).toTypedArray(), {}],
      ['a copy option that is no boolean', new Float32Array(4), { copy: 0 }],
    ])('%s is an error that says so, and the data stays what it was', (_, data, options) => {
      const before = (data as Uint8Array).length;
      const call = () => Tensor.from(data as Uint8Array, { copy: false, ...options });
      expect(call).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
      expect((data as Uint8Array).length).toBe(before);
    });
  });
});
