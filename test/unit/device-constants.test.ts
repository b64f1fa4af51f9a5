import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import { ExportedProgram, loadModel, ScriptModule, Tensor, type Value } from '../../lib/index';
import { bits } from './model-fixtures';
import { scriptOf } from './script-archive';

const FOLDER = join(__dirname, '../fixtures/devices');
const file = (name: string) => join(FOLDER, name);

/** What Python computes on the CPU; scripts/make_device_fixtures.py made the files as they are made on a GPU. */
async function expected(): Promise<(name: string) => Tensor> {
  const { entries } = await readSafetensors(file('tensors.safetensors'));
  const tensors = new Map(
    entries.map(({ name, dtype, shape, data }) => [name, Tensor.from(data, { dtype, shape })] as const),
  );
  return (name) => tensors.get(name)!;
}

describe('a checkpoint made on a GPU', () => {
  it.each(['traced.pt', 'frozen.pt', 'exported.pt2'])(
    "computes Python's bits of the CPU, plainly, captured, hooked and optimized: %s",
    async (name) => {
      const tensor = await expected();
      using model = (await loadModel(file(name))) as ScriptModule | ExportedProgram;
      const { output, attentions } = await model.captureAttention([tensor('x')]);
      expect(attentions).toHaveLength(1);
      model.registerForwardHook('', () => {});
      for (const each of [
        output,
        await model.forward([tensor('x')]),
        await model.forward([tensor('x')], { grad: true }),
      ]) {
        expect(bits(each)).toEqual(bits(tensor('traced')));
      }
      using optimized = await loadModel(file(name), { optimize: true });
      const fast = (await optimized.forward([tensor('x')])) as Tensor<'float32'>;
      const slow = tensor('traced').toTypedArray();
      fast.toTypedArray().forEach((value, i) => {
        expect(value).toBeCloseTo(slow[i] as number, 4);
      });
    },
  );

  it('has its device replaced in all methods, functions, loops, forked tasks and attributes of scripted code', async () => {
    const tensor = await expected();
    using model = await ScriptModule.load(file('scripted.pt'), { device: 'cpu' });
    expect(bits(await model.forward([tensor('x'), 3]))).toEqual(bits(tensor('scripted')));
    const others = (await model.forward([tensor('x')], { method: 'other' })) as Tensor[];
    expect(others.map(bits)).toEqual([0, 1, 2].map((i) => bits(tensor(`other.${i}`))));
  });

  it('is run where it was loaded also as a program without weights, and from bytes of unknown origin', async () => {
    const tensor = await expected();
    using program = await ExportedProgram.load(file('weightless.pt2'));
    expect(bits(await program.forward([tensor('x')]))).toEqual(bits(tensor('weightless')));
    using untrusted = await loadModel(file('traced.pt'), { untrusted: true });
    expect(bits(await untrusted.forward([tensor('x')]))).toEqual(bits(tensor('traced')));
  });
});

it('says what is wrong where a program makes up a device that is not there, without a table of operators', async () => {
  using model = await scriptOf(
    'def forward(self: __torch__.M, name: str) -> Tensor:\n  return torch.zeros([2], device=torch.device(name))\n',
  );
  await expect(model.forward(['cpu'])).resolves.toEqual(Tensor.from([0, 0]));
  const failure = await model.forward(['xpu:0'] as Value[]).then(String, (error: Error) => error);
  expect(failure).toMatchObject({
    code: 'ERR_MODEL_RUN',
    message: expect.stringMatching(
      /'aten::\S+' can't run on tensors of the kind 'XPU': the program itself names a device/,
    ),
  });
  expect((failure as Error).message.length).toBeLessThan(400);
});
