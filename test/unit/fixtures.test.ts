import { ScriptModule, setNumThreads, type Tensor } from '../../lib/index';
import {
  bits,
  build,
  difference,
  type Fixture,
  inputsOf,
  manifest,
  path,
  tensorsIn,
  tensorsOf,
} from './model-fixtures';

// Every checkpoint that Python made, against what Python computed with it (scripts/make_fixtures.py).
beforeAll(() => setNumThreads(1));

const models = new Map<string, Promise<ScriptModule>>();
function load(each: Fixture): Promise<ScriptModule> {
  // A model with state has to begin where Python's began.
  if (each.calls) return ScriptModule.load(path(each.file));
  let model = models.get(each.file);
  if (!model) models.set(each.file, (model = ScriptModule.load(path(each.file))));
  return model;
}

const settled = manifest.fixtures.filter((each) => !each.stretch);
const running = settled.filter((each) => !each.throws && !each.calls);

describe('captureAttention and attentionSites', () => {
  test.each(running.map((each) => [each.name, each] as const))(
    '%s: weights and output are PyTorch’s',
    async (_, each) => {
      const model = await load(each);
      const inputs = await inputsOf(each);
      const options = { method: each.method };
      const plain = await model.forward(inputs, options);
      const tensors = await tensorsOf(each);
      const expected = tensorsIn(build(each.output, tensors));
      tensorsIn(plain).forEach((tensor, i) => {
        expect(difference(tensor, expected[i] as Tensor)).toBeLessThanOrEqual(each.outputTolerance);
      });
      expect(tensorsIn(plain)).toHaveLength(expected.length);

      if (each.attentions.length === 0) {
        await expect(model.captureAttention(inputs, options)).rejects.toMatchObject({ code: 'ERR_NO_ATTENTION' });
        return;
      }
      const { output, attentions } = await model.captureAttention(inputs, options);
      // The model's profiler may have optimized it between its first runs: the run after the capture is its equal.
      expect(bits(output)).toEqual(bits(await model.forward(inputs, options)));
      expect(attentions.map(({ index }) => index)).toEqual(each.attentions.map((__, i) => i));
      const place = (a: { name: string; operator: string }) => `${a.operator} in '${a.name}'`;
      const received = attentions.map(place);
      const wanted = each.attentions.map(place);
      expect(each.unordered ? received.sort() : received).toEqual(each.unordered ? wanted.sort() : wanted);
      if (each.unordered) return;
      attentions.forEach(({ weights, heads, queries }, i) => {
        const shape = each.attentions[i]?.shape as number[];
        expect(weights.dtype).toBe('float32');
        expect(weights.shape).toEqual(shape);
        expect([heads.length, queries.length]).toEqual([shape[1], shape[2]]);
        expect(difference(weights, build({ $tensor: `attention.${i}` }, tensors) as Tensor)).toBeLessThanOrEqual(
          each.tolerance,
        );
      });
      const sites = await model.attentionSites(inputs, options);
      expect(sites.map(({ name, operator, shape }) => ({ name, operator, shape }))).toEqual(
        each.attentions.map(({ name, operator, shape }) => ({ name, operator, shape })),
      );
    },
  );

  test.each(settled.filter((each) => each.calls).map((each) => [each.name, each] as const))(
    '%s: the state of a model goes on through captures and plain runs alike',
    async (_, each) => {
      const model = await load(each);
      const inputs = await inputsOf(each);
      const tensors = await tensorsOf(each);
      const outputs = [
        (await model.captureAttention(inputs)).output,
        await model.forward(inputs),
        (await model.captureAttention(inputs)).output,
      ];
      const references = [
        tensorsIn(build(each.output, tensors)),
        ...[1, 2].map((call) =>
          [...tensors.keys()]
            .filter((key) => key.startsWith(`call${call}.`))
            .map((key) => build({ $tensor: key }, tensors) as Tensor),
        ),
      ];
      for (const [call, reference] of references.entries()) {
        const received = tensorsIn(outputs[call] as never);
        expect(reference.length).toBeGreaterThan(0);
        reference.forEach((tensor, i) => {
          expect(difference(received[i] as Tensor, tensor)).toBeLessThanOrEqual(each.outputTolerance);
        });
      }
    },
  );
});

describe('ScriptModule#forward', () => {
  test.each(settled.filter((each) => each.throws).map((each) => [each.name, each] as const))(
    '%s: an error of the model is PyTorch’s message without its traces',
    async (_, each) => {
      const model = await load(each);
      const error = await model
        .forward(await inputsOf(each), { method: each.method })
        .catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'ERR_MODEL_RUN' });
      expect((error as Error).message).toContain(each.throws);
      expect((error as Error).message).not.toMatch(/Traceback|frame #\d|Exception raised from/);
      expect((error as { nativeStack?: string }).nativeStack).toBeTruthy();
    },
  );
});

describe('ScriptModule.load', () => {
  test.each(manifest.broken)('%s is refused, in words', async (file) => {
    const error = await ScriptModule.load(path(file)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ERR_MODEL_LOAD' });
    expect((error as Error).message).toContain(file);
    expect((error as Error).message).not.toMatch(/frame #\d|Exception raised from/);
  });
});
