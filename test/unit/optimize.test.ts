import { ScriptModule, setNumThreads, type Tensor } from '../../lib/index';
import { bits, build, difference, inputsOf, manifest, path, tensorsIn, tensorsOf } from './model-fixtures';

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
    attentions.forEach(({ weights }, i) => {
      const wanted = build({ $tensor: `attention.${i}` }, tensors) as Tensor;
      expect(close(weights, wanted, each.tolerance)).toBe(true);
    });
  });
});
