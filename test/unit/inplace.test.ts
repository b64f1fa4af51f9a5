import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import { type Attention, type CaptureOptions, type DType, ScriptModule, setNumThreads, Tensor } from '../../lib/index';
import { bits, difference, tensorsIn } from './model-fixtures';

// Models that write into what a capture needs: it neither changes what they compute nor shows what came later.
beforeAll(() => setNumThreads(1));

const FOLDER = join(__dirname, '..', 'fixtures', 'inplace');
interface Model {
  name: string;
  forms: string[];
  outputs: number;
  attentions: number;
  state: string[];
}
const models = JSON.parse(readFileSync(join(FOLDER, 'manifest.json'), 'utf8')) as Model[];
const stored = readSafetensors(join(FOLDER, 'expected.safetensors')).then(
  ({ entries }) => new Map(entries.map((entry) => [entry.name, entry])),
);

async function tensor(name: string): Promise<Tensor> {
  const { data, shape, dtype } = (await stored).get(name) as { data: Float32Array; shape: number[]; dtype: DType };
  return Tensor.from(data, { shape, dtype });
}
const tensors = (name: string, count: number) =>
  Promise.all(Array.from({ length: count }, (_, i) => tensor(`${name}.${i}`)));

const path = (model: string, form: string) => join(FOLDER, `${model}_${form}.pt`);
const modes = [{}, { optimize: true, fuse: false }, { optimize: true, fuse: true }];
const cases = models.flatMap((model) =>
  model.forms.flatMap((form) =>
    modes.map((mode) => [`${model.name} ${form} ${JSON.stringify(mode)}`, model, form, mode] as const),
  ),
);

const close = (a: Tensor, b: Tensor) => a.shape.join() === b.shape.join() && difference(a, b) < 1e-5;

describe('captureAttention', () => {
  describe.each(cases)('%s', (_, model, form, mode) => {
    const n = model.attentions;
    const fromTheEnd = Array.from({ length: n }, (_, i) => i - n);
    const all: [string, CaptureOptions, number[]][] = [
      ['all', {}, [...fromTheEnd.keys()]],
      ['the last', { layers: [-1] }, [n - 1]],
      ['all from the end', { layers: fromTheEnd }, [...fromTheEnd.keys()]],
    ];

    test.each(all)('%s', async (_, options, expected) => {
      const plain = await ScriptModule.load(path(model.name, form), mode);
      const watched = await ScriptModule.load(path(model.name, form), mode);
      const inputs = await tensors(`${model.name}.input`, 3);
      const others = await tensors(`${model.name}.input`, 3);
      const wanted = await plain.forward(inputs);
      const { output, attentions } = await watched.captureAttention(others, options);

      expect(bits(output)).toEqual(bits(wanted));
      for (const [i, each] of tensorsIn(output).entries()) {
        expect(close(each, await tensor(`${model.name}.output.${i}`))).toBe(true);
      }
      for (const [i, each] of others.entries()) {
        expect(close(each, await tensor(`${model.name}.input_after.${i}`))).toBe(true);
      }
      const state = watched.stateDict();
      for (const name of form === 'script' ? model.state : []) {
        expect([name, close(state[name] as Tensor, await tensor(`${model.name}.state.${name}`))]).toEqual([name, true]);
      }
      expect(attentions.map(({ index }) => index)).toEqual(expected);
      for (const { index, weights } of attentions) {
        expect([index, close(weights, await tensor(`${model.name}.weights.${index}`))]).toEqual([index, true]);
      }
    });

    test('one after the other, as a stream of inputs', async () => {
      const plain = await ScriptModule.load(path(model.name, form), mode);
      const watched = await ScriptModule.load(path(model.name, form), mode);
      const inputs = async () => [await tensors(`${model.name}.input`, 3), await tensors(`${model.name}.input`, 3)];
      const wanted = [];
      for (const each of await inputs()) wanted.push(bits(await plain.forward(each)));
      const got = [];
      for await (const result of watched.captureMany(await inputs())) {
        if ('error' in result) throw result.error;
        got.push(bits(result.output));
        if (result.index > 0 && model.state.length > 0) continue; // the weights may depend on what the first run left
        for (const { index, weights } of result.attentions) {
          expect([index, close(weights, await tensor(`${model.name}.weights.${index}`))]).toEqual([index, true]);
        }
      }
      expect(got).toEqual(wanted);
    });

    test('each as soon as it exists, averaged, and its largest', async () => {
      const load = () => ScriptModule.load(path(model.name, form), mode);
      const inputs = () => tensors(`${model.name}.input`, 3);
      const handed: Attention[] = [];
      await (await load()).captureAttention(await inputs(), { onAttention: (attention) => handed.push(attention) });
      expect(handed.map(({ index }) => index).sort()).toEqual([...fromTheEnd.keys()]);
      for (const { index, weights } of handed) {
        expect([index, close(weights, await tensor(`${model.name}.weights.${index}`))]).toEqual([index, true]);
      }
      const averaged = await (await load()).captureAttention(await inputs(), { layers: [-1], averageHeads: true });
      const best = await (await load()).captureAttention(await inputs(), { topK: 1, queries: [1] });
      const last = await tensor(`${model.name}.weights.${n - 1}`);
      const [batch, heads, queries, keys] = last.shape as [number, number, number, number];
      const at = (b: number, h: number, q: number) => {
        const from = ((b * heads + h) * queries + q) * keys;
        return [...(last.toTypedArray() as Float32Array).subarray(from, from + keys)];
      };
      const mean = averaged.attentions[0]?.weights.toTypedArray() as Float32Array;
      const largest = best.attentions.at(-1)?.weights.toTypedArray() as Float32Array;
      for (let b = 0; b < batch; b++) {
        const rows = Array.from({ length: heads }, (_, h) => at(b, h, 1));
        rows.forEach((row, h) => {
          expect(largest[b * heads + h]).toBeCloseTo(Math.max(...row), 5);
        });
        for (let k = 0; k < keys; k++) {
          const sum = rows.reduce((total, row) => total + (row[k] as number), 0);
          expect(mean[(b * queries + 1) * keys + k]).toBeCloseTo(sum / heads, 5);
        }
      }
    });
  });

  test('a finished capture stays as it is when the model writes into what it kept of that run', async () => {
    const model = await ScriptModule.load(path('keeps_its_weights', 'script'));
    const first = await model.captureAttention(await tensors('keeps_its_weights.input', 3));
    const before = bits(first.attentions[0]?.weights);
    await model.captureAttention(await tensors('keeps_its_weights.input', 3));
    await model.forward(await tensors('keeps_its_weights.input', 3));
    expect(bits(first.attentions[0]?.weights)).toEqual(before);
  });

  test('weights that the model returns are its own: writing into one leaves the other', async () => {
    const model = await ScriptModule.load(path('returns_its_weights', 'script'));
    const { output, attentions } = await model.captureAttention(await tensors('returns_its_weights.input', 3));
    const returned = tensorsIn(output)[1] as Tensor;
    (returned.toTypedArray() as Float32Array).fill(7);
    expect(close(attentions[0]?.weights as Tensor, await tensor('returns_its_weights.weights.0'))).toBe(true);
  });

  test('two tensors in one memory are one: a write through the other is seen', async () => {
    const model = await ScriptModule.load(path('query_after', 'script'));
    const [q, k, v] = await tensors('query_after.input', 3);
    const memory = new SharedArrayBuffer((q as Tensor).toTypedArray().byteLength);
    const shared = new Float32Array(memory);
    shared.set((q as Tensor).toTypedArray() as Float32Array);
    const one = Tensor.from(shared, { shape: (q as Tensor).shape, copy: false });
    const other = Tensor.from(shared, { shape: (q as Tensor).shape, copy: false });
    const wanted = await (await ScriptModule.load(path('query_after', 'script'))).captureAttention([
      q as Tensor,
      Tensor.from(new Float32Array((q as Tensor).toTypedArray() as Float32Array), { shape: (q as Tensor).shape }),
      v as Tensor,
    ]);
    const { attentions } = await model.captureAttention([one, other, v as Tensor], { layers: [-1] });
    expect(k).toBeDefined();
    expect(bits(attentions[0]?.weights)).toEqual(bits(wanted.attentions[0]?.weights));
  });
});

describe('registerForwardHook', () => {
  test('hooks fire once, also where the model writes in place', async () => {
    const model = await ScriptModule.load(path('attends', 'script'));
    let fired = 0;
    model.registerForwardHook('attention', () => {
      fired++;
    });
    model.registerForwardHook('', () => {
      fired++;
    });
    await model.captureAttention(await tensors('attends.input', 3), { layers: [-1] });
    expect(fired).toBe(2);
  });

  test('a hook that writes into a tensor of its run changes no weights that were multiplied before', async () => {
    const load = () => ScriptModule.load(path('query_after', 'script'));
    const wanted = await (await load()).captureAttention(await tensors('query_after.input', 3));
    const model = await load();
    const inputs = await tensors('query_after.input', 3);
    model.registerForwardHook('', () => {
      for (const each of inputs) (each.toTypedArray() as Float32Array).fill(9);
    });
    const { attentions } = await model.captureAttention(inputs, { layers: [-1] });
    expect(bits(attentions[0]?.weights)).toEqual(bits(wanted.attentions[0]?.weights));
  });
});
