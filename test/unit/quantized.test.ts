import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { readSafetensors, writeSafetensors } from '../../lib/formats/safetensors';
import { ScriptModule, Tensor } from '../../lib/index';
import { bits } from './model-fixtures';

const FOLDER = join(__dirname, '../fixtures/dtypes');
const MODEL = join(FOLDER, 'quantized.pt');

/** In the order of the model's outputs; scripts/make_dtype_fixtures.py says how each is quantized. */
const TYPES = ['quint8', 'qint8', 'qint32', 'qint8', 'qint8', 'qint32', 'quint8', 'quint8', 'quint4x2', 'quint2x4'];

async function expected(): Promise<{ x: Tensor; numbers: Tensor[] }> {
  const { entries } = await readSafetensors(join(FOLDER, 'quantized.safetensors'));
  const tensors = new Map(
    entries.map(({ name, dtype, shape, data }) => [name, Tensor.from(data, { dtype, shape })] as const),
  );
  return { x: tensors.get('x')!, numbers: TYPES.map((_, i) => tensors.get(`dequantized.${i}`)!) };
}

describe('Tensor#dequantize', () => {
  it("gives Python's numbers bit by bit, of outputs and in hooks, per tensor and per channel", async () => {
    const { x, numbers } = await expected();
    using model = await ScriptModule.load(MODEL);
    let hooked: Tensor[] = [];
    model.registerForwardHook('quantize', (_module, _input, output) => {
      hooked = (output as Tensor[]).map((each) => each.dequantize());
    });
    const outputs = (await model.forward([x])) as Tensor[];
    expect(outputs.map(({ dtype }) => dtype)).toEqual(TYPES);
    for (const [i, output] of outputs.entries()) {
      expect(output.shape).toEqual(numbers[i]!.shape);
      for (const read of [output.dequantize(), hooked[i]!]) {
        expect(read.dtype).toBe('float32');
        expect(bits(read)).toEqual(bits(numbers[i]!));
      }
    }
  });

  it('gives other tensors as float32, and refuses what PyTorch refuses', () => {
    expect(Tensor.from([1.5], { dtype: 'float16' }).dequantize()).toEqual(Tensor.from([1.5]));
    const disposed = Tensor.from([1]);
    disposed.dispose();
    expect(() => disposed.dequantize()).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
  });
});

describe('a quantized tensor', () => {
  it('says that dequantize() reads it, where it has no typed array', async () => {
    const { x } = await expected();
    using model = await ScriptModule.load(MODEL);
    for (const output of (await model.forward([x])) as Tensor[]) {
      const error = expect.objectContaining({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(/^A tensor of type qu?int\d+(?:x\d)? has no typed array: dequantize\(\) gives/),
      });
      for (const read of [() => output.toTypedArray(), () => output.toArray(), () => JSON.stringify(output)]) {
        expect(read).toThrow(error);
      }
      await expect(output.data()).rejects.toEqual(error);
      expect(() => output.to({ dtype: 'float64' })).toThrow(
        expect.objectContaining({
          code: 'ERR_INVALID_ARGUMENT',
          message: expect.stringMatching(/dequantize\(\) gives$/),
        }),
      );
      expect(output.to({ device: 'cpu' }).dtype).toBe(output.dtype);
    }
  });

  it('is shown, compared and cloned by the numbers that it stands for', async () => {
    const { x, numbers } = await expected();
    using model = await ScriptModule.load(MODEL);
    const [first, ...others] = (await model.forward([x])) as [Tensor, ...Tensor[]];
    const again = ((await model.forward([x])) as Tensor[])[0]!;
    expect(again).toEqual(first);
    expect(((await model.forward([x.mul(2)])) as Tensor[])[0]).not.toEqual(first);
    expect(structuredClone(first)).toEqual({
      contents: { dtype: 'quint8', shape: [3, 5], device: 'cpu', data: numbers[0]!.toTypedArray() },
    });
    for (const [i, each] of [first, ...others].entries()) {
      expect(inspect(each).split('values:')[1]).toBe(inspect(numbers[i]).split('values:')[1]);
    }
  });

  it('is written to files of captures as these numbers', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'quantized-'));
    try {
      const { x, numbers } = await expected();
      const inputs = join(folder, 'inputs.safetensors');
      const data = x.toTypedArray() as Float32Array;
      await writeSafetensors(inputs, [{ name: 'x', dtype: 'float32', shape: [3, 5], data }]);
      const out = join(folder, 'out.safetensors');
      const main = join(__dirname, '../../dist/cli/main.js');
      const args = ['capture', join(FOLDER, 'mixed.pt'), '--inputs', inputs, '--out', out];
      const { status, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
      expect(`${status} ${stderr}`).toMatch(/^0 /);
      const { entries } = await readSafetensors(out);
      const written = new Map(entries.map(({ name, ...rest }) => [name, rest]));
      expect(written.get('output.0')).toMatchObject({ dtype: 'float32', data: numbers[0]!.toTypedArray() });
      expect(written.get('output.1')).toMatchObject({ dtype: 'float64', shape: [3, 5, 2] });
      expect(written.get('output.2')).toMatchObject({ dtype: 'float32', shape: [3, 5] });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
