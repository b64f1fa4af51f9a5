import { ScriptModule, setNumThreads, type Tensor } from '../../lib/index';
import { bits, build, difference, inputsOf, manifest, path, tensorsIn, tensorsOf } from './model-fixtures';

// A checkpoint loaded in another type runs, whatever its program casts to and makes, and gives about what Python computed.
beforeAll(() => setNumThreads(1));

const running = manifest.fixtures.filter((each) => !each.stretch && !each.throws && !each.calls);
// Every third is enough: each kind of model comes in several variants.
const cases = running
  .filter((_, i) => i % 3 === 0)
  .map((each, i) => [each.name, i % 4 === 3 ? 'float64' : 'bfloat16', each] as const);

/** What half types hold, on either side, of the largest element. */
function tolerance(dtype: string, expected: Tensor): number {
  const largest = expected.to({ dtype: 'float64' }).toTypedArray() as Float64Array;
  return (
    (/16/.test(dtype + expected.dtype) ? 0.06 : 1e-4) * Math.max(1, ...largest.filter(Number.isFinite).map(Math.abs))
  );
}

describe('ScriptModule.load with a dtype', () => {
  test.each(cases)('%s in %s', async (_, dtype, each) => {
    using cast = await ScriptModule.load(path(each.file), { dtype });
    const inputs = await inputsOf(each);
    const options = { method: each.method };
    const expected = tensorsIn(build(each.output, await tensorsOf(each)));
    const output = await cast.forward(inputs, options);
    tensorsIn(output).forEach((tensor, i) => {
      expect(tensor.shape).toEqual(expected[i]?.shape);
      expect(difference(tensor, expected[i] as Tensor)).toBeLessThan(tolerance(dtype, expected[i] as Tensor));
    });
    if (each.attentions.length === 0) return;
    const captured = await cast.captureAttention(inputs, options);
    expect(bits(captured.output)).toEqual(bits(output));
    expect(captured.attentions).toHaveLength(each.attentions.length);
  });

  test('a type that is none for parameters is refused by name', async () => {
    const { file } = running[0] as (typeof running)[number];
    await expect(ScriptModule.load(path(file), { dtype: 'float128' as never })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });
});
