import {
  ExportedProgram,
  getNumThreads,
  HookedModel,
  nn,
  ScriptModule,
  setConcurrency,
  setNumThreads,
  Tensor,
  type Value,
} from '../../lib/index';
import { prelude, runScript } from './built-process';
import { programPath } from './exported-fixtures';
import { fixture, plain, ticks } from './hook-fixtures';
import { scriptOf } from './script-archive';

jest.setTimeout(150_000);

function input(...shape: number[]): Tensor {
  const sizes = shape.length > 0 ? shape : [2, 5, 16];
  const count = sizes.reduce((a, b) => a * b, 1);
  return Tensor.from(
    Float32Array.from({ length: count }, (_, i) => Math.sin(i)),
    { shape: sizes },
  );
}

const script = () => ScriptModule.load(fixture('hand_sdpa_script.pt'));
const encoderLayer = () => new nn.TransformerEncoderLayer({ dModel: 16, nhead: 2, dimFeedforward: 32 }).eval();

/** What a call throws. */
function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return 'nothing';
}

const threads = getNumThreads();
beforeAll(() => setNumThreads(1)); // bits depend on their number
afterAll(() => setNumThreads(threads));

describe('ScriptModule#forwardSync', () => {
  test('gives the bits of forward, of every method and nesting, with gradients where they are asked for', async () => {
    using model = await script();
    const expected = plain(await model.forward([input()]));
    expect(plain(model.forwardSync([input()]))).toEqual(expected);
    const recorded = model.forwardSync([input()], { grad: true }) as Tensor;
    expect([recorded.requiresGrad, (model.forwardSync([input()]) as Tensor).requiresGrad]).toEqual([true, false]);
    await recorded.sum().backward();
    expect(model.namedParameters().some(({ tensor }) => tensor.grad !== null)).toBe(true);

    using other = await scriptOf(
      `def forward(self: __torch__.M, x: Tensor) -> Dict[str, List[Tensor]]:
  return {"both": [x, torch.mul(x, 2)]}
def twice(self: __torch__.M, n: int) -> Tuple[int, str]:
  return (torch.mul(n, 2), "two")`,
    );
    const { both } = other.forwardSync([Tensor.from([1, 2])]) as { both: Tensor[] };
    expect(both.map((each) => each.toArray())).toEqual([
      [1, 2],
      [2, 4],
    ]);
    expect(other.forwardSync([21], { method: 'twice' })).toEqual([42, 'two']);
  });

  test('refuses what forward refuses, with the same errors', async () => {
    const model = await script();
    const both = async (inputs: unknown, options?: object) => {
      const asynchronous = await model.forward(inputs as Value[], options).catch((error) => error);
      const synchronous = thrownBy(() => model.forwardSync(inputs as Value[], options));
      const shown = ({ code, message }: { code: string; message: string }) => ({ code, message });
      expect(shown(synchronous as never)).toEqual({
        ...shown(asynchronous),
        message: asynchronous.message.replace('the options of forward', 'the options of forwardSync'),
      });
      return asynchronous.code as string;
    };
    expect(await both('no array')).toBe('ERR_INVALID_ARGUMENT');
    expect(await both([input()], { metod: 'forward' })).toBe('ERR_INVALID_ARGUMENT');
    expect(await both([input()], { method: 'none' })).toBe('ERR_INVALID_ARGUMENT');
    expect(await both([input()], { grad: 'yes' })).toBe('ERR_INVALID_ARGUMENT');
    expect(await both([input()], { timeLimit: -1 })).toBe('ERR_INVALID_ARGUMENT');
    expect(await both([input(2, 5, 3)])).toBe('ERR_MODEL_RUN');
    expect(await both([input()], { memoryLimit: 16 })).toBe('ERR_MEMORY_LIMIT');
    expect(await both([input()], { timeLimit: 0 })).toBe('ERR_TIME_LIMIT');
    model.dispose();
    expect(await both([input()])).toBe('ERR_DISPOSED');
  });

  test('hooks are called in it: they see values, replace them, and compute as outside of the run', async () => {
    using model = await script();
    const seen: unknown[] = [];
    const recorder = new HookedModel(model);
    recorder.setForwardHook('record', 'blocks.0');
    const [parameter] = model.namedParameters();
    model.registerForwardPreHook('', (_module, [x]) => {
      seen.push((x as Tensor).shape);
      // Not the run's own mode: like the event loop, hooks record gradients.
      seen.push((parameter as NonNullable<typeof parameter>).tensor.sum().requiresGrad);
    });
    model.registerForwardHook('', (_module, _inputs, output) => {
      seen.push('after');
      return (output as Tensor).mul(2);
    });
    const expected = plain(await model.forward([input()]));
    expect(seen.splice(0)).toEqual([[2, 5, 16], true, 'after']);
    const output = model.forwardSync([input()]) as Tensor;
    expect(plain(output)).toEqual(expected);
    expect(output.requiresGrad).toBe(false);
    expect(seen).toEqual([[2, 5, 16], true, 'after']);
    expect(recorder.hooks.get('record')?.output).toMatchObject({ shape: [2, 5, 16] });
  });

  test('hooks in tasks that the model forks are called too', async () => {
    using model = await ScriptModule.load(fixture('forked_script.pt'));
    const expected = plain(await model.forward([input()]));
    expect(plain(model.forwardSync([input()]))).toEqual(expected);
    let called = 0;
    model.registerForwardHook('feed', () => {
      called++;
    });
    expect(plain(model.forwardSync([input()]))).toEqual(expected);
    expect(called).toBe(2);
  });

  test('what a hook throws ends the run, and a promise is refused without anything left behind', async () => {
    using model = await script();
    const own = new Error('own');
    const failing = model.registerForwardHook('blocks.0', () => {
      throw own;
    });
    expect(thrownBy(() => model.forwardSync([input()]))).toMatchObject({ code: 'ERR_HOOK_FAILED', cause: own });
    failing.remove();
    let over = false;
    const promising = model.registerForwardHook('blocks.0', async () => {
      await ticks(20);
      over = true;
      throw new Error('nobody asked');
    });
    expect(thrownBy(() => model.forwardSync([input()]))).toMatchObject({
      code: 'ERR_HOOK_FAILED',
      message: expect.stringMatching(/'blocks\.0'.*promise.*use forward/),
    });
    promising.remove();
    await model.settled();
    expect(over).toBe(true);
    expect(plain(model.forwardSync([input()]))).toEqual(plain(await model.forward([input()])));
  });

  test('a signal that is aborted before, or by a hook, ends it with its reason', async () => {
    using model = await script();
    const reason = { why: 'enough' };
    expect(thrownBy(() => model.forwardSync([input()], { signal: AbortSignal.abort(reason) }))).toBe(reason);
    const stop = new AbortController();
    const handle = model.registerForwardHook('blocks.0', () => stop.abort(reason));
    expect(thrownBy(() => model.forwardSync([input()], { signal: stop.signal }))).toBe(reason);
    handle.remove();
    const { signal } = new AbortController();
    expect(plain(model.forwardSync([input()], { signal }))).toEqual(plain(await model.forward([input()])));
  });

  test('a loop that never ends is stopped by its time limit, also that of an untrusted model', () => {
    return runScript(`
      const model = await loops('bare');
      try { model.forwardSync([f32(4, 4)], { timeLimit: 50 }); } catch (error) { console.log(error.code); }
      await model.settled();
      console.log('settled');
    `).then(({ code, output }) => expect({ code, output }).toEqual({ code: 0, output: 'ERR_TIME_LIMIT\nsettled' }));
  });

  test('a value that is nested without end on the way, and freed there, ends nothing', async () => {
    using model = await scriptOf(
      `def forward(self: __torch__.M, n: int) -> bool:
  x = annotate(Any, torch.ones([1]))
  for i in range(n):
    y = annotate(Any, annotate(List[Any], [x]))
    x = y
  return torch.__is__(x, None)`,
    );
    expect(await model.forward([300_000])).toBe(false);
    expect(model.forwardSync([300_000])).toBe(false);
  });
});

describe('ExportedProgram#forwardSync', () => {
  test('takes inputs by position and by name, with hooks on modules and nodes', async () => {
    using program = await ExportedProgram.load(programPath('encoder'));
    const { inputs } = program.signature();
    const given = inputs.map(({ shape }) => input(...(shape as number[])));
    const expected = plain(await program.forward(given));
    expect(plain(program.forwardSync(given))).toEqual(expected);
    const node = program.nodes().find(({ operator }) => operator === 'aten::linear')!;
    let called = 0;
    program.registerNodeHook(node.name, () => {
      called++;
    });
    expect(plain(program.forwardSync(given))).toEqual(expected);
    expect(called).toBe(1);
    expect(thrownBy(() => program.forwardSync(given, { kwargs: { nonsense: 1 } }))).toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });
});

describe('nn.*#forwardSync', () => {
  test('each module takes what its forward takes', async () => {
    const options = { dModel: 16, nhead: 2, dimFeedforward: 32, batchFirst: true };
    const src = input();
    const mask = Tensor.from(new Uint8Array(10), { shape: [2, 5], dtype: 'bool' });
    const layer = new nn.TransformerEncoderLayer(options).eval();
    const decoder = new nn.TransformerDecoderLayer(options).eval();
    const whole = new nn.Transformer({ ...options, numEncoderLayers: 1, numDecoderLayers: 1 }).eval();
    const attention = new nn.MultiheadAttention({ embedDim: 16, numHeads: 2, batchFirst: true }).eval();
    const norm = new nn.LayerNorm(16).eval();
    const model = new nn.TransformerModel({
      dInput: 16,
      dOutput: 3,
      dModel: 16,
      nhead: 2,
      dHid: 32,
      nlayers: 1,
    }).eval();
    const pairs: [unknown, unknown][] = [
      [layer.forwardSync(src, { srcKeyPaddingMask: mask }), await layer.forward(src, { srcKeyPaddingMask: mask })],
      [decoder.forwardSync(src, src), await decoder.forward(src, src)],
      [whole.forwardSync(src, src), await whole.forward(src, src)],
      [norm.forwardSync(src), await norm.forward(src)],
      [model.forwardSync(src), await model.forward(src)],
    ];
    for (const [one, other] of pairs) expect(plain(one as Value)).toEqual(plain(other as Value));
    const { output, weights } = attention.forwardSync(src, src, src, { averageAttnWeights: false });
    expect([output.shape, weights?.shape]).toEqual([
      [2, 5, 16],
      [2, 2, 5, 5],
    ]);
    expect(thrownBy(() => layer.forwardSync(input(2, 5, 3)))).toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  });

  test('a hook may run another module, whose hooks are its own', async () => {
    const [outer, inner] = [encoderLayer(), encoderLayer()];
    const called: string[] = [];
    inner.registerForwardHook('self_attn', (module) => {
      called.push(`inner ${module.name}`);
    });
    outer.registerForwardPreHook('self_attn', (module) => {
      called.push(`outer ${module.name}`);
      inner.forwardSync(input());
    });
    const output = outer.forwardSync(input());
    expect(called).toEqual(['outer self_attn', 'inner self_attn']);
    expect(plain(output)).toEqual(plain(await outer.forward(input())));
  });
});

describe('beside what else is going on', () => {
  afterEach(() => setConcurrency(1));

  test('runs under way go on, with hooks that wait for the event loop', async () => {
    setConcurrency(1);
    using model = await script();
    const expected = plain(await model.forward([input()]));
    model.registerForwardHook('blocks.0', () => {});
    const many = Array.from({ length: 20 }, () => model.forward([input()]));
    for (let i = 0; i < 20; ++i) {
      expect(plain(model.forwardSync([input()]))).toEqual(expected);
      if (i % 5 === 0) await ticks(1);
    }
    for (const each of await Promise.all(many)) expect(plain(each)).toEqual(expected);
  });

  test('a model that is being moved is refused at once, also one with a part that is; afterwards it runs', async () => {
    using model = await script();
    const moving = model.to('cpu');
    const refused = {
      code: 'ERR_MODEL_RUN',
      message: expect.stringMatching(/being moved or loaded.*await that before/),
    };
    expect(thrownBy(() => model.forwardSync([input()]))).toMatchObject(refused);
    await moving;
    expect(model.forwardSync([input()])).toBeInstanceOf(Tensor);
    const norm = new nn.LayerNorm(16).eval();
    const encoder = new nn.TransformerEncoder(encoderLayer(), 1, { norm }).eval();
    const loading = norm.loadStateDict(norm.stateDict());
    await Promise.resolve().then(() => {});
    const moved = norm.to('cpu');
    expect(thrownBy(() => encoder.forwardSync(input()))).toMatchObject(refused);
    await Promise.all([loading, moved]);
    expect(encoder.forwardSync(input())).toBeInstanceOf(Tensor);
  });

  test('settled, dispose and a move that are asked for during a run wait for it or take effect after it', async () => {
    const model = await script();
    const settled = model.settled();
    expect(model.forwardSync([input()])).toBeInstanceOf(Tensor);
    await settled;
    const refusals: unknown[] = [];
    const handle = model.registerForwardHook('blocks.0', () => {
      refusals.push(model.to('cpu').catch((error) => error.code));
      refusals.push(model.settled().catch((error) => error.code));
    });
    model.forwardSync([input()]);
    expect(await Promise.all(refusals)).toEqual(['ERR_MODEL_RUN', 'ERR_MODEL_RUN']);
    handle.remove();
    model.registerForwardHook('blocks.0', () => model.dispose());
    expect(thrownBy(() => model.forwardSync([input()]))).toMatchObject({ code: 'ERR_HOOK_FAILED' });
    expect(thrownBy(() => model.forwardSync([input()]))).toMatchObject({ code: 'ERR_DISPOSED' });
    await model.settled();
  });

  test('inside a hook its own model is refused, whichever way it runs; another one runs', async () => {
    using model = await script();
    using other = await script();
    const caught: unknown[] = [];
    const expected = plain(await other.forward([input()]));
    model.registerForwardHook('blocks.0', () => {
      caught.push(thrownBy(() => model.forwardSync([input()])));
      caught.push(plain(other.forwardSync([input()])));
    });
    const own = expect.objectContaining({ code: 'ERR_MODEL_RUN', message: expect.stringMatching(/own hooks/) });
    await model.forward([input()]);
    model.forwardSync([input()]);
    expect(caught).toEqual([own, expected, own, expected]);
    // Around a corner: the hook of another model that the first one's hook runs.
    caught.length = 0;
    other.registerForwardHook('blocks.0', () => {
      caught.push(thrownBy(() => model.forwardSync([input()])));
    });
    await model.forward([input()]);
    expect(caught).toEqual(
      [own, expect.objectContaining({ code: 'ERR_MODEL_RUN' }), expect.anything()].slice(0, caught.length),
    );
    expect(caught.length).toBeGreaterThanOrEqual(2);
  });

  test('hooks that a run does not reach are reported once', async () => {
    const warn = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    try {
      using model = await scriptOf(`def forward(self: __torch__.M, x: Tensor) -> Tensor:
  return x
def other(self: __torch__.M, x: Tensor) -> Tensor:
  return x`);
      model.registerForwardHook('', () => {});
      model.forwardSync([input()], { method: 'other' });
      model.forwardSync([input()], { method: 'other' });
      expect(warn.mock.calls.map(([, options]) => options)).toEqual([{ code: 'HOOK_NOT_FIRED' }]);
    } finally {
      warn.mockRestore();
    }
  });
});

describe('in worker threads', () => {
  const inWorker = (body: string) => `
    const { Worker } = require('node:worker_threads');
    const worker = new Worker(${JSON.stringify(`${prelude}(async () => {`)} + ${JSON.stringify(body)} + '})()', { eval: true });
    const ended = new Promise((resolve) => worker.on('exit', resolve));
  `;

  test('it runs on the thread of the worker, deep in JavaScript too', async () => {
    const { code, output } = await runScript(
      `${inWorker(`
      const model = await ScriptModule.load(${JSON.stringify(fixture('hand_sdpa_script.pt'))});
      setNumThreads(1);
      const expected = (await model.forward([f32(2, 5, 16)])).toArray();
      const deep = (levels) => levels === 0 ? model.forwardSync([f32(2, 5, 16)]) : deep(levels - 1);
      model.registerForwardHook('blocks.0', () => {});
      let levels = 1000;
      try { for (;;) { deep(levels); levels += 500; } } catch (error) { console.log(error.name); }
      const output = deep(levels - 1500);
      console.log(require('node:util').isDeepStrictEqual(output.toArray(), expected));
    `)} console.log(await ended);`,
    );
    expect({ code, output }).toEqual({ code: 0, output: 'RangeError\ntrue\n0' });
  });

  test('a hook that ends its worker, and a worker that is terminated in a hook', async () => {
    const { code, output } = await runScript(`${inWorker(`
      const model = await ScriptModule.load(${JSON.stringify(fixture('hand_sdpa_script.pt'))});
      model.registerForwardHook('blocks.0', () => process.exit(3));
      model.forwardSync([f32(2, 5, 16)]);
      console.log('unreached');
    `)} console.log(await ended);
      {
        const worker = new Worker(${JSON.stringify(`${prelude}(async () => {`)} + ${JSON.stringify(`
          const model = await ScriptModule.load(${JSON.stringify(fixture('hand_sdpa_script.pt'))});
          model.registerForwardHook('blocks.0', () => { require('node:worker_threads').parentPort.postMessage(0); for (;;); });
          model.forwardSync([f32(2, 5, 16)]);
        `)} + '})()', { eval: true });
        await new Promise((resolve) => worker.on('message', resolve));
        console.log(await worker.terminate());
      }
    `);
    expect({ code, output }).toEqual({ code: 0, output: '3\n1' });
  });

  test('a process that ends in a hook, and one that ends while a worker computes', async () => {
    const hook = await runScript(`
      const model = await ScriptModule.load(${JSON.stringify(fixture('hand_sdpa_script.pt'))});
      model.registerForwardHook('blocks.0', () => process.exit(5));
      model.forwardSync([f32(2, 5, 16)]);
    `);
    expect(hook).toMatchObject({ code: 5, output: '' });
    const computing = await runScript(`${inWorker(`
      const model = await loops('bare');
      require('node:worker_threads').parentPort.postMessage(0);
      model.forwardSync([f32(4, 4)], { timeLimit: 1500 });
    `)} worker.on('message', () => setTimeout(() => process.exit(6), 300));
      await ended;`);
    expect(computing).toMatchObject({ code: 6 });
  });
});
