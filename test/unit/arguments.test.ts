import fc from 'fast-check';
import {
  assembleAttention,
  attentionRelevance,
  attentionRollout,
  HookedModel,
  nn,
  RemovableHandle,
  ScriptModule,
  ScriptObject,
  Tensor,
} from '../../lib/index';

const REFUSED = expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' });

/** A buffer that can shrink or be detached (Node's own types don't know that yet). */
function resizable(bytes: number, most = bytes): ArrayBuffer & { resize(bytes: number): void } {
  const Resizable = ArrayBuffer as unknown as new (
    bytes: number,
    options: object,
  ) => ArrayBuffer & { resize(bytes: number): void };
  return new Resizable(bytes, { maxByteLength: most });
}

function detach(buffer: ArrayBuffer): void {
  structuredClone(buffer, { transfer: [buffer] });
}

/** Shapes whose reading does something to the data. */
function shapeThat(act: () => void, sizes: readonly number[]): number[] {
  const shape = [...sizes];
  Object.defineProperty(shape, 0, {
    get: () => {
      act();
      return sizes[0];
    },
  });
  return shape;
}

describe('Tensor.from', () => {
  test.each<[string, () => unknown]>([
    [
      'an array that contains itself',
      () => {
        const array: unknown[] = [];
        array[0] = array;
        return array;
      },
    ],
    ['arrays nested 100,000 deep', () => Array.from({ length: 1e5 }).reduce((inner: unknown) => [inner], 1)],
    ['an array of 4 billion holes', () => new Array(2 ** 32 - 1)],
    [
      'an array that says it is longer than any',
      () => new Proxy([1], { get: (_, key) => (key === 'length' ? 2 ** 53 : 1) }),
    ],
    ['an array whose length is none', () => new Proxy([1], { get: (_, key) => (key === 'length' ? Number.NaN : 1) })],
    [
      'a proxy that was revoked',
      () => {
        const { proxy, revoke } = Proxy.revocable([1], {});
        revoke();
        return proxy;
      },
    ],
    [
      'an array whose getter throws',
      () =>
        Object.defineProperty([1], 0, {
          get() {
            throw new RangeError('mine');
          },
        }),
    ],
    ['what is a typed array by its prototype only', () => Object.create(Float32Array.prototype)],
    [
      'a typed array whose buffer is gone',
      () => {
        const data = new Float32Array(4);
        detach(data.buffer);
        return data;
      },
    ],
    ['an object that turns into a number', () => [{ valueOf: () => 1 }]],
    ['a symbol', () => [Symbol('x')]],
  ])('Tensor.from refuses %s', (_, make) => {
    expect(() => Tensor.from(make() as never)).toThrow(REFUSED);
    expect(() => Tensor.from(make() as never, { copy: false })).toThrow(REFUSED);
  });

  test('a shape that changes while it is read is read once', () => {
    let reads = 0;
    const shape = shapeThat(() => ++reads, [4]);
    expect(Tensor.from([1, 2, 3, 4], { shape }).shape).toEqual([4]);
    expect(reads).toBe(1);
    const growing = new Proxy([2, 2], {
      get: (target, key) => (key === '0' && reads++ > 1 ? 2 ** 40 : Reflect.get(target, key)),
    });
    reads = 0;
    expect(Tensor.from([1, 2, 3, 4], { shape: growing }).shape).toEqual([2, 2]);
  });

  test.each([
    ['is detached', (buffer: ReturnType<typeof resizable>) => detach(buffer)],
    ['shrinks', (buffer: ReturnType<typeof resizable>) => buffer.resize(4)],
    ['grows', (buffer: ReturnType<typeof resizable>) => buffer.resize(1 << 20)],
  ])('data whose buffer %s while the shape is read gives its elements or an error, never other memory', (_, act) => {
    for (const dtype of ['float32', 'float16', 'int64', 'bool', undefined] as const) {
      for (const tracking of [true, false]) {
        const buffer = resizable(4096, 1 << 20);
        const data = tracking ? new Float32Array(buffer) : new Float32Array(buffer, 0, 1024);
        const shape = shapeThat(() => act(buffer), [1024]);
        try {
          const { length } = Tensor.from(data.fill(1), { shape, ...(dtype && { dtype }) }).toTypedArray();
          expect(length).toBe(1024);
        } catch (error) {
          expect(error).toEqual(REFUSED);
        }
      }
    }
  });

  test('what a subclass of a typed array says of itself does not count', () => {
    class Long extends Float32Array {
      override get length(): number {
        return 2 ** 30;
      }
      override get byteLength(): number {
        return 2 ** 32;
      }
      override get byteOffset(): number {
        return -8;
      }
      override get buffer(): ArrayBuffer {
        return new ArrayBuffer(2);
      }
      override *[Symbol.iterator](): ArrayIterator<number> {
        yield 7;
      }
    }
    const data = Object.setPrototypeOf(Float32Array.of(1, 2, 3), Long.prototype) as Float32Array;
    expect(Array.from(Tensor.from(data).toTypedArray() as Float32Array)).toEqual([1, 2, 3]);
    expect(Array.from(Tensor.from(data, { dtype: 'int32' }).toTypedArray() as Int32Array)).toEqual([1, 2, 3]);
    const other = Object.setPrototypeOf(Float32Array.of(1, 2, 3), BigInt64Array.prototype) as Float32Array;
    expect(Tensor.from(other).dtype).toBe('float32');
  });
});

describe('operations and constructors', () => {
  test.each<[string, () => unknown]>([
    ['zeros beyond all memory', () => Tensor.zeros([2 ** 40])],
    ['zeros of too many elements to count', () => Tensor.zeros([2 ** 30, 2 ** 30])],
    ['sizes whose product wraps around to the right one', () => Tensor.zeros([16]).reshape([2 ** 52, 2 ** 12, 2 ** 4])],
    ['a sum that broadcasts beyond all memory', () => Tensor.zeros([2 ** 20, 1]).add(Tensor.zeros([2 ** 20]))],
    ['100 dimensions', () => Tensor.zeros(Array(100).fill(1))],
    ['what has only the prototype of a tensor', () => Tensor.zeros([1]).add(Object.create(Tensor.prototype) as Tensor)],
    ['a proxy of a tensor', () => Tensor.zeros([1]).add(new Proxy(Tensor.zeros([1]), {}))],
    ['a tensor of no handle', () => Reflect.construct(Tensor, [{}])],
    ['a tensor made by its constructor', () => Reflect.construct(Tensor, [])],
    ['a model made by its constructor', () => Reflect.construct(ScriptModule, [])],
    ['a handle made by its constructor', () => Reflect.construct(RemovableHandle, [])],
    ['an object of a model made by its constructor', () => Reflect.construct(ScriptObject, [])],
    ['a module of nn of no kind', () => Reflect.construct(nn.Module, [])],
    ['a model by its prototype only', () => new HookedModel(Object.create(nn.LayerNorm.prototype) as nn.LayerNorm)],
    [
      'a proxy of a part',
      () => new nn.TransformerEncoder(new Proxy(new nn.TransformerEncoderLayer({ dModel: 4, nhead: 2 }), {}), 1),
    ],
  ])('%s are refused', (_, call) => {
    expect(call).toThrow(REFUSED);
  });
});

describe('captureAttention', () => {
  test('an input that is another one each time it is read is read once', async () => {
    const mha = new nn.MultiheadAttention({ embedDim: 4, numHeads: 2, batchFirst: true }).eval();
    const right = Tensor.zeros([1, 3, 4]);
    const wrong = Tensor.zeros([2, 100, 4]);
    let reads = 0;
    const inputs = new Proxy([right, right, right], {
      get: (target, key) => (key === '1' && reads++ > 0 ? wrong : Reflect.get(target, key)),
    });
    const { attentions } = await mha.captureAttention(inputs);
    expect(attentions[0]?.weights.shape).toEqual([1, 2, 3, 3]);
  });
});

describe('forward', () => {
  test('a signal that is none is refused', async () => {
    const module = new nn.LayerNorm(4);
    const signal = Object.create(AbortSignal.prototype) as AbortSignal;
    await expect(module.forward(Tensor.zeros([1, 4]), { signal })).rejects.toEqual(REFUSED);
  });

  test('what a hook throws may be anything', async () => {
    const module = new nn.LayerNorm(4);
    for (const thrown of [Object.create(null), Symbol('x'), new Proxy({}, { get: () => Symbol('y') }), undefined]) {
      const handle = module.registerForwardHook('', () => {
        throw thrown;
      });
      await expect(module.forward(Tensor.zeros([1, 4]))).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED' });
      handle.remove();
    }
  });
});

describe('assembleAttention, attentionRollout and attentionRelevance', () => {
  describe('attentions of a caller', () => {
    const anything = fc.oneof(
      fc.anything({ maxDepth: 2 }),
      fc.constant(null),
      fc.constant(Tensor.zeros([1, 1, 2, 2])),
      fc.constant(
        new Proxy(
          {},
          {
            get: () => {
              throw new Error('mine');
            },
          },
        ),
      ),
    );
    const attention = fc.record(
      {
        index: anything,
        name: anything,
        operator: anything,
        shape: fc.oneof(anything, fc.constant([1, 1, 2, 2])),
        weights: fc.oneof(
          { arbitrary: fc.constant(Tensor.zeros([1, 1, 2, 2])), weight: 5 },
          { arbitrary: anything, weight: 1 },
        ),
        heads: fc.oneof(anything, fc.constant([0])),
        queries: fc.oneof(anything, fc.constant([0, 1])),
        gradient: anything,
      },
      { requiredKeys: [] },
    );

    test('give a result or an error with a code', async () => {
      const coded = (error: unknown): void => {
        expect((error as { code?: unknown }).code).toMatch(/^ERR_/);
      };
      await fc.assert(
        fc.asyncProperty(fc.array(fc.oneof(attention, anything), { maxLength: 3 }), async (attentions) => {
          await assembleAttention([{ attentions } as never, { attentions } as never]).catch(coded);
          for (const call of [attentionRollout, attentionRelevance]) {
            try {
              call(attentions as never);
            } catch (error) {
              coded(error);
            }
          }
        }),
        { numRuns: 300 },
      );
    });
  });

  test('a promise that is rejected where none belongs does not end the process', async () => {
    const weights = Tensor.zeros([1, 1, 2, 2]);
    const attention = {
      index: 0,
      name: 'a',
      operator: 'softmax',
      shape: [1, 1, 2, 2] as [number, number, number, number],
      weights,
      heads: [0],
      queries: [0, 1],
    };
    const keyOffset = (async () => {
      throw new Error('mine');
    }) as never;
    await expect(assembleAttention([{ attentions: [attention] }], { keyOffset })).rejects.toEqual(REFUSED);

    const module = new nn.MultiheadAttention({ embedDim: 4, numHeads: 2, batchFirst: true }).eval();
    const x = Tensor.zeros([1, 3, 4]);
    const onProgress = async () => {
      throw new Error('mine');
    };
    const results = module.captureMany([[x, x, x]], { onProgress });
    await expect(results.next()).rejects.toThrow('mine');
  });

  test('steps that break the protocol of iterators are refused', async () => {
    const results: unknown[] = [null, 1, undefined, () => {}];
    for (const result of results) {
      const steps = { [Symbol.iterator]: () => ({ next: () => result }) };
      await expect(assembleAttention(steps as never)).rejects.toEqual(REFUSED);
    }
    for (const iterator of [null, 1, {}]) {
      await expect(assembleAttention({ [Symbol.asyncIterator]: () => iterator } as never)).rejects.toEqual(REFUSED);
    }
  });
});
