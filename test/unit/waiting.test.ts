import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  getConcurrency,
  getNumThreads,
  nn,
  ScriptModule,
  setConcurrency,
  setNumThreads,
  Tensor,
  type Value,
} from '../../lib/index';
import { fixture, plain, ticks } from './hook-fixtures';

// What a hook waits for must be able to run, wherever the hook is called from and whatever else waits.
const root = join(__dirname, '..', '..');

function input(): Tensor {
  return Tensor.from(
    Float32Array.from({ length: 160 }, (_, i) => Math.sin(i)),
    { shape: [2, 5, 16] },
  );
}

const concurrency = getConcurrency();
let model: ScriptModule;
let other: ScriptModule;
beforeEach(async () => {
  setConcurrency(1);
  other = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
});
afterEach(() => {
  setConcurrency(concurrency);
  model.dispose();
  other.dispose();
});

describe('registerForwardHook', () => {
  test('a hook in a forked task awaits another model', async () => {
    model = await ScriptModule.load(fixture('forked_script.pt'));
    const expected = plain(await model.forward([input()]));
    let called = 0;
    model.registerForwardHook('feed', async () => {
      await other.forward([input()]);
      called++;
    });
    expect(plain(await model.forward([input()]))).toEqual(expected);
    expect(called).toBe(2);
  });

  test('forked tasks compute with as many threads as their run, with hooks and without: the bits are the same', async () => {
    model = await ScriptModule.load(fixture('forked_script.pt'));
    const threads = getNumThreads();
    try {
      for (const count of [2, 1, 2]) {
        setNumThreads(count);
        const expected = plain(await model.forward([input()]));
        const handle = model.registerForwardHook('feed', () => {});
        expect({ count, output: plain(await model.forward([input()])) }).toEqual({ count, output: expected });
        handle.remove();
      }
    } finally {
      setNumThreads(threads);
    }
  });

  test('many hooks in forked tasks await a model that forks in turn', async () => {
    model = await ScriptModule.load(fixture('forked_script.pt'));
    const forking = await ScriptModule.load(fixture('forked_script.pt'));
    const expected = plain(await model.forward([input()]));
    forking.registerForwardHook('feed', async () => {
      await ticks(1);
    });
    model.registerForwardHook('feed', async () => {
      await forking.forward([input()]);
    });
    const outputs = await Promise.all(Array.from({ length: 8 }, () => model.forward([input()])));
    expect(outputs.map(plain)).toEqual(Array(8).fill(expected));
    forking.dispose();
  });

  test('a process that exits while a hook in a forked task waits', async () => {
    model = await ScriptModule.load(fixture('forked_script.pt'));
    const script = `
    const { ScriptModule, Tensor } = require(${JSON.stringify(join(root, 'dist'))});
    ScriptModule.load(${JSON.stringify(fixture('forked_script.pt'))}).then((model) => {
      model.registerForwardHook('feed', () => new Promise(() => setTimeout(() => process.exit(7), 50)));
      return model.forward([Tensor.zeros([2, 5, 16])]);
    });
  `;
    const child = promisify(execFile)(process.execPath, ['-e', script], { timeout: 20_000 });
    await expect(child).rejects.toMatchObject({ code: 7, killed: false });
  });

  test('more hooks than wait at once, for a run that nothing says they wait for', async () => {
    const count = 70;
    model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
    const expected = plain(await model.forward([input()]));
    const waiting: { value: Value; resolve: (value: Value) => void }[] = [];
    model.registerForwardHook(
      '',
      (_module, _inputs, value) => new Promise<Value>((resolve) => waiting.push({ value, resolve })),
    );
    let answered = 0;
    const batches = setInterval(async () => {
      if (waiting.length + answered < count) return;
      for (const each of waiting.splice(0)) {
        answered++;
        await other.forward([input()]);
        each.resolve(each.value);
      }
    }, 5);
    try {
      const outputs = await Promise.all(Array.from({ length: count }, () => model.forward([input()])));
      expect(outputs.map(plain)).toEqual(Array(count).fill(expected));
    } finally {
      clearInterval(batches);
    }
  });

  test('what a hook computes in a run without gradients has none', async () => {
    model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
    const [parameter] = model.namedParameters();
    model.registerForwardHook('blocks.0', (_module, _inputs, output) =>
      (output as Tensor).add((parameter as NonNullable<typeof parameter>).tensor.sum()),
    );
    const output = (await model.forward([input()])) as Tensor;
    expect(output.requiresGrad).toBe(false);
    const recorded = (await model.forward([input()], { grad: true })) as Tensor;
    expect(recorded.requiresGrad).toBe(true);
  });
});

describe('to and loadStateDict', () => {
  describe('what waits for a model that waits for its hook holds up nothing', () => {
    test('moving a checkpoint', async () => {
      model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
      model.registerForwardHook('', async () => {
        await ticks(50);
        await other.forward([input()]);
      });
      const run = model.forward([input()]);
      await ticks(20);
      const moves = Array.from({ length: 40 }, () => model.to('cpu'));
      await run;
      await Promise.all(moves);
    });

    test('loading the parameters of a native module, and of the whole that it is a part of', async () => {
      model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
      const options = { dModel: 16, nhead: 2, dimFeedforward: 16, batchFirst: true };
      const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(options), 1);
      const whole = new nn.Transformer({ ...options, numDecoderLayers: 1, customEncoder: encoder });
      encoder.registerForwardHook('layers.0', async () => {
        await ticks(50);
        await other.forward([input()]);
      });
      const run = encoder.forward(input());
      await ticks(20);
      const loads = [encoder.loadStateDict(encoder.stateDict()), whole.loadStateDict(whole.stateDict())];
      await run;
      await Promise.all(loads);
    });
  });
});

describe('modules, namedParameters, stateDict and train', () => {
  describe('what a model tells of itself waits for nothing that happens to it', () => {
    const looks: [string, () => unknown][] = [
      ['modules', () => model.modules()],
      ['namedParameters', () => model.namedParameters()],
      ['stateDict', () => model.stateDict()],
    ];

    test.each(looks)('%s, from a hook whose run a move waits for', async (_, look) => {
      model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
      let took = Number.NaN;
      let move: Promise<unknown> = Promise.resolve();
      model.registerForwardHook('', async () => {
        await ticks(50);
        const start = performance.now();
        look();
        took = performance.now() - start;
      });
      const run = model.forward([input()]);
      await ticks(10);
      move = model.to('cpu');
      await ticks(10); // waits for the run by now
      const start = performance.now();
      look();
      // The hook takes 50 turns of the event loop, which waiting for its run would hold up for good.
      const WAITED = 2000;
      expect(performance.now() - start).toBeLessThan(WAITED);
      await run;
      await move;
      expect(took).toBeLessThan(WAITED);
    });

    test('a changed mode is told at once, while a run goes on', async () => {
      model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
      const layer = new nn.TransformerEncoderLayer({
        dModel: 16,
        nhead: 2,
        dimFeedforward: 16,
        batchFirst: true,
      }).eval();
      layer.registerForwardHook('', async () => {
        await ticks(30);
      });
      const run = layer.forward(input());
      layer.train();
      expect(layer.training).toBe(true);
      layer.eval();
      expect(layer.training).toBe(false);
      await run;
    });
  });
});

describe('captureAttention with onAttention', () => {
  test('captures whose onAttention waits keep others from beginning, but not what it runs itself', async () => {
    model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
    let held = 0;
    let most = 0;
    const onAttention = async (): Promise<void> => {
      most = Math.max(most, ++held);
      await other.forward([input()]);
      await ticks(10);
      held--;
    };
    await Promise.all(Array.from({ length: 6 }, () => model.captureAttention([input()], { onAttention })));
    expect(most).toBe(1);
  });
});
