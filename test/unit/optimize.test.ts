import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import { ScriptModule, setNumThreads, Tensor } from '../../lib/index';
import { bits, build, difference, inputsOf, isRounded, manifest, path, tensorsIn, tensorsOf } from './model-fixtures';

// What `optimize` may change are last bits: never the results beyond them, nor what a capture or a hook sees.
beforeAll(() => setNumThreads(1));

const running = manifest.fixtures.filter((each) => !each.stretch && !each.throws && !each.calls);
const cases = running.flatMap((each) =>
  [false, true].map((fuse) => [`${each.name}${fuse ? ', fused' : ''}`, each, fuse] as const),
);

/** Whether a result is Python's, but for last bits. Half types differ by what their few bits hold. */
const close = (a: Tensor, b: Tensor, tolerance: number): boolean =>
  difference(a, b) <= Math.max(tolerance, /16/.test(a.dtype) ? 0.1 : 1e-4);

const modules = new Map<string, ReturnType<ScriptModule['modules']>>();
/** The modules of a file as it was saved. */
async function modulesOf(file: string): Promise<ReturnType<ScriptModule['modules']>> {
  let known = modules.get(file);
  if (!known) {
    using plain = await ScriptModule.load(path(file));
    modules.set(file, (known = plain.modules()));
  }
  return known;
}

describe('ScriptModule.load with optimize and fuse', () => {
  test.each(cases)('%s', async (_, each, fuse) => {
    using optimized = await ScriptModule.load(path(each.file), { optimize: true, fuse });
    const tensors = await tensorsOf(each);
    const inputs = await inputsOf(each);
    const options = { method: each.method };
    const expected = tensorsIn(build(each.output, tensors));
    using plain = await ScriptModule.load(path(each.file));
    const unoptimized = tensorsIn(await plain.forward(await inputsOf(each), options));
    for (let run = 0; run < (fuse ? 3 : 2); run++) {
      const output = tensorsIn(await optimized.forward(inputs, options));
      expect(output).toHaveLength(expected.length);
      output.forEach((tensor, i) => {
        const wanted = expected[i] as Tensor;
        expect([tensor.shape, tensor.dtype, close(tensor, wanted, each.outputTolerance)]).toEqual([
          wanted.shape,
          wanted.dtype,
          true,
        ]);
        if (!fuse && tensor.dtype === 'float32') expect(isRounded(tensor, unoptimized[i] as Tensor)).toBe(true);
      });
    }
    expect(optimized.modules()).toEqual(await modulesOf(each.file));
    if (each.attentions.length === 0) return;
    const { output, attentions } = await optimized.captureAttention(inputs, options);
    expect(bits(output)).toEqual(bits(await optimized.forward(inputs, options)));
    const place = ({ name, operator }: { name: string; operator: string }) => `${operator} in '${name}'`;
    if (each.unordered) {
      expect(attentions.map(place).sort()).toEqual(each.attentions.map(place).sort());
      return;
    }
    expect(attentions.map(place)).toEqual(each.attentions.map(place));
    // Kernels that are fused round to half types elsewhere than single operators.
    const rounded = fuse && expected.some(({ dtype }) => /16/.test(dtype));
    attentions.forEach(({ weights }, i) => {
      const wanted = build({ $tensor: `attention.${i}` }, tensors) as Tensor;
      expect(close(weights, wanted, rounded ? 0.02 : each.tolerance)).toBe(true);
    });
  });
});

describe('types are promoted as in Python', () => {
  const folder = join(__dirname, '..', 'fixtures', 'dtypes');

  test.each(['script', 'trace'])('beside numbers and tensors without dimensions: %s', async (way) => {
    const { entries } = await readSafetensors(join(folder, 'promotion.safetensors'));
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    const made = ({ data, shape, dtype }: (typeof entries)[number]) => Tensor.from(data, { shape, dtype });
    const told = (tensor: Tensor) => [tensor.dtype, tensor.shape, tensor.to({ dtype: 'float64' }).toArray()];
    for (const entry of entries.filter(({ name }) => !name.includes('.'))) {
      const of = entries.filter(({ name }) => name.startsWith(`${entry.name}.`)).map((each) => told(made(each)));
      for (const options of [{}, { optimize: true }, { optimize: true, fuse: true }]) {
        using model = await ScriptModule.load(join(folder, `promotion_${way}.pt`), options);
        for (let run = 0; run < 3; run++) {
          expect(((await model.forward([made(entry)])) as Tensor[]).map(told)).toEqual(of);
        }
      }
    }
  });
});

describe('a model that was loaded with optimize', () => {
  const encoder = manifest.fixtures.find(
    ({ name }) => name.includes('gelu') && !name.includes('padded'),
  ) as (typeof manifest.fixtures)[0];

  it('records gradients, calls hooks and captures single operators as the file has them', async () => {
    using plain = await ScriptModule.load(path(encoder.file));
    using optimized = await ScriptModule.load(path(encoder.file), { optimize: true, fuse: false });
    const inputs = await inputsOf(encoder);
    await optimized.forward(inputs);
    const gradients = async (model: ScriptModule) => {
      const [output] = tensorsIn(await model.forward(inputs, { grad: true }));
      await (output as Tensor).sum().backward();
      return model.namedParameters().map(({ name, tensor }) => [name, tensor.grad && bits(tensor.grad)]);
    };
    expect(await gradients(optimized)).toEqual(await gradients(plain));
    const called = async (model: ScriptModule) => {
      const names: string[] = [];
      const linears = model.modules().filter(({ name }) => /\.linear\d$/.test(name));
      const handles = linears.map(({ name }) => model.registerForwardHook(name, () => void names.push(name)));
      await model.forward(inputs);
      for (const handle of handles) handle.remove();
      return names;
    };
    expect(await called(optimized)).toEqual(await called(plain));
    const operators = async (model: ScriptModule) =>
      (await model.captureTensor({}, inputs)).tensors.map(({ name, operator, tensor }) => [
        name,
        operator,
        tensor.shape,
      ]);
    const [own, files] = [await operators(optimized), await operators(plain)];
    expect(own.filter(([, operator]) => String(operator).startsWith('lta'))).toEqual([]);
    expect(own.filter(([, operator]) => operator === 'linear')).toEqual(
      files.filter(([, operator]) => operator === 'linear'),
    );
  });

  it('is as right after it was moved, and at every size', async () => {
    using plain = await ScriptModule.load(path(encoder.file));
    using optimized = await ScriptModule.load(path(encoder.file), { optimize: true, fuse: false });
    const [input] = (await inputsOf(encoder)) as [Tensor];
    const compare = async (given: Tensor) => {
      const [output] = tensorsIn(await optimized.forward([given]));
      const [expected] = tensorsIn(await plain.forward([given]));
      expect(isRounded(output as Tensor, expected as Tensor)).toBe(true);
    };
    await compare(input);
    await optimized.to('cpu');
    await compare(input);
    await compare(input.narrow(0, 0, 1));
    await compare(input.narrow(1, 0, 1));
  });

  it('gives the same bits however many run at once', async () => {
    using optimized = await ScriptModule.load(path(encoder.file), { optimize: true, fuse: false });
    const inputs = await inputsOf(encoder);
    const expected = bits(await optimized.forward(inputs));
    const outputs = await Promise.all(Array.from({ length: 8 }, () => optimized.forward(inputs)));
    for (const output of outputs) expect(bits(output)).toEqual(expected);
  });
});
