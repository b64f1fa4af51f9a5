import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { type RemovableHandle, ScriptModule, ScriptObject, Tensor, type Value } from '../../lib/index';
import { fixture, plain, ticks } from './hook-fixtures';

const root = join(__dirname, '..', '..');

function input(shift = 0): Tensor {
  return Tensor.from(
    Float32Array.from({ length: 160 }, (_, i) => Math.sin(i + shift)),
    { shape: [2, 5, 16] },
  );
}

let model: ScriptModule;
let expected: unknown;

beforeEach(async () => {
  model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
  expected = plain(await model.forward([input()]));
});

afterEach(() => model.dispose());

/** The next forward is right, with nothing left of what was before. */
async function expectUnharmed(): Promise<void> {
  for (let run = 0; run < 2; run++) expect(plain(await model.forward([input()]))).toEqual(expected);
}

describe('registerForwardPreHook, registerForwardHook and registerFullBackwardHook', () => {
  describe('a hook that fails', () => {
    const reason = new Error('the reason');
    const kinds: [string, (fail: () => unknown) => RemovableHandle][] = [
      ['pre-hook', (fail) => model.registerForwardPreHook('blocks.0.attention', fail as never)],
      ['forward hook', (fail) => model.registerForwardHook('blocks.0.attention', fail as never)],
      ['forward hook of the model itself', (fail) => model.registerForwardHook('', fail as never)],
    ];

    test.each(kinds)('%s that throws', async (_, register) => {
      const handle = register(() => {
        throw reason;
      });
      for (let run = 0; run < 3; run++) {
        await expect(model.forward([input()])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause: reason });
      }
      handle.remove();
      await expectUnharmed();
    });

    test.each(kinds)('%s that rejects', async (_, register) => {
      const handle = register(async () => {
        await ticks(1);
        throw reason;
      });
      await expect(model.forward([input()])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause: reason });
      handle.remove();
      await expectUnharmed();
    });

    test.each<[string, unknown]>([
      ['nothing at all', undefined],
      ['null', null],
      ['a string', 'no'],
      ['zero', 0],
    ])('what it throws is the cause, even %s', async (_, thrown) => {
      const handle = model.registerForwardHook('head', () => {
        throw thrown;
      });
      const error = await model.forward([input()]).catch((caught) => caught);
      expect(error).toMatchObject({ code: 'ERR_HOOK_FAILED' });
      expect('cause' in error).toBe(true);
      expect(error.cause).toBe(thrown);
      handle.remove();
      await expectUnharmed();
    });

    test.each<[string, unknown]>([
      ['a string', 'nonsense'],
      ['a number', 7],
      ['an object', { some: 'thing' }],
      ['an array where one tensor is expected', [1, 2, 3]],
      ['a symbol', Symbol('s')],
      ['a function', () => {}],
    ])('forward hook that returns %s', async (_, nonsense) => {
      const handle = model.registerForwardHook('blocks.0.attention', (() => nonsense) as never);
      await expect(model.forward([input()])).rejects.toMatchObject({
        code: 'ERR_HOOK_FAILED',
        message: expect.stringContaining("'blocks.0.attention'"),
      });
      handle.remove();
      await expectUnharmed();
    });

    test('pre-hook that returns too many inputs', async () => {
      const handle = model.registerForwardPreHook('head', (_, [x]) => [x, x] as Value[]);
      await expect(model.forward([input()])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED' });
      handle.remove();
      await expectUnharmed();
    });

    test('a thenable that throws on the way, and a getter that does', async () => {
      const evil = {
        // biome-ignore lint/suspicious/noThenProperty: that is what it is about
        get then() {
          throw reason;
        },
      };
      const handle = model.registerForwardHook('head', (() => evil) as never);
      await expect(model.forward([input()])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause: reason });
      handle.remove();
      await expectUnharmed();
    });

    test('a replacement that the model cannot compute with is an error of the model', async () => {
      const handle = model.registerForwardHook('blocks.0.attention', () => Tensor.from([1, 2, 3]));
      await expect(model.forward([input()])).rejects.toMatchObject({ code: 'ERR_MODEL_RUN' });
      handle.remove();
      await expectUnharmed();
    });

    test('backward hook that throws: backward rejects, later ones work', async () => {
      const handle = model.registerFullBackwardHook('blocks.1', () => {
        throw reason;
      });
      const output = (await model.forward([input()], { grad: true })) as Tensor;
      await expect(output.sum().backward()).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause: reason });
      handle.remove();
      const again = (await model.forward([input()], { grad: true })) as Tensor;
      await again.sum().backward();
      await expectUnharmed();
    });

    test('backward hook that returns nonsense', async () => {
      for (const nonsense of ['no', [1, 2], Tensor.from([1]), [null, null, null]]) {
        const handle = model.registerFullBackwardHook('blocks.1', (() => nonsense) as never);
        const output = (await model.forward([input()], { grad: true })) as Tensor;
        await expect(output.sum().backward()).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_/) });
        handle.remove();
      }
      await expectUnharmed();
    });

    test('backward hook that returns a gradient of another shape', async () => {
      const handle = model.registerFullBackwardHook('blocks.1', () => Tensor.from([1, 2]));
      const output = (await model.forward([input()], { grad: true })) as Tensor;
      await expect(output.sum().backward()).rejects.toMatchObject({
        code: 'ERR_HOOK_FAILED',
        message: expect.stringMatching(
          /backward hook on 'blocks\.1' .*shape \[2, 5, 16\] for input gradient 0 but received \[2\]/,
        ),
      });
      handle.remove();
      await expectUnharmed();
    });

    test('a hook on inputs that take part in no gradients must not give any, as in Python', async () => {
      const handle = model.registerFullBackwardHook('', () => [input()]);
      const output = (await model.forward([input()], { grad: true })) as Tensor;
      await expect(output.sum().backward()).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED' });
      handle.remove();
      await expectUnharmed();
    });

    test('a model disposed inside its own hook', async () => {
      const other = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
      const handle = other.registerForwardHook('blocks.0', () => other.dispose());
      const more = other.registerForwardPreHook('head', () => {});
      await expect(other.forward([input()])).rejects.toMatchObject({
        code: 'ERR_HOOK_FAILED',
        cause: { code: 'ERR_DISPOSED' },
      });
      handle.remove();
      handle.remove();
      more.remove();
      await expect(other.forward([input()])).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
      expect(() => other.registerForwardHook('head', () => {})).toThrow(
        expect.objectContaining({ code: 'ERR_DISPOSED' }),
      );
      await expectUnharmed();
    });

    test('a model disposed from outside while a hook waits ends its run first', async () => {
      const other = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
      let entered: () => void = () => {};
      const inside = new Promise<void>((resolve) => {
        entered = resolve;
      });
      let go: () => void = () => {};
      other.registerForwardHook('blocks.0', () => {
        entered();
        return new Promise<void>((resolve) => {
          go = resolve;
        });
      });
      const run = other.forward([input()]).then(plain, (error) => error);
      await inside;
      other.dispose();
      go();
      expect(await run).toEqual(expected);
    });

    test('a model disposed ahead of the first hook of its run ends that first', async () => {
      const other = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
      const handle = other.registerForwardHook('blocks.0', () => {});
      const run = other.forward([input()]);
      other.dispose();
      expect(plain(await run)).toEqual(expected);
      expect(handle.calls).toBe(1);
    });

    test('a model disposed ahead of the backward pass, with a backward hook', async () => {
      const other = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
      const seen = jest.fn();
      other.registerFullBackwardHook('head', seen);
      const output = (await other.forward([input()], { grad: true })) as Tensor;
      other.dispose();
      await output.sum().backward();
      expect(seen).toHaveBeenCalledTimes(1);
    });
  });

  describe('who sees what', () => {
    test('a hook removed from inside itself fires once, those behind it go on', async () => {
      const calls: string[] = [];
      const first = model.registerForwardHook('blocks.0', () => {
        calls.push('first');
        first.remove();
      });
      const second = model.registerForwardHook('blocks.0', () => {
        calls.push('second');
      });
      await model.forward([input()]);
      await model.forward([input()]);
      expect(calls).toEqual(['first', 'second', 'second']);
      second.remove();
      await expectUnharmed();
    });

    test('a hook removed by an earlier one does not fire any more in this run', async () => {
      const never = jest.fn();
      const early = model.registerForwardPreHook('blocks.0', () => {
        late.remove();
        same.remove();
      });
      const same = model.registerForwardPreHook('blocks.0', never);
      const late = model.registerForwardHook('head', never);
      await model.forward([input()]);
      expect(never).not.toHaveBeenCalled();
      early.remove();
      await expectUnharmed();
    });

    test('a hook registered during a run is seen by the next one', async () => {
      const late = jest.fn();
      let handle: RemovableHandle | undefined;
      const early = model.registerForwardPreHook('blocks.0', () => {
        handle ??= model.registerForwardHook('head', late);
      });
      await model.forward([input()]);
      expect(late).toHaveBeenCalledTimes(0);
      await model.forward([input()]);
      expect(late).toHaveBeenCalledTimes(1);
      early.remove();
      handle?.remove();
      await expectUnharmed();
    });

    test('runs at the same time, those that began before a hook without it', async () => {
      const before = Array.from({ length: 4 }, () => model.forward([input()]));
      let fired = 0;
      const handle = model.registerForwardHook('blocks.0', async (_, _input, output) => {
        fired++;
        await ticks(1);
        return (output as Tensor).mul(0);
      });
      const zeroed = Array.from({ length: 4 }, () => model.forward([input()]));
      for (const output of await Promise.all(zeroed)) expect(plain(output)).not.toEqual(expected);
      for (const output of await Promise.all(before)) expect(plain(output)).toEqual(expected);
      expect(fired).toBe(4);
      handle.remove();
      await expectUnharmed();
    });

    test('order of registration, and values handed on from hook to hook', async () => {
      const seen: number[] = [];
      const handles = [2, 3, 5].map((factor) =>
        model.registerForwardHook('head', async (_, _input, output) => {
          if (factor === 3) await ticks(5);
          seen.push((output as Tensor).toTypedArray()[0] as number);
          return (output as Tensor).mul(factor);
        }),
      );
      const output = plain(await model.forward([input()])) as { data: number[] };
      const first = (expected as { data: number[] }).data[0] as number;
      [1, 2, 6].forEach((factor, i) => {
        expect(seen[i]).toBeCloseTo(first * factor, 4);
      });
      expect(output.data[0]).toBeCloseTo(first * 30, 3);
      for (const handle of handles) handle.remove();
      await expectUnharmed();
    });

    test('null and undefined keep the value, remove may be called twice, calls are counted', async () => {
      const keep = model.registerForwardHook('head', () => null);
      const nothing = model.registerForwardPreHook('head', () => {});
      expect(plain(await model.forward([input()]))).toEqual(expected);
      expect([keep.calls, nothing.calls]).toEqual([1, 1]);
      keep.remove();
      keep.remove();
      nothing[Symbol.dispose]();
      await expectUnharmed();
      expect(keep.calls).toBe(1);
    });

    test('a hook may return any thenable, whatever its then returns', async () => {
      for (const returned of [undefined, Promise.resolve(1), 7]) {
        const handle = model.registerForwardHook(
          'head',
          (_, _input, output) =>
            ({
              // biome-ignore lint/suspicious/noThenProperty: that is what it is about
              then(resolve: (value: Value) => void) {
                setTimeout(resolve, 1, (output as Tensor).mul(0));
                return returned;
              },
            }) as PromiseLike<never>,
        );
        const { data } = plain(await model.forward([input()])) as { data: number[] };
        expect(data.every((each) => each === 0)).toBe(true);
        handle.remove();
      }
      await expectUnharmed();
    });

    test('a Map replaces a dictionary, also within others', async () => {
      const containers = await ScriptModule.load(fixture('containers_script.pt'));
      const before = plain(await containers.forward([input()]));
      const asMap = (value: Value) => new Map(Object.entries(value as Record<string, Value>)) as unknown as Value;
      const handles = [
        containers.registerForwardHook('dictionary', (_, _input, output) => asMap(output)),
        containers.registerForwardHook('', (_, _input, output) => [
          (output as Value[])[0],
          asMap((output as Value[])[1]),
        ]),
      ];
      expect(plain(await containers.forward([input()]))).toEqual(before);
      for (const handle of handles) handle.remove();
      containers.registerForwardHook('dictionary', () => new Map([[{}, 1]]) as unknown as Value);
      await expect(containers.forward([input()])).rejects.toMatchObject({
        code: 'ERR_HOOK_FAILED',
        cause: { code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining("a key of the hook's result") },
      });
      containers.dispose();
    });

    test('a hook gets the name and the type of its module', async () => {
      const modules: unknown[] = [];
      const handles = ['', 'blocks.1.feed', 'head'].map((path) =>
        model.registerForwardPreHook(path, (module) => {
          modules.push(module);
        }),
      );
      await model.forward([input()]);
      expect(modules).toEqual([
        { name: '', type: 'Hand' },
        { name: 'blocks.1.feed', type: 'Feed' },
        { name: 'head', type: 'Linear' },
      ]);
      for (const handle of handles) handle.remove();
    });

    test('the event loop goes on while a hook waits', async () => {
      let turns = 0;
      const timer = setInterval(() => turns++, 1);
      const handle = model.registerForwardHook('blocks.0', () => ticks(50) as Promise<undefined>);
      await model.forward([input()]);
      clearInterval(timer);
      handle.remove();
      expect(turns).toBeGreaterThan(10);
    });

    test('hooks see captures too, and a replaced value changes what is captured behind it', async () => {
      const plainCapture = await model.captureAttention([input()]);
      const handle = model.registerForwardHook('blocks.0', (_, _input, output) => (output as Tensor).mul(-3));
      const hooked = await model.captureAttention([input()]);
      expect(plain(hooked.attentions[0]?.weights)).toEqual(plain(plainCapture.attentions[0]?.weights));
      expect(plain(hooked.attentions[1]?.weights)).not.toEqual(plain(plainCapture.attentions[1]?.weights));
      handle.remove();
    });
  });

  describe('values that JavaScript has no form for', () => {
    let objects: ScriptModule;
    let whole: unknown;

    beforeEach(async () => {
      objects = await ScriptModule.load(fixture('objects_script.pt'));
      whole = plain(await objects.forward([input()]));
    });

    afterEach(() => objects.dispose());

    test('reach hooks as frozen objects with the name of their type, also in containers', async () => {
      const seen: Record<string, unknown[]> = {};
      for (const path of ['make', 'several', 'use']) {
        objects.registerForwardHook(path, (_, values, output) => {
          seen[path] = [values, output];
        });
      }
      expect(plain(await objects.forward([input()]))).toEqual(whole);
      const [, made] = seen.make as [Value[], ScriptObject];
      expect(made).toBeInstanceOf(ScriptObject);
      expect(Object.isFrozen(made)).toBe(true);
      expect(made.type).toMatch(/\bBoxes$/);
      const boxes = expect.objectContaining({ type: made.type });
      expect(seen.several).toEqual([
        [boxes, expect.objectContaining({ type: 'complex' })],
        [{ boxes: [boxes, boxes] }, expect.any(Tensor)],
      ]);
      expect(seen.use).toEqual([[boxes, [boxes, boxes]], expect.any(Tensor)]);
    });

    test('go on where they are given back', async () => {
      const handles = ['make', 'several', 'use'].flatMap((path) => [
        objects.registerForwardPreHook(path, (_, values) => values),
        objects.registerForwardHook(path, (_, _input, output) => output),
      ]);
      expect(plain(await objects.forward([input()]))).toEqual(whole);
      for (const handle of handles) handle.remove();
      // One of this run in place of another.
      objects.registerForwardPreHook('use', (_, [, more]) => [(more as Value[])[1], more] as Value[]);
      expect(plain(await objects.forward([input()]))).not.toEqual(whole);
    });

    test('are outputs and inputs of the model as well', async () => {
      const [made, x] = (await objects.forward([input()], { method: 'give' })) as Value[];
      expect(plain(x)).toEqual(plain(input()));
      expect((await objects.forward([made as Value], { method: 'take' })) as Tensor).toBeInstanceOf(Tensor);
      await expect(objects.forward([made as Value])).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(/a Tensor for input 0 .* received a ScriptObject of type .*Boxes/),
      });
    });

    test('cannot be made, nor be another model’s', async () => {
      const other = await ScriptModule.load(fixture('objects_script.pt'));
      const [theirs] = (await other.forward([input()], { method: 'give' })) as Value[];
      for (const wrong of [theirs as Value, {}, 7, input()]) {
        const handle = objects.registerForwardHook('make', () => wrong);
        await expect(objects.forward([input()])).rejects.toMatchObject({
          code: 'ERR_HOOK_FAILED',
          message: expect.stringMatching(/forward hook on 'make' .*ScriptObject of this model's type .*Boxes/),
        });
        handle.remove();
      }
      other.dispose();
    });
  });

  describe('models inside hooks', () => {
    test.each<[string, () => Promise<unknown>]>([
      ['forward', () => model.forward([input()])],
      ['captureAttention', () => model.captureAttention([input()])],
      ['attentionSites', () => model.attentionSites([input()])],
      ['forward after a wait', () => ticks(5).then(() => model.forward([input()]))],
      [
        'forward in a thenable',
        // biome-ignore lint/suspicious/noThenProperty: that is what it is about
        () => ({ then: (...args) => model.forward([input()]).then(...args) }) as Promise<Value>,
      ],
    ])('the same model is an error, never a deadlock: %s', async (_, call) => {
      const handle = model.registerForwardHook('blocks.0', () => call() as Promise<undefined>);
      await expect(model.forward([input()])).rejects.toMatchObject({
        code: 'ERR_HOOK_FAILED',
        cause: { code: 'ERR_MODEL_RUN', message: expect.stringContaining('inside one of its own hooks') },
      });
      handle.remove();
      await expectUnharmed();
    });

    test.each<[string, (start: (run: () => Promise<unknown>) => void) => unknown]>([
      ['a timer', (start) => void setTimeout(() => start(() => model.forward([input()])), 100)],
      ['a task', (start) => start(() => ticks(100).then(() => model.forward([input()])))],
      [
        'a task of an async hook',
        async (start) => {
          start(() => ticks(100).then(() => model.captureAttention([input()])));
          await ticks(1);
        },
      ],
      [
        'a task of a hook that fails',
        (start) => {
          start(() => ticks(100).then(() => model.forward([input()])));
          throw new Error('no');
        },
      ],
    ])('%s that a hook began runs the model when the hook is over', async (_, begin) => {
      const begun = new Promise<unknown>((resolve, reject) => {
        const handle = model.registerForwardHook('blocks.0', () => {
          handle.remove();
          return begin((run) => void run().then(resolve, reject)) as never;
        });
      });
      await model.forward([input()]).catch(() => {});
      await begun;
      await expectUnharmed();
    });

    test('what a hook began is refused as long as the hook waits', async () => {
      let begun: Promise<unknown> | undefined;
      const handle = model.registerForwardHook('blocks.0', async () => {
        begun = ticks(5).then(() => model.forward([input()]));
        begun.catch(() => {});
        await ticks(50);
      });
      await model.forward([input()]);
      await expect(begun).rejects.toMatchObject({ code: 'ERR_MODEL_RUN' });
      handle.remove();
      await expectUnharmed();
    });

    test('another model works, also with hooks of its own', async () => {
      const other = await ScriptModule.load(fixture('thrice_script.pt'));
      const shared = other.registerForwardHook('shared', async () => {
        await ticks(1);
      });
      const handle = model.registerForwardHook(
        'blocks.0',
        async (_, [x]) => (await other.forward([x as Tensor])) as Tensor,
      );
      await model.forward([input()]);
      expect(shared.calls).toBe(3);
      handle.remove();
      other.dispose();
      await expectUnharmed();
    });

    test('two models that call each other are an error', async () => {
      const other = await ScriptModule.load(fixture('thrice_script.pt'));
      const there = model.registerForwardHook('blocks.0', async () => {
        await other.forward([input()]);
      });
      const back = other.registerForwardHook('shared', async () => {
        await model.forward([input()]);
      });
      await expect(model.forward([input()])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED' });
      there.remove();
      back.remove();
      other.dispose();
      await expectUnharmed();
    });

    test('backward inside a backward hook of another graph', async () => {
      const handle = model.registerFullBackwardHook('head', async () => {
        const x = Tensor.from([2]);
        x.requiresGrad = true;
        await x.mul(x).sum().backward();
        expect(x.grad?.item()).toBe(4);
      });
      const output = (await model.forward([input()], { grad: true })) as Tensor;
      await output.sum().backward();
      expect(handle.calls).toBe(1);
      handle.remove();
    });
  });

  describe('hooks that cannot fire', () => {
    async function warningsOf(run: () => Promise<unknown>): Promise<string[]> {
      const warnings: string[] = [];
      const emit = jest.spyOn(process, 'emitWarning').mockImplementation(((
        message: string,
        options: { code?: string },
      ) => {
        if (options.code === 'HOOK_NOT_FIRED') warnings.push(message);
      }) as never);
      await run();
      emit.mockRestore();
      return warnings;
    }

    test('are reported once: the projection inside an attention, a ModuleList, a branch not taken', async () => {
      const cases: [string, string, Value[]][] = [
        ['encoder_script.pt', 'encoder.layers.0.self_attn.out_proj', [input(), mask()]],
        ['encoder_script.pt', 'encoder.layers', [input(), mask()]],
        ['looped_script.pt', 'never', [input(), 2]],
      ];
      for (const [file, path, inputs] of cases) {
        const other = await ScriptModule.load(fixture(file));
        const handle = other.registerForwardHook(path, () => {});
        const warnings = await warningsOf(() => other.forward(inputs));
        expect(warnings).toEqual([expect.stringContaining(`forward hook on '${path}'`)]);
        expect(await warningsOf(() => other.forward(inputs))).toEqual([]);
        expect(handle.calls).toBe(0);
        other.dispose();
      }
    });

    test('are reported by captures too', async () => {
      const path = 'encoder.layers.0.self_attn.out_proj';
      for (const run of ['captureAttention', 'attentionSites'] as const) {
        const other = await ScriptModule.load(fixture('encoder_script.pt'));
        other.registerForwardHook(path, () => {});
        const inputs = [input(), mask()];
        expect(await warningsOf(() => other[run](inputs))).toEqual([
          expect.stringContaining(`forward hook on '${path}' does not fire`),
        ]);
        expect(await warningsOf(() => other.forward(inputs))).toEqual([]);
        other.dispose();
      }
    });

    test('of the backward pass are reported by the first run with gradients', async () => {
      const other = await ScriptModule.load(fixture('looped_script.pt'));
      const handle = other.registerFullBackwardHook('never', () => {});
      const inputs = [input(), 2];
      expect(await warningsOf(() => other.forward(inputs))).toEqual([]);
      expect(await warningsOf(() => other.forward(inputs, { grad: true }))).toEqual([
        expect.stringContaining("backward hook on 'never' does not fire"),
      ]);
      expect(await warningsOf(() => other.forward(inputs, { grad: true }))).toEqual([]);
      expect(handle.calls).toBe(0);
      other.dispose();
    });

    test('are one warning for a run, however many there are', async () => {
      const other = await ScriptModule.load(fixture('looped_script.pt'));
      for (let i = 0; i < 54; ++i) other.registerForwardHook('never', () => {});
      other.registerFullBackwardHook('never', () => {});
      const inputs = [input(), 2];
      const warnings = await warningsOf(() => other.forward(inputs, { grad: true }));
      expect(warnings).toEqual([expect.stringMatching(/(forward hook on 'never', ){4}.* and 50 more do not fire/)]);
      expect(await warningsOf(() => other.forward(inputs, { grad: true }))).toEqual([]);
      other.dispose();
    });

    test('are not reported where they fire, were removed, or the run failed', async () => {
      const fires = model.registerForwardHook('head', () => {});
      const backward = model.registerFullBackwardHook('head', () => {});
      model.registerForwardHook('blocks', () => {}).remove();
      expect(await warningsOf(() => model.forward([input()]))).toEqual([]);
      expect(await warningsOf(() => model.forward([input()], { grad: true }))).toEqual([]);
      fires.remove();
      backward.remove();
    });

    test('a frozen model has no module to hook', async () => {
      const frozen = await ScriptModule.load(fixture('grad_sdpa_script_frozen.pt'));
      expect(() => frozen.registerForwardHook('blocks.0', () => {})).toThrow(
        expect.objectContaining({
          code: 'ERR_UNKNOWN_MODULE',
          message: expect.stringMatching(/frozen.*but received 'blocks\.0'; hooks can sit on the model itself \(''\)/),
        }),
      );
      const whole = frozen.registerForwardHook('', (_, _input, output) => (output as Tensor).mul(2));
      await frozen.forward([input()]);
      expect(whole.calls).toBe(1);
      frozen.dispose();
    });

    test.each<[string, unknown, unknown, string]>([
      ['an unknown name', 'blocks.7', () => {}, 'ERR_UNKNOWN_MODULE'],
      ['no name', undefined, () => {}, 'ERR_INVALID_ARGUMENT'],
      ['no function', 'head', undefined, 'ERR_INVALID_ARGUMENT'],
      ['something else', 'head', 'hook', 'ERR_INVALID_ARGUMENT'],
    ])('registering %s is an error', (_, path, hook, code) => {
      for (const method of ['registerForwardPreHook', 'registerForwardHook', 'registerFullBackwardHook'] as const) {
        const register = model[method].bind(model) as (path: unknown, hook: unknown) => unknown;
        expect(() => register(path, hook)).toThrow(expect.objectContaining({ code }));
      }
    });
  });

  function mask(): Tensor {
    return Tensor.from(new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1]), { shape: [2, 5], dtype: 'bool' });
  }

  describe('the process around', () => {
    const script = `
    const { ScriptModule, Tensor } = require(${JSON.stringify(join(root, 'dist', 'index.js'))});
    const file = ${JSON.stringify(fixture('hand_sdpa_script.pt'))};
    const input = () => Tensor.from(new Float32Array(160).fill(0.5), { shape: [2, 5, 16] });
  `;

    test('a worker ended while a hook waits', async () => {
      const code = `${script}
      const { parentPort } = require('node:worker_threads');
      ScriptModule.load(file).then(async (model) => {
        model.registerForwardHook('blocks.0', () => { parentPort.postMessage('waiting'); return new Promise(() => {}); });
        setInterval(() => {}, 1000);
        await model.forward([input()]);
      });`;
      for (let round = 0; round < 3; round++) {
        const worker = new Worker(code, { eval: true });
        await once(worker, 'message');
        await worker.terminate();
      }
      await expectUnharmed();
    });

    const run = (code: string, ...flags: string[]) =>
      promisify(execFile)(process.execPath, [...flags, '-e', `${script}${code}`], { timeout: 55_000 });

    test('a process that exits while a hook waits', async () => {
      const { stdout } = await run(`ScriptModule.load(file).then((model) => {
      model.registerForwardHook('blocks.0', () => { console.log('waiting'); setTimeout(() => process.exit(0), 20); return new Promise(() => {}); });
      return model.forward([input()]);
    });`);
      expect(stdout).toBe('waiting\n');
    });

    test('a promise that nobody can settle any more does not keep a run for ever', async () => {
      const { stdout } = await run(
        `ScriptModule.load(file).then(async (model) => {
        const handle = model.registerForwardHook('blocks.0', () => new Promise(() => {}));
        const timer = setInterval(gc, 20);
        await model.forward([input()]).catch((error) => console.log(error.code));
        clearInterval(timer);
        handle.remove();
        const output = await model.forward([input()]);
        console.log(output.shape.join());
      });`,
        '--expose-gc',
      );
      expect(stdout).toBe('ERR_HOOK_FAILED\n2,3\n');
    });

    test('ten thousand rounds of register, run, remove leave memory where it was', async () => {
      const { stdout } = await run(
        `(async () => {
        const model = await ScriptModule.load(${JSON.stringify(fixture('two_names_script.pt'))});
        const x = Tensor.from(new Float32Array(16).fill(0.5), { shape: [1, 16] });
        const round = async (i) => {
          const handles = [
            model.registerForwardPreHook('first', () => {}),
            model.registerForwardHook('third', (_, input, output) => i % 2 ? output : undefined),
            model.registerFullBackwardHook('third', () => {}),
          ];
          if (i % 10 === 0) {
            const failing = model.registerForwardHook('third', () => { throw new Error('no'); });
            await model.forward([x]).catch(() => {});
            failing.remove();
          }
          const output = await model.forward([x], { grad: i % 4 === 0 });
          if (i % 4 === 0) await output.sum().backward();
          for (const handle of handles) handle.remove();
        };
        const settled = async () => { for (let i = 0; i < 5; i++) { gc(); await new Promise((r) => setTimeout(r, 20)); } return process.memoryUsage().rss; };
        for (let i = 0; i < 3000; i++) await round(i);
        const before = await settled();
        for (let i = 0; i < 10000; i++) await round(i);
        console.log((await settled() - before) / 2 ** 20);
      })();`,
        '--expose-gc',
        '--max-semi-space-size=1', // V8 would grow its own young generation meanwhile
      );
      expect(Number(stdout)).toBeLessThan(8);
    });
  });
});

describe('ScriptModule#forward with hooks and a signal', () => {
  describe('an aborted signal', () => {
    test('inside a hook: the reason, and later modules never run', async () => {
      const controller = new AbortController();
      const reason = new Error('enough');
      const later = jest.fn();
      const handles = [
        model.registerForwardHook('blocks.0', () => controller.abort(reason)),
        model.registerForwardPreHook('blocks.1', later),
        model.registerForwardPreHook('head', later),
      ];
      await expect(model.forward([input()], { signal: controller.signal })).rejects.toBe(reason);
      await ticks(50);
      expect(later).not.toHaveBeenCalled();
      for (const handle of handles) handle.remove();
      await expectUnharmed();
    });

    test('ends the wait for a hook that never settles', async () => {
      const controller = new AbortController();
      const handle = model.registerForwardHook('blocks.0', () => new Promise(() => {}));
      const later = jest.fn();
      const after = model.registerForwardPreHook('head', later);
      setTimeout(() => controller.abort(), 20);
      const started = performance.now();
      const error = await model.forward([input()], { signal: controller.signal }).catch((caught) => caught);
      expect(error).toBe(controller.signal.reason);
      expect(performance.now() - started).toBeLessThan(2000);
      handle.remove();
      after.remove();
      await ticks(50);
      expect(later).not.toHaveBeenCalled();
      await expectUnharmed();
    });

    test('a hook that settles after that changes nothing', async () => {
      const controller = new AbortController();
      let settle: (value: Tensor) => void = () => {};
      const handle = model.registerForwardHook(
        'blocks.0',
        () =>
          new Promise<Tensor>((resolve) => {
            settle = resolve;
          }),
      );
      setTimeout(() => controller.abort('late'), 20);
      await expect(model.forward([input()], { signal: controller.signal })).rejects.toBe('late');
      await ticks(60);
      settle(input());
      handle.remove();
      await expectUnharmed();
    });
  });
});
