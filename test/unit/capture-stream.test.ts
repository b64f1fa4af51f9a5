import { spawn } from 'node:child_process';
import { EventEmitter, on } from 'node:events';
import { join } from 'node:path';
import { type Attention, ScriptModule, Tensor } from '../../lib';

const file = join(__dirname, '..', 'fixtures', 'models', 'encoder_relu.pt');
let checkpoint: ScriptModule;
let input: Tensor;

beforeAll(async () => {
  checkpoint = await ScriptModule.load(file);
  // The shape that the fixture was made with: what it takes is its own business.
  const shape = [3, 7, 32];
  const width = checkpoint.namedParameters().find(({ name }) => name.endsWith('norm1.weight'))?.tensor.shape[0] ?? 32;
  shape[2] = width;
  input = Tensor.from(
    Float32Array.from({ length: 3 * 7 * width }, (_, i) => Math.sin(i * 12.9898)),
    { shape },
  );
});

const values = (attention: Attention): number[] => [...(attention.weights.toTypedArray() as Float32Array)];

describe('captureAttention', () => {
  test('onAttention gets what would have been collected, one after the other', async () => {
    const { attentions } = await checkpoint.captureAttention([input]);
    let busy = false;
    const seen: Attention[] = [];
    const streamed = await checkpoint.captureAttention([input], {
      onAttention: async (attention) => {
        expect(busy).toBe(false);
        busy = true;
        await new Promise((resolve) => setTimeout(resolve, 10));
        busy = false;
        seen.push(attention);
      },
    });
    expect(streamed.attentions).toEqual([]);
    expect(seen.map(({ name }) => name)).toEqual(attentions.map(({ name }) => name));
    expect(seen.map(values)).toEqual(attentions.map(values));
  });

  test('what onAttention throws rejects the call', async () => {
    const cause = new Error('enough');
    await expect(
      checkpoint.captureAttention([input], {
        onAttention: () => {
          throw cause;
        },
      }),
    ).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause });
  });

  test('onAttention goes without gradientOf', async () => {
    await expect(
      checkpoint.captureAttention([input], { onAttention: () => {}, gradientOf: (output) => (output as Tensor).sum() }),
    ).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });

  test('topK gives the largest weights of every row and where they are', async () => {
    const full = (await checkpoint.captureAttention([input])).attentions[0] as Attention;
    const top = (await checkpoint.captureAttention([input], { topK: 3 })).attentions[0] as Attention;
    expect(top.weights.shape).toEqual([...full.weights.shape.slice(0, 3), 3]);
    expect(top.keys?.shape).toEqual(top.weights.shape);
    const keys = full.weights.shape[3] as number;
    const all = values(full);
    const rows = all.length / keys;
    const expected: number[] = [];
    const positions: bigint[] = [];
    for (let row = 0; row < rows; ++row) {
      const order = Array.from({ length: keys }, (_, key) => key).sort(
        (a, b) => (all[row * keys + b] as number) - (all[row * keys + a] as number) || a - b,
      );
      for (const key of order.slice(0, 3)) {
        expected.push(all[row * keys + key] as number);
        positions.push(BigInt(key));
      }
    }
    expect(values(top)).toEqual(expected);
    expect(Array.from((top.keys as Tensor).toTypedArray() as BigInt64Array)).toEqual(positions);
    const more = (await checkpoint.captureAttention([input], { topK: 100 })).attentions[0] as Attention;
    expect(more.weights.shape).toEqual(full.weights.shape);
    await expect(checkpoint.captureAttention([input], { topK: 0 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });
});

describe('captureAttentionStream', () => {
  test('a stream gives the attentions and the output', async () => {
    const { output, attentions } = await checkpoint.captureAttention([input]);
    const stream = checkpoint.captureAttentionStream([input]);
    const seen: Attention[] = [];
    for await (const attention of stream) seen.push(attention);
    expect(seen.map(values)).toEqual(attentions.map(values));
    expect(((await stream.output) as Tensor).toTypedArray()).toEqual((output as Tensor).toTypedArray());
  });

  test('options that are undefined are as good as absent, those of captureAttention too', async () => {
    const names: string[] = [];
    const given = { layers: [-1], heads: undefined, onAttention: undefined, gradientOf: undefined };
    for await (const { name } of checkpoint.captureAttentionStream([input], given as object)) names.push(name);
    expect(names).toHaveLength(1);
  });

  test('a stream that is left early stops the run', async () => {
    const stream = checkpoint.captureAttentionStream([input]);
    for await (const attention of stream) {
      expect(attention.index).toBe(0);
      break;
    }
    await expect(stream.output).rejects.toMatchObject({ name: 'AbortError' });
  });

  describe('a stream without a loop, or with more than one', () => {
    test('the output alone runs it through', async () => {
      const { output } = await checkpoint.captureAttention([input]);
      const stream = checkpoint.captureAttentionStream([input]);
      expect(((await stream.output) as Tensor).toTypedArray()).toEqual((output as Tensor).toTypedArray());
      expect(() => stream[Symbol.asyncIterator]()).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
    });

    test('an output asked for ahead of the loop leaves the attentions to the loop', async () => {
      const stream = checkpoint.captureAttentionStream([input]);
      const { output } = stream;
      let count = 0;
      for await (const attention of stream) count += attention.weights.shape.length && 1;
      expect(count).toBe((await checkpoint.attentionSites([input])).length);
      await expect(output).resolves.toBeInstanceOf(Tensor);
    });

    test('a return ahead of the first attention, and beside a next that waits, ends it', async () => {
      const stream = checkpoint.captureAttentionStream([input]);
      const iterator = stream[Symbol.asyncIterator]();
      expect(await iterator.return()).toEqual({ done: true, value: undefined });
      await expect(stream.output).rejects.toMatchObject({ name: 'AbortError' });
      expect(await iterator.next()).toEqual({ done: true, value: undefined });

      const started = checkpoint.captureAttentionStream([input]);
      const other = started[Symbol.asyncIterator]();
      const next = other.next();
      expect(await other.return()).toEqual({ done: true, value: undefined });
      expect(await next).toEqual({ done: true, value: undefined });
      await expect(started.output).rejects.toMatchObject({ name: 'AbortError' });
    });

    test('a second loop is refused with a code, and does not disturb the first', async () => {
      const stream = checkpoint.captureAttentionStream([input]);
      const again = async () => {
        for await (const _ of stream);
      };
      for await (const _ of stream) {
        await expect(again()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
      }
      await expect(again()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
      await expect(stream.output).resolves.toBeInstanceOf(Tensor);
    });

    test('one that nobody goes through does not run, nor keep the process', async () => {
      const script = `
      const { ScriptModule, Tensor } = require(${JSON.stringify(join(__dirname, '..', '..'))});
      ScriptModule.load(${JSON.stringify(file)}).then((model) => {
        model.captureAttentionStream([Tensor.zeros(${JSON.stringify(input.shape)})]);
      });`;
      const child = spawn(process.execPath, ['-e', script], { stdio: 'inherit' });
      const kill = setTimeout(() => child.kill('SIGKILL'), 30_000);
      const code = await new Promise((resolve) => child.on('close', resolve));
      clearTimeout(kill);
      expect(code).toBe(0);
    });
  });

  test.each<[string, object | null, RegExp]>([
    ['onAttention', { onAttention: () => {} }, /no onAttention.*captureAttentionStream.*received a function/],
    ['gradientOf', { gradientOf: () => {} }, /no gradientOf.*captureAttentionStream.*received a function/],
    [
      'an unknown option',
      { head: [0] },
      /options method, layers, .*, signal, timeLimit, memoryLimit in .*captureAttentionStream.*'head'/,
    ],
    ['no object', null, /an object.*captureAttentionStream.*null/],
  ])('a stream refuses %s', async (_, options, message) => {
    const stream = checkpoint.captureAttentionStream([input], options as object);
    const error = await stream[Symbol.asyncIterator]()
      .next()
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) });
    await expect(stream.output).rejects.toBe(error);
  });
});

describe('captureMany', () => {
  test('captureMany keeps the order, reports a failing input and goes on', async () => {
    const wrong = Tensor.from([1, 2, 3]);
    const progress: number[] = [];
    const results = [];
    for await (const result of checkpoint.captureMany([[input], [wrong], [input]], {
      layers: [0],
      onProgress: ({ done }) => progress.push(done),
    })) {
      results.push(result);
    }
    expect(results.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(results.map(({ error }) => error === undefined)).toEqual([true, false, true]);
    expect(progress).toEqual([1, 2, 3]);
  });

  test('captureMany takes no more inputs than it is ahead', async () => {
    let taken = 0;
    async function* source() {
      for (; taken < 10; ) {
        taken++;
        yield [input];
      }
    }
    for await (const result of checkpoint.captureMany(source(), { ahead: 1 })) {
      expect(taken).toBeLessThanOrEqual(result.index + 2);
      if (result.index === 3) break;
    }
    expect(taken).toBeLessThanOrEqual(5);
  });

  test('captureMany ends where it may be further ahead than there are inputs', async () => {
    const indices: number[] = [];
    for await (const { index } of checkpoint.captureMany([[input], [input]], { ahead: Number.MAX_SAFE_INTEGER }))
      indices.push(index);
    expect(indices).toEqual([0, 1]);
  });

  test('onAttention of captureMany gets the attentions of one input after the other, and is told which', async () => {
    const sites = (await checkpoint.attentionSites([input])).map(({ index }) => index);
    const seen: number[][] = [];
    let busy = false;
    for await (const { error } of checkpoint.captureMany([[input], [input], [input]], {
      ahead: 2,
      onAttention: async ({ index }, which) => {
        expect(busy).toBe(false);
        busy = true;
        await new Promise((resolve) => setTimeout(resolve, 5));
        busy = false;
        seen.push([which, index]);
      },
    })) {
      expect(error).toBeUndefined();
    }
    expect(seen).toEqual([0, 1, 2].flatMap((which) => sites.map((index) => [which, index])));
    const refused = checkpoint.captureMany([[input]], { onAttention: 5 as never });
    await expect(refused.next()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });

  test('captureMany awaits promises of inputs; one that is rejected ends the stream', async () => {
    const reason = new Error('no such file');
    const inputs = function* () {
      yield Promise.resolve([input]);
      yield Promise.reject(reason);
    };
    const results = checkpoint.captureMany(inputs());
    expect(await results.next()).toMatchObject({ value: { index: 0, attentions: expect.any(Array) } });
    await expect(results.next()).rejects.toBe(reason);
  });

  test('an input that fails without a reason counts as failed', async () => {
    const onProgress = jest.fn();
    const gradientOf = () => Promise.reject(undefined);
    for await (const result of checkpoint.captureMany([[input]], { gradientOf, onProgress })) {
      expect(result).toEqual({ index: 0, error: undefined });
    }
    expect(onProgress).toHaveBeenCalledWith({ done: 1, failed: 1 });
  });

  describe('captureMany whose source waits for its next input', () => {
    const pause = (): Promise<never> => new Promise(() => {});
    async function* slow() {
      yield [input];
      await pause();
    }

    test('an abort rejects the loop', async () => {
      const controller = new AbortController();
      const reason = new Error('enough');
      const seen: number[] = [];
      const loop = async () => {
        for await (const { index } of checkpoint.captureMany(slow(), { signal: controller.signal })) {
          seen.push(index);
          setTimeout(() => controller.abort(reason), 10);
        }
      };
      await expect(loop()).rejects.toBe(reason);
      expect(seen).toEqual([0]);
    });

    test('the loop can be left: a generator that waits is told and not waited for', async () => {
      for await (const { index } of checkpoint.captureMany(slow())) {
        expect(index).toBe(0);
        break;
      }
    });

    test('the loop can be left: the source is closed', async () => {
      const emitter = new EventEmitter();
      setTimeout(() => emitter.emit('input', input), 10);
      for await (const { index } of checkpoint.captureMany(on(emitter, 'input') as AsyncIterable<Tensor[]>)) {
        expect(index).toBe(0);
        expect(emitter.listenerCount('input')).toBe(1);
        break;
      }
      expect(emitter.listenerCount('input')).toBe(0);
    });

    test('return ends a next that waits', async () => {
      const results = checkpoint.captureMany(slow());
      await results.next();
      const next = results.next();
      expect(await results.return()).toEqual({ done: true, value: undefined });
      expect(await next).toEqual({ done: true, value: undefined });
    });

    test('a source that has time for it is waited for when it closes', async () => {
      let closed = false;
      async function* source() {
        try {
          while (true) yield [input];
        } finally {
          await new Promise((resolve) => setTimeout(resolve, 20));
          closed = true;
        }
      }
      for await (const _ of checkpoint.captureMany(source(), { ahead: 0 })) break;
      expect(closed).toBe(true);
    });
  });
});

describe('every run and capture', () => {
  test('a signal that is none is refused by whatever takes one, not thrown', async () => {
    const options = { signal: {} as AbortSignal };
    const refused = { code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining('signal') };
    await expect(checkpoint.forward([input], options)).rejects.toMatchObject(refused);
    await expect(checkpoint.attentionSites([input], options)).rejects.toMatchObject(refused);
    await expect(checkpoint.captureMany([[input]], options).next()).rejects.toMatchObject(refused);
    await expect(checkpoint.captureGeneration([input], () => null, options).next()).rejects.toMatchObject(refused);
    const stream = checkpoint.captureAttentionStream([input], options);
    await expect(stream[Symbol.asyncIterator]().next()).rejects.toMatchObject(refused);
    await expect(stream.output).rejects.toMatchObject(refused);
  });
});
