import { ScriptModule, setNumThreads, type Tensor } from '../../lib/index';
import { bits, difference, inputsOf, manifest, path, tensorsIn } from './model-fixtures';

// What `optimize` may change are last bits: never the results beyond them, nor what a capture or a hook sees.
beforeAll(() => setNumThreads(1));

const running = manifest.fixtures.filter((each) => !each.stretch && !each.throws && !each.calls);
const cases = running.flatMap((each) =>
  [false, true].map((fuse) => [`${each.name}${fuse ? ', fused' : ''}`, each, fuse] as const),
);

/** Half types differ by what their few bits hold. */
const close = (a: Tensor, b: Tensor): boolean => difference(a, b) <= (/16/.test(a.dtype) ? 0.1 : 1e-4);

describe('ScriptModule.load with optimize and fuse', () => {
  test.each(cases)('%s', async (_, each, fuse) => {
    const plain = await ScriptModule.load(path(each.file));
    const optimized = await ScriptModule.load(path(each.file), { optimize: true, fuse });
    try {
      const inputs = await inputsOf(each);
      const options = { method: each.method };
      const expected = tensorsIn(await plain.forward(inputs, options));
      for (let run = 0; run < (fuse ? 3 : 2); run++) {
        const output = tensorsIn(await optimized.forward(inputs, options));
        expect(output).toHaveLength(expected.length);
        output.forEach((tensor, i) => {
          expect([tensor.shape, tensor.dtype, close(tensor, expected[i] as Tensor)]).toEqual([
            expected[i]?.shape,
            expected[i]?.dtype,
            true,
          ]);
        });
      }
      expect(optimized.modules()).toEqual(plain.modules());
      if (each.attentions.length === 0) return;
      const { output, attentions } = await optimized.captureAttention(inputs, options);
      expect(bits(output)).toEqual(bits(await optimized.forward(inputs, options)));
      const wanted = (await plain.captureAttention(inputs, options)).attentions;
      const place = ({ name, operator }: { name: string; operator: string }) => `${operator} in '${name}'`;
      if (each.unordered) {
        expect(attentions.map(place).sort()).toEqual(wanted.map(place).sort());
        return;
      }
      expect(attentions.map(place)).toEqual(wanted.map(place));
      attentions.forEach(({ weights }, i) => {
        expect(close(weights, wanted[i]?.weights as Tensor)).toBe(true);
      });
    } finally {
      plain.dispose();
      optimized.dispose();
    }
  });
});
