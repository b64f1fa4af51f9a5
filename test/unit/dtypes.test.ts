import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import type { Entry } from '../../lib/formats/entry';
import { fileOf } from '../../lib/formats/file';
import { parseJson } from '../../lib/formats/json';
import { readNpz } from '../../lib/formats/npz';
import { readSafetensors, writeSafetensors } from '../../lib/formats/safetensors';
import { readTorchSave } from '../../lib/formats/torch-save';
import {
  type DType,
  ExportedProgram,
  HookedModel,
  loadModel,
  nn,
  ScriptModule,
  Tensor,
  type TypedArray,
  type Value,
} from '../../lib/index';

const FOLDER = join(__dirname, '../fixtures/dtypes');
const file = (name: string) => join(FOLDER, name);

/** What the types hold: scripts/make_dtype_fixtures.py made the files of the same. */
const ELEMENTS = {
  uint16: Uint16Array.of(0, 1, 255, 65535),
  uint32: Uint32Array.of(0, 1, 65536, 2 ** 32 - 1),
  uint64: BigUint64Array.of(0n, 1n, 2n ** 53n + 1n, 2n ** 64n - 1n),
  complex64: Float32Array.of(1.5, -2, -0, 0.1, Number.POSITIVE_INFINITY, Number.NaN, 3e-3, 1),
  complex128: Float64Array.of(1.5, -2, -0, 0.1, Number.POSITIVE_INFINITY, Number.NaN, 3e-3, 1),
};
type Rare = keyof typeof ELEMENTS;
const RARE = Object.keys(ELEMENTS) as Rare[];

const made = <Name extends Rare>(dtype: Name): Tensor<Name> =>
  Tensor.from(ELEMENTS[dtype] as TypedArray, { dtype, shape: [2, 2] }) as Tensor<Name>;

/** The tensors of the fixtures by name, as Python computed them. */
async function stored(): Promise<Map<string, Tensor>> {
  const path = file('tensors.pth');
  const { entries } = await readTorchSave(fileOf(readFileSync(path), path), { prefix: '', names: new Set() }, true);
  return byName(entries);
}

const byName = (entries: readonly Entry[]): Map<string, Tensor> =>
  new Map(entries.map(({ name, dtype, shape, data }) => [name, Tensor.from(data, { dtype, shape })]));

const refused = (message: RegExp) =>
  expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) });

describe('files', () => {
  it('of torch.save, safetensors and NumPy hold the same elements', async () => {
    const saved = await stored();
    for (const dtype of RARE) expect(saved.get(dtype)).toEqual(made(dtype));
    const safetensors = byName((await readSafetensors(file('tensors.safetensors'))).entries);
    expect(safetensors.size).toBe(8);
    for (const [name, tensor] of safetensors) expect(tensor).toEqual(saved.get(name));
    const npz = byName((await readNpz(file('tensors.npz'))).entries);
    for (const [name, tensor] of npz) expect(tensor).toEqual(saved.get(name.replace('swapped.', '')));
    expect(npz.size).toBe(15);
  });

  it('of safetensors are written as Python writes them; complex128 is refused, since the format lacks it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'dtypes-'));
    try {
      const { entries, metadata } = await readSafetensors(file('tensors.safetensors'));
      await writeSafetensors(join(folder, 'again.safetensors'), entries, metadata);
      const again = await readSafetensors(join(folder, 'again.safetensors'));
      expect(byName(again.entries)).toEqual(byName(entries));
      const complex: Entry = { name: 'z', dtype: 'complex128', shape: [], data: Float64Array.of(1, 2) };
      await expect(writeSafetensors(join(folder, 'no.safetensors'), [complex])).rejects.toThrow(
        refused(/a dtype of .*complex64.* for tensor 'z' but received complex128/),
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('models', () => {
  it.each(['dtypes.pt', 'dtypes.pt2'])('%s takes, keeps, shows and gives them as Python does', async (name) => {
    const expected = await stored();
    using model = (await loadModel(file(name))) as ScriptModule | ExportedProgram;
    const state = model.stateDict();
    for (const dtype of RARE) expect(state[dtype]).toEqual(made(dtype));
    const inputs = RARE.map((dtype) => made(dtype) as Value);
    const seen: Tensor[] = [];
    const run = async () => (await model.forward(model instanceof ExportedProgram ? inputs : [inputs])) as Tensor[];
    for (const hooked of [false, true]) {
      if (hooked) {
        model.registerForwardHook('square', (_module, input, output) => {
          seen.push(input[0] as Tensor, output as Tensor);
        });
      }
      const output = await run();
      for (const [i, dtype] of RARE.entries()) expect(output[i]).toEqual(expected.get(`square.${dtype}`));
    }
    expect(seen.map(({ dtype }) => dtype)).toEqual(RARE.flatMap((dtype) => [dtype, dtype]));
  });

  it('take what a hook puts in the place of such tensors, and record them', async () => {
    using model = await ScriptModule.load(file('dtypes.pt'));
    const recorder = new HookedModel(model);
    recorder.setForwardHook('square', 'square');
    model.registerForwardPreHook('square', () => [made('complex64')]);
    const [output] = (await model.forward([[made('uint16')]])) as [Tensor];
    expect(output).toEqual((await stored()).get('square.complex64'));
    expect(recorder.hooks.get('square')?.input).toEqual([made('complex64')]);
  });

  it('give views of other elements than those in memory as the elements that they are', async () => {
    using model = await ScriptModule.load(file('dtypes.pt'));
    const [conjugate, imaginary, transposed] = (await model.forward([], { method: 'lazily' })) as Tensor[];
    const parts = Array.from(ELEMENTS.complex64);
    expect(conjugate?.toTypedArray()).toEqual(Float32Array.from(parts, (part, i) => (i % 2 ? -part : part)));
    expect(imaginary?.toTypedArray()).toEqual(
      Float32Array.from(
        parts.filter((_, i) => i % 2),
        (part) => -part,
      ),
    );
    expect(transposed?.toArray()).toEqual([
      [0, 255],
      [1, 65535],
    ]);
  });

  it('of nn take integers as parameters, and refuse complex numbers instead of dropping imaginary parts', async () => {
    const state = (dtype: DType) => ({
      weight: Tensor.from(
        [1, 2, 3, 4].map((each) => (/^complex/.test(dtype) ? [each, 1] : each)),
        { dtype },
      ),
      bias: Tensor.from([0, 0, 0, 0]),
    });
    for (const dtype of ['uint16', 'uint32', 'uint64'] as const) {
      const norm = new nn.LayerNorm(4);
      await norm.loadStateDict(state(dtype));
      expect(norm.stateDict().weight?.toArray()).toEqual([1, 2, 3, 4]);
    }
    await expect(new nn.LayerNorm(4).loadStateDict(state('complex64'))).rejects.toMatchObject({
      code: 'ERR_MODEL_LOAD',
      message: expect.stringMatching(/a dtype that isn't converted: weight \(complex64\)/),
    });
  });
});

describe('Tensor', () => {
  it('of integers gives numbers, of uint64 bigints, of complex types pairs', () => {
    expect(made('uint16').toArray()).toEqual([
      [0, 1],
      [255, 65535],
    ]);
    expect(made('uint64').toArray()).toEqual([
      [0n, 1n],
      [2n ** 53n + 1n, 2n ** 64n - 1n],
    ]);
    expect(made('complex128').toArray()).toEqual([
      [
        [1.5, -2],
        [-0, 0.1],
      ],
      [
        [Number.POSITIVE_INFINITY, Number.NaN],
        [3e-3, 1],
      ],
    ]);
    expect(Tensor.from(Float32Array.of(1, 2), { dtype: 'complex64', shape: [] }).toArray()).toEqual([1, 2]);
    expect(made('uint64').select(0, 1).select(0, 1).item()).toBe(2n ** 64n - 1n);
    expect(made('uint32').select(0, 1).select(0, 1).item()).toBe(2 ** 32 - 1);
    expect(made('complex64').select(0, 0).select(0, 0).item()).toEqual([1.5, -2]);
  });

  it('is made again of what toArray and JSON give', () => {
    for (const dtype of RARE) {
      const tensor = made(dtype);
      expect(Tensor.from(tensor.toArray() as number[][], { dtype })).toEqual(tensor);
      // JSON has no negative zeros, which are in the first row.
      const row = tensor.narrow(0, 1, 1);
      const [entry] = parseJson(JSON.stringify({ row })).entries;
      expect(Tensor.from(entry!.data, { dtype: entry!.dtype, shape: entry!.shape })).toEqual(row);
    }
    for (const shape of [[0], [2, 0], [0, 2]]) {
      const empty = Tensor.zeros(shape, { dtype: 'complex64' });
      expect(Tensor.from(empty.toArray() as never, { dtype: 'complex64' }).shape).toEqual(shape[0] === 0 ? [0] : shape);
    }
  });

  it('has the type of Uint32Array and BigUint64Array; what else a Uint16Array holds has to be named', () => {
    expect(Tensor.from(Uint32Array.of(1)).dtype).toBe('uint32');
    expect(Tensor.from(BigUint64Array.of(1n)).dtype).toBe('uint64');
    expect(() => Tensor.from(Uint16Array.of(1))).toThrow(
      refused(/options.dtype \('float16' or 'bfloat16' or 'uint16'\)/),
    );
  });

  it('lies in memory of the caller with copy: false', () => {
    for (const dtype of RARE) {
      const shared = new SharedArrayBuffer(ELEMENTS[dtype].byteLength);
      const view = new (ELEMENTS[dtype].constructor as typeof Float32Array)(shared);
      view.set(ELEMENTS[dtype] as never);
      const tensor = Tensor.from(view, { dtype, shape: [2, 2], copy: false });
      expect(tensor).toEqual(made(dtype));
      view.fill((dtype === 'uint64' ? 7n : 7) as never);
      expect(tensor.toTypedArray()[3]).toBe(dtype === 'uint64' ? 7n : 7);
    }
  });

  it('takes a number alone as one without imaginary part, and pairs in any nesting where the shape is given', () => {
    expect(Tensor.from(2, { dtype: 'complex64' }).item()).toEqual([2, 0]);
    expect(Tensor.from([1, 2, 3, 4], { dtype: 'complex64', shape: [2] }).toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect(Tensor.from(Int8Array.of(1, 2), { dtype: 'complex128' }).toArray()).toEqual([[1, 2]]);
  });

  it.each<[string, () => unknown, RegExp]>([
    [
      'half an element',
      () => Tensor.from(Float32Array.of(1, 2, 3), { dtype: 'complex64' }),
      /two numbers for each element of complex64.* 3 in all/,
    ],
    [
      'no pairs',
      () => Tensor.from([1, 2, 3], { dtype: 'complex64' }),
      /pairs of a real and an imaginary part.*arrays of length 3/,
    ],
    [
      'too few for the shape',
      () => Tensor.from([1, 2], { dtype: 'complex64', shape: [2] }),
      /2 elements for shape \[2\] but received 1/,
    ],
    ['negative integers', () => Tensor.from([-1], { dtype: 'uint32' }), /integer from 0 to 4294967295/],
    [
      'integers that are too large',
      () => Tensor.from([2n ** 64n], { dtype: 'uint64' }),
      /integer from 0 to 18446744073709551615/,
    ],
    ['fractions', () => Tensor.from([0.5], { dtype: 'uint64' }), /an integer/],
    [
      'an operation without a kernel',
      () => made('uint16').add(made('uint16')),
      /PyTorch has add\(\) for but received UInt16: convert/,
    ],
    [
      'an operation without a kernel for complex',
      () => made('complex64').softmax(0),
      /PyTorch has softmax\(\) for but received ComplexFloat/,
    ],
    ['an order of complex numbers', () => made('complex64').argmax(), /argmax\(\): does not support complex input/],
  ])('refuses %s, and says what would do', (_what, make, message) => {
    expect(make).toThrow(refused(message));
  });

  it('computes what PyTorch computes, and converts', () => {
    const complex = Tensor.from(
      [
        [1, 2],
        [3, -4],
      ],
      { dtype: 'complex128' },
    );
    expect(complex.sum().item()).toEqual([4, -2]);
    expect(complex.mean().item()).toEqual([2, -1]);
    expect(complex.mul(complex).toArray()).toEqual([
      [-3, 4],
      [-7, -24],
    ]);
    expect(complex.add(1.5).to({ dtype: 'complex64' }).toArray()).toEqual([
      [2.5, 2],
      [4.5, -4],
    ]);
    expect(made('uint16').sum()).toMatchObject({ dtype: 'int64', shape: [] });
    expect(made('uint32').mul(made('uint32')).toArray()).toEqual([
      [0, 1],
      [0, 1],
    ]);
    expect(Tensor.from([1, 2]).to({ dtype: 'complex64' }).toArray()).toEqual([
      [1, 0],
      [2, 0],
    ]);
    expect(made('uint64').to({ dtype: 'int64' }).toArray()).toEqual([
      [0n, 1n],
      [2n ** 53n + 1n, -1n],
    ]);
  });

  it('shows complex numbers as such', () => {
    const shown = (tensor: Tensor) => inspect(tensor, { breakLength: Number.POSITIVE_INFINITY, compact: true });
    expect(shown(made('complex64'))).toBe(
      "Tensor { shape: [ 2, 2 ], dtype: 'complex64', device: 'cpu', values: [ [ 1.5-2i, 0+0.1i ], [ Infinity+NaNi, 0.003+1i ] ] }",
    );
    expect(shown(Tensor.zeros([100], { dtype: 'complex128' }))).toMatch(/0\+0i, … 92 more \]/);
    expect(shown(made('uint64'))).toMatch(/18446744073709551615n/);
  });

  it('warns the process once where a conversion drops imaginary parts, and of nothing else', () => {
    const code =
      "const { Tensor } = require('./dist/index.js'); const z = Tensor.from([[1, 2]], { dtype: 'complex64' });" +
      "z.to({ dtype: 'complex128' }); Tensor.from([1]).to({ dtype: 'complex64' });" +
      "for (const dtype of ['float32', 'int64']) console.log(String(z.to({ dtype }).toArray()));";
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', code], {
      cwd: join(__dirname, '../..'),
      encoding: 'utf8',
    });
    expect(stdout).toBe('1\n1\n');
    expect(stderr.match(/imaginary/g)).toHaveLength(1);
    expect(stderr).toMatch(/\[LTA_IMAGINARY_PARTS\] Warning: complex64 converted to float32 loses its imaginary parts/);
  });
});

describe('the command line', () => {
  const main = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(__dirname, '../../dist/cli/main.js'), ...args],
      {
        encoding: 'utf8',
        env: { ...process.env, NO_COLOR: '1' },
      },
    );
    return { status, stdout, stderr };
  };

  it('inspects models of them', () => {
    const { status, stdout } = main('inspect', file('dtypes.pt2'));
    expect(status).toBe(0);
    expect(stdout).toMatch(
      /uint16: uint16 \[2, 2\]\n.*uint32: uint32 \[2, 2\]\n.*uint64.*\n.*complex64: complex64 \[2, 2\]/,
    );
  });
});
