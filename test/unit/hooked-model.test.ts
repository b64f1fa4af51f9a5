import { HookedModel, ScriptModule, ScriptObject, Tensor, type Value } from '../../lib/index';
import { fixture, plain } from './hook-fixtures';

function input(): Tensor {
  return Tensor.from(
    Float32Array.from({ length: 160 }, (_, i) => Math.sin(i)),
    { shape: [2, 5, 16] },
  );
}

let model: ScriptModule;
let hooked: HookedModel<ScriptModule>;

beforeEach(async () => {
  model = await ScriptModule.load(fixture('hand_sdpa_script.pt'));
  hooked = new HookedModel(model);
});

afterEach(() => model.dispose());

describe('HookedModel#hooks', () => {
  test('records what hooks see, by name', async () => {
    const seen: unknown[] = [];
    const handle = model.registerForwardHook('blocks.1', (_, values, output) => {
      seen.push(plain(values), plain(output));
    });
    hooked.setForwardHook('second block', 'blocks.1');
    hooked.setForwardPreHook('into the head', 'head');
    const output = await model.forward([input()]);
    handle.remove();

    expect(hooked.model).toBe(model);
    expect([...hooked.hooks.keys()]).toEqual(['second block', 'into the head']);
    const block = hooked.hooks.get('second block');
    expect(plain(block?.input)).toEqual(seen[0]);
    expect(plain(block?.output)).toEqual(seen[1]);
    const head = hooked.hooks.get('into the head');
    expect(plain(head?.input)).toMatchObject([{ shape: [2, 16] }]);
    expect(head && 'output' in head).toBe(false);
    expect((output as Tensor).shape).toEqual([2, 3]);
  });

  test('the record stays while nothing runs, and is of the last call', async () => {
    hooked.setForwardHook('block', 'blocks.0');
    await model.forward([input()]);
    const first = hooked.hooks.get('block');
    expect(hooked.hooks.get('block')).toBe(first);
    await model.forward([input().mul(2)]);
    expect(plain(hooked.hooks.get('block')?.input)).toEqual([plain(input().mul(2))]);
    expect(plain(first?.input)).toEqual([plain(input())]);
  });

  test('the last of several calls in one forward', async () => {
    const thrice = await ScriptModule.load(fixture('thrice_script.pt'));
    const outputs: unknown[] = [];
    thrice.registerForwardHook('shared', (_, _input, output) => {
      outputs.push(plain(output));
    });
    const recorder = new HookedModel(thrice);
    const handle = recorder.setForwardHook('shared', 'shared');
    await thrice.forward([input()]);
    expect(handle.calls).toBe(3);
    expect(plain(recorder.hooks.get('shared')?.output)).toEqual(outputs[2]);
    thrice.dispose();
  });

  test('what was recorded outlives its model', async () => {
    hooked.setForwardHook('block', 'blocks.0');
    await model.forward([input()]);
    model.dispose();
    expect(plain(hooked.hooks.get('block')?.input)).toEqual([plain(input())]);
  });

  test('containers are recorded as they are', async () => {
    const containers = await ScriptModule.load(fixture('containers_script.pt'));
    const recorder = new HookedModel(containers);
    for (const path of ['split', 'both', 'named', 'dictionary', 'listing', ''])
      recorder.setForwardHook(path || 'root', path);
    await containers.forward([input()]);
    const output = (name: string) => recorder.hooks.get(name)?.output as never;
    expect(output('split')).toHaveLength(2);
    expect(recorder.hooks.get('both')?.input).toEqual([[expect.any(Tensor), expect.any(Tensor)]]);
    expect(output('named')).toHaveProperty('left');
    expect(Object.keys(output('dictionary'))).toEqual(['double', 'half']);
    expect(recorder.hooks.get('listing')?.input).toEqual([expect.any(Tensor), 3, false]);
    expect(output('root')).toHaveLength(2);
    containers.dispose();
  });

  test('values that JavaScript has no form for are recorded, and hide no other record', async () => {
    const objects = await ScriptModule.load(fixture('objects_script.pt'));
    const recorder = new HookedModel(objects);
    for (const path of ['make', 'several', 'head']) recorder.setForwardHook(path, path);
    await objects.forward([input()]);
    expect([...recorder.hooks.keys()]).toEqual(['make', 'several', 'head']);
    expect(recorder.hooks.get('make')?.output).toBeInstanceOf(ScriptObject);
    expect(recorder.hooks.get('several')?.input).toEqual([expect.any(ScriptObject), expect.any(ScriptObject)]);
    expect(recorder.hooks.get('head')?.output).toBeInstanceOf(Tensor);
    objects.dispose();
  });
});

describe('HookedModel#setForwardHook and setForwardPreHook', () => {
  test('without fn nothing crosses to JavaScript during the run', async () => {
    for (const { name } of model.modules()) hooked.setForwardHook(`forward ${name}`, name);
    const running = model.forward([input()]);
    // The event loop's thread is kept busy here: a hook that needed it could not have fired before.
    const until = performance.now() + 3000;
    const handle = hooked.setForwardHook('late', 'head');
    const [first] = [...model.modules()].map(({ name }) => name).filter((name) => name !== '' && name !== 'blocks');
    while (!hooked.hooks.has('forward head') && performance.now() < until);
    expect(hooked.hooks.has('forward head')).toBe(true);
    expect(hooked.hooks.has(`forward ${first}`)).toBe(true);
    expect(handle.calls).toBe(0);
    await running;
  });

  test('fn maps what is stored and leaves the run alone', async () => {
    const expected = plain(await model.forward([input()]));
    hooked.setForwardHook('mapped', 'blocks.0', async ({ name }, values, output) => [
      [name, (values[0] as Tensor).shape.length],
      (output as Tensor).mul(0),
    ]);
    hooked.setForwardPreHook('before', 'head', (_, [x]) => [(x as Tensor).sum().item()]);
    expect(plain(await model.forward([input()]))).toEqual(expected);
    const mapped = hooked.hooks.get('mapped');
    expect(mapped?.input).toEqual(['blocks.0', 3]);
    expect((plain(mapped?.output) as { data: number[] }).data.every((x) => x === 0)).toBe(true);
    expect(hooked.hooks.get('before')?.input).toEqual([expect.any(Number)]);
  });

  test('fn may return any thenable', async () => {
    const later = <Result>(result: Result): PromiseLike<Result> => ({
      // biome-ignore lint/suspicious/noThenProperty: that is what it is about
      then(resolve) {
        resolve?.(result);
        return Promise.resolve() as never;
      },
    });
    hooked.setForwardHook('mapped', 'head', (_, values, output) =>
      later([[values.length], (output as Tensor).shape[1] ?? 0]),
    );
    hooked.setForwardPreHook('before', 'head', () => later(['seen']));
    await model.forward([input()]);
    expect(hooked.hooks.get('mapped')).toEqual({ input: [1], output: 3 });
    expect(hooked.hooks.get('before')).toEqual({ input: ['seen'] });
  });

  test('several hooks on one module, each by its own name', async () => {
    hooked.setForwardHook('a', 'head');
    hooked.setForwardHook('b', 'head');
    hooked.setForwardPreHook('c', 'head');
    await model.forward([input()]);
    expect([...hooked.hooks.keys()]).toEqual(['a', 'b', 'c']);
    hooked.delHook('b');
    expect([...hooked.hooks.keys()]).toEqual(['a', 'c']);
  });

  describe('what is refused', () => {
    test.each<[string, () => unknown, string]>([
      [
        'a name in use',
        () => {
          hooked.setForwardHook('x', 'head');
          hooked.setForwardPreHook('x', 'blocks.0');
        },
        'ERR_HOOK_NAME_IN_USE',
      ],
      ['an unknown path', () => hooked.setForwardHook('x', 'blocks.9'), 'ERR_UNKNOWN_MODULE'],
      ['an unknown name', () => hooked.delHook('x'), 'ERR_INVALID_ARGUMENT'],
      ['no name', () => hooked.setForwardHook(undefined as never, 'head'), 'ERR_INVALID_ARGUMENT'],
      ['an empty name', () => hooked.setForwardHook('', 'head'), 'ERR_INVALID_ARGUMENT'],
      ['no path', () => hooked.setBackwardHook('x', undefined as never), 'ERR_INVALID_ARGUMENT'],
      ['no function', () => hooked.setForwardHook('x', 'head', 'f' as never), 'ERR_INVALID_ARGUMENT'],
      ['no model', () => new HookedModel({} as never), 'ERR_INVALID_ARGUMENT'],
      ['null', () => new HookedModel(null as never), 'ERR_INVALID_ARGUMENT'],
    ])('%s', (_, call, code) => {
      expect(call).toThrow(expect.objectContaining({ code }));
    });

    test('a failed registration leaves the name free', () => {
      expect(() => hooked.setForwardHook('x', 'blocks.9')).toThrow();
      hooked.setForwardHook('x', 'head');
    });

    test('a mapping that is no tuple rejects the run', async () => {
      hooked.setForwardHook('x', 'head', (() => 7) as never);
      await expect(model.forward([input()])).rejects.toMatchObject({
        code: 'ERR_HOOK_FAILED',
        cause: { code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining("'x'") },
      });
      hooked.delHook('x');
      await model.forward([input()]);
    });

    test('a mapping that throws rejects the run with its cause', async () => {
      const cause = new Error('no');
      hooked.setForwardPreHook('x', 'head', () => {
        throw cause;
      });
      await expect(model.forward([input()])).rejects.toMatchObject({ code: 'ERR_HOOK_FAILED', cause });
      hooked.delHook('x');
      await model.forward([input()]);
    });
  });
});

describe('HookedModel#setBackwardHook', () => {
  test('backward hooks record the gradients, and fn replaces those of the input', async () => {
    hooked.setBackwardHook('recorded', 'blocks.1');
    hooked.setBackwardHook('zeroed', 'blocks.0', (_, gradInput, gradOutput) => [
      gradInput.map((each) => each?.mul(0) ?? null),
      gradOutput,
    ]);
    const x = input();
    x.requiresGrad = true;
    const output = (await model.forward([x], { grad: true })) as Tensor;
    expect(hooked.hooks.size).toBe(0);
    await output.sum().backward();
    const recorded = hooked.hooks.get('recorded');
    expect((recorded as { input: Tensor[] }).input[0]?.shape).toEqual([2, 5, 16]);
    expect((recorded as unknown as { output: Tensor[] }).output[0]?.shape).toEqual([2, 5, 16]);
    expect(hooked.hooks.get('zeroed')?.input).toHaveLength(1);
    expect(Array.from(x.grad?.toTypedArray() ?? [], Number).every((each) => each === 0)).toBe(true);
  });
});

describe('HookedModel#delHook', () => {
  test('delHook removes the hook, its record, and frees the name', async () => {
    const fn = jest.fn((_module: unknown, values: Value[]) => values);
    hooked.setForwardPreHook('name', 'head', fn);
    await model.forward([input()]);
    hooked.delHook('name');
    await model.forward([input()]);
    expect(fn).toHaveBeenCalledTimes(1);
    expect(hooked.hooks.size).toBe(0);
    hooked.setForwardHook('name', 'blocks.0');
    await model.forward([input()]);
    expect(hooked.hooks.has('name')).toBe(true);
  });

  test('remove of the handle keeps the record and the name until delHook', async () => {
    const handle = hooked.setForwardHook('name', 'head');
    await model.forward([input()]);
    handle.remove();
    await model.forward([input().mul(5)]);
    expect(handle.calls).toBe(1);
    expect(hooked.hooks.has('name')).toBe(true);
    hooked.delHook('name');
  });
});
