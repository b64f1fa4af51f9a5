import { Worker } from 'node:worker_threads';
import { HookedModel, ScriptModule, Tensor, type Value } from '../../lib/index';
import { archiveOf, scriptOf } from './script-archive';

/** What a model gives back that builds it in a loop: `wrap` makes the next level of `x`. */
async function nested(wrap: string, first = 'torch.ones([1])'): Promise<ScriptModule> {
  return await scriptOf(
    `def forward(self: __torch__.M, n: int) -> Any:
  x = annotate(Any, ${first})
  for i in range(n):
    y = annotate(Any, ${wrap})
    x = y
  return x`,
  );
}

const TOO_DEEP = { code: 'ERR_MODEL_RUN', message: expect.stringMatching(/nested at most 128 deep/) };

describe('ScriptModule#forward', () => {
  describe.each([
    ['lists', 'annotate(List[Any], [x])'],
    ['tuples', '(x,)'],
    ['dictionaries', 'annotate(Dict[str, Any], {"a": x})'],
    ['all of them', 'annotate(List[Any], [(annotate(Dict[str, Any], {"a": x}), 1)])'],
  ])('outputs of %s in each other', (_, wrap) => {
    test('are given as they are, down to a depth; deeper ones are an error, and none ends the process', async () => {
      using model = await nested(wrap);
      const recorder = new HookedModel(model);
      recorder.setForwardHook('record', '');
      for (const levels of [0, 5, 40]) {
        let output = await model.forward([levels]);
        while (!(output instanceof Tensor)) output = Object.values(output as Value[])[0] as Value;
        expect(output.shape).toEqual([1]);
      }
      for (const levels of [129, 10_000, 200_000]) {
        await expect(model.forward([levels])).rejects.toMatchObject(TOO_DEEP);
        expect(() => recorder.hooks).toThrow(expect.objectContaining(TOO_DEEP));
      }
      await model.forward([1]); // lets go of what was recorded
      expect(recorder.hooks.get('record')?.input).toEqual([1]);
      model.registerForwardHook('', () => {});
      await expect(model.forward([1000])).rejects.toMatchObject(TOO_DEEP);
    });
  });

  test('an output that contains itself is an error, also for hooks and records', async () => {
    using model = await scriptOf(
      `def forward(self: __torch__.M, n: int) -> Any:
  y = annotate(Dict[str, Any], {})
  torch._set_item(y, "a", y)
  return y`,
    );
    const recorder = new HookedModel(model);
    recorder.setForwardHook('record', '');
    for (let i = 0; i < 3; ++i) {
      await expect(model.forward([1])).rejects.toMatchObject(TOO_DEEP);
      expect(() => recorder.hooks).toThrow(expect.objectContaining(TOO_DEEP));
    }
  });

  test('an output that refers to its parts so often that it would fill the memory is an error', async () => {
    using model = await nested('annotate(List[Any], [x, x])');
    expect(await model.forward([3])).toHaveLength(2);
    await expect(model.forward([100])).rejects.toMatchObject({
      code: 'ERR_MODEL_RUN',
      message: expect.stringMatching(/bytes in JavaScript/),
    });
  });

  function deepArray(levels: number): unknown {
    let value: unknown = 1;
    for (let i = 0; i < levels; ++i) value = [value];
    return value;
  }

  function deepObject(levels: number): unknown {
    let value: unknown = 1;
    for (let i = 0; i < levels; ++i) value = i % 2 ? { a: value } : new Map([['a', value]]);
    return value;
  }

  function wide(levels: number): unknown {
    let value: unknown = 1;
    for (let i = 0; i < levels; ++i) value = [value, value];
    return value;
  }

  function cyclic(): unknown {
    const value: unknown[] = [];
    value.push({ value });
    return value;
  }

  describe('inputs', () => {
    let identity: ScriptModule;
    beforeAll(async () => {
      identity = await scriptOf('def forward(self: __torch__.M, x: Any) -> Any:\n  return x');
    });

    test('pass down to a depth', async () => {
      expect(await identity.forward([deepArray(100) as Value])).toEqual(deepArray(100));
    });

    test.each<[string, () => unknown]>([
      ['nested 129 deep', () => deepArray(129)],
      ['nested 8,000 deep', () => deepArray(8000)],
      ['objects nested 8,000 deep', () => deepObject(8000)],
      ['one that contains itself', cyclic],
      ['one whose parts are shared', () => wide(100)],
      ['an array of 4 billion holes', () => new Array(2 ** 32 - 1)],
      ['an array that claims a length it has not', () => new Proxy([], { get: () => 2 ** 32 })],
      ['a proxy that was revoked', () => revoked()],
      [
        'an object whose getter throws',
        () => ({
          get a() {
            throw new RangeError('mine');
          },
        }),
      ],
    ])('%s are an error of the contract', async (_, make) => {
      await expect(identity.forward([make() as Value])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
      using model = await scriptOf('def forward(self: __torch__.M, x: int) -> Any:\n  return x');
      model.registerForwardHook('', () => make() as Value);
      await expect(model.forward([1])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED' });
    });

    test('are safe in a worker with a small stack', async () => {
      const source = `
      const { workerData, parentPort } = require('node:worker_threads');
      const { ScriptModule } = require(workerData.package);
      (async () => {
        const model = await ScriptModule.load(workerData.archive);
        let deep = 1;
        for (let i = 0; i < 8000; ++i) deep = [deep];
        let fits = 1;
        for (let i = 0; i < 127; ++i) fits = [fits];
        const code = await model.forward([deep]).then(() => 'none', (error) => error.code);
        parentPort.postMessage([code, JSON.stringify(await model.forward([fits])) === JSON.stringify(fits)]);
      })();`;
      const archive = archiveOf('def forward(self: __torch__.M, x: Any) -> Any:\n  return x');
      const worker = new Worker(source, {
        eval: true,
        workerData: { package: require.resolve('../../dist/index.js'), archive },
        resourceLimits: { stackSizeMb: 1 },
      });
      const answer = await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject));
      expect(answer).toEqual(['ERR_INVALID_ARGUMENT', true]);
      await worker.terminate();
    });
  });

  function revoked(): unknown {
    const { proxy, revoke } = Proxy.revocable([], {});
    revoke();
    return proxy;
  }

  test('lists in each other that a forked task builds and lets go of don’t end the process', async () => {
    using model = await ScriptModule.load(
      archiveOf(
        'def forward(self: __torch__.M, n: int) -> int:\n  return torch.wait(fork(__torch__.build, n))',
        '',
        `def build(n: int) -> int:
  a = annotate(List[Any], [])
  for i in range(n):
    b = annotate(List[Any], [a])
    a = b
  return torch.len(a)
`,
      ),
    );
    for (const levels of [10, 100_000, 3_000_000]) expect(await model.forward([levels])).toBe(1);
  });
});

describe('ScriptModule.load', () => {
  test.each(['torch.append(y, y)', 'torch.insert(y, 0, y)'])(
    'a list that is put into itself is refused where libtorch cannot optimize it: %s',
    async (fill) => {
      using model = await scriptOf(
        `def forward(self: __torch__.M) -> List[Any]:
  y = annotate(List[Any], [])
  _0 = ${fill}
  return y`,
      );
      for (let i = 0; i < 3; ++i)
        await expect(model.forward([])).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_/) });
    },
  );
});

describe('Tensor#toTypedArray', () => {
  test('a typed array stays what it was when a model resizes the tensor under it', async () => {
    using model = await scriptOf(
      `def forward(self: __torch__.M, x: Tensor, n: int) -> Tensor:
  return torch.resize_(x, [n])`,
    );
    const size = 100_000;
    const tensors = [
      Tensor.from(new Float32Array(size).fill(1)),
      Tensor.zeros([size]).add(1),
      Tensor.from(Array.from({ length: size }, () => 1)),
    ];
    for (const tensor of tensors) {
      const before = tensor.toTypedArray() as Float32Array;
      const view = tensor.narrow(0, 10, 10).toTypedArray() as Float32Array;
      await model.forward([tensor, 50 * size]);
      const others = Array.from({ length: 20 }, () => Tensor.from(new Float32Array(size).fill(2)));
      expect(before.every((value) => value === 1)).toBe(true);
      expect(Array.from(view)).toEqual(Array(10).fill(1));
      before.fill(3);
      for (const other of others)
        expect((other.toTypedArray() as Float32Array).every((value) => value === 2)).toBe(true);
      expect(tensor.shape).toEqual([50 * size]);
      expect(tensor.toTypedArray()).toHaveLength(50 * size);
    }
  });

  test('many views of one large tensor do not make the garbage collector run all the time', () => {
    const tensor = Tensor.zeros([32 * 1024 * 1024]);
    const begin = Date.now();
    const views = Array.from({ length: 2000 }, (_, i) => tensor.narrow(0, i, 4));
    const arrays = Array.from({ length: 2000 }, () => tensor.toTypedArray());
    // One collection for each would take ten seconds and more.
    expect(Date.now() - begin).toBeLessThan(5000);
    expect(views).toHaveLength(arrays.length);
    arrays[0]!.fill(7 as never, 0, 1);
    expect(arrays[1]![0]).toBe(7);
  });
});

describe('Tensor.from without a copy', () => {
  test('memory that a tensor shares is not resized by a model', async () => {
    using model = await scriptOf(
      'def forward(self: __torch__.M, x: Tensor, n: int) -> Tensor:\n  return torch.resize_(x, [n])',
    );
    const shared = new Float32Array(new SharedArrayBuffer(64)).fill(1);
    const tensor = Tensor.from(shared, { copy: false });
    await expect(model.forward([tensor, 1000])).rejects.toMatchObject({ code: 'ERR_MODEL_RUN' });
    expect(Array.from(shared)).toEqual(Array(16).fill(1));
  });
});
