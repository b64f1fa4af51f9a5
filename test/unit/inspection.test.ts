import { inspect } from 'node:util';
import { nn, ScriptModule, Tensor, versions } from '../../lib/index';
import { runScript } from './built-process';
import { fixture, path } from './model-fixtures';

const shown = (value: unknown) => inspect(value, { breakLength: Number.POSITIVE_INFINITY, compact: true });

describe('util.inspect of a tensor', () => {
  test.each([
    [
      () =>
        Tensor.from([
          [1, 2.5],
          [3, 4],
        ]),
      "{ shape: [ 2, 2 ], dtype: 'float32', device: 'cpu', values: [ [ 1, 2.5 ], [ 3, 4 ] ] }",
    ],
    [() => Tensor.from(0.1), "{ shape: [], dtype: 'float32', device: 'cpu', values: 0.1 }"],
    [
      () => Tensor.from([0.1], { dtype: 'float16' }),
      "{ shape: [ 1 ], dtype: 'float16', device: 'cpu', values: [ 0.09998 ] }",
    ],
    [() => Tensor.from([1n]), "{ shape: [ 1 ], dtype: 'int64', device: 'cpu', values: [ 1n ] }"],
    [() => Tensor.from([true]), "{ shape: [ 1 ], dtype: 'bool', device: 'cpu', values: [ true ] }"],
    [
      () => Tensor.from([Number.NaN, Number.NEGATIVE_INFINITY]),
      "{ shape: [ 2 ], dtype: 'float32', device: 'cpu', values: [ NaN, -Infinity ] }",
    ],
    [() => Tensor.zeros([2, 0]), "{ shape: [ 2, 0 ], dtype: 'float32', device: 'cpu', values: [ [], [] ] }"],
  ])('shows shape, dtype, device and values', (make, expected) => {
    expect(shown(make())).toBe(`Tensor ${expected}`);
  });

  test('shows the first values of each dimension of a large one, and how many there are', () => {
    const text = shown(Tensor.zeros([3, 10_000, 1000]));
    expect(text).toMatch(/^Tensor \{ shape: \[ 3, 10000, 1000 \]/);
    expect(text).toMatch(/… 992 more/);
    expect(text).toMatch(/… 9996 more/);
    expect(text.length).toBeLessThan(600);
    expect(shown(Tensor.zeros([...Array(56).fill(1), ...Array(8).fill(4)])).length).toBeLessThan(8000);
  });

  test('copies no large view that is not contiguous', async () => {
    const { output } = await runScript(`
      const view = Tensor.zeros([8192, 8192]).transpose(0, 1);
      const before = process.resourceUsage().maxRSS;
      require('node:util').inspect(view);
      console.log(process.resourceUsage().maxRSS - before < 128 * 1024);`);
    expect(output).toBe('true');
  });

  test('says that gradients are asked for, and leaves no trace in them', async () => {
    const x = Tensor.from([1, 2]);
    x.requiresGrad = true;
    const y = x.mul(2);
    expect(shown(y)).toMatch(/requiresGrad: true, values: \[ 2, 4 \]/);
    await y.sum().backward();
    expect(x.grad?.toArray()).toEqual([2, 2]);
  });

  test('says that it is disposed, and is a name where objects are no longer shown', () => {
    const tensor = Tensor.from([1]);
    expect(inspect({ tensor }, { depth: 0 })).toBe('{ tensor: [Tensor] }');
    tensor.dispose();
    expect(shown(tensor)).toBe('Tensor { (disposed) }');
  });
});

describe('util.inspect of a model', () => {
  test('shows its class, type, modules and device', async () => {
    const model = await ScriptModule.load(path(fixture('caching').file));
    const modules = model.modules();
    expect(shown(model)).toBe(
      `ScriptModule { type: '${modules[0]?.type}', modules: ${modules.length}, parameters: ${model.namedParameters().length}, device: 'cpu' }`,
    );
    model.dispose();
    expect(shown(model)).toBe('ScriptModule { (disposed) }');
  });

  test('of nn as well, and of one without parameters', async () => {
    expect(shown(new nn.LayerNorm(4))).toBe(
      "LayerNorm { type: 'LayerNorm', modules: 1, parameters: 2, device: 'cpu' }",
    );
  });
});

describe('util.inspect of a handle', () => {
  test('util.inspect of a handle shows where its hook stands and how often it fired', async () => {
    const norm = new nn.LayerNorm(4);
    const handle = norm.registerForwardHook('', () => {});
    await norm.forward(Tensor.zeros([2, 4]));
    expect(shown(handle)).toBe("RemovableHandle { kind: 'forward', path: '', calls: 1, removed: false }");
    handle.remove();
    expect(shown(handle)).toBe("RemovableHandle { kind: 'forward', path: '', calls: 1, removed: true }");
  });
});

test('util.inspect of versions shows them', () => {
  const { package: own, libtorch, cuda } = versions;
  expect(shown(versions)).toBe(shown({ package: own, libtorch, cuda }));
  expect(shown(versions)).not.toContain('Getter');
  expect(JSON.parse(JSON.stringify(versions))).toEqual({ package: own, libtorch, cuda });
});
