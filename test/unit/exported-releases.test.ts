import { readdirSync, readFileSync } from 'node:fs';
import { unzipSync, zipSync } from 'fflate';
import { ExportedProgram, loadModel, setNumThreads, type Tensor } from '../../lib/index';
import { EXPORTED, exportedTensors, programPath } from './exported-fixtures';
import { bits, build, difference } from './model-fixtures';

beforeAll(() => setNumThreads(2));

/** Programs that other releases of PyTorch wrote; scripts/make_old_exported_fixtures.py says how. */
const names = readdirSync(EXPORTED)
  .filter((file) => /^old_.*\.pt2$/.test(file))
  .map((file) => file.slice(0, -4));

/** A program in another version of the format. */
function withVersion(name: string, version: { major: number; minor: number }): Uint8Array {
  const records = unzipSync(readFileSync(programPath(name)));
  const json = Object.keys(records).find((record) => record.endsWith('.json') && !record.includes('config'))!;
  const program = JSON.parse(Buffer.from(records[json]!).toString()) as object;
  records[json] = Buffer.from(JSON.stringify({ ...program, schema_version: version }));
  return zipSync(records, { level: 0 });
}

test('there are files of several releases', () => expect(names.length).toBeGreaterThanOrEqual(4));

describe.each(names)('the program of %s', (name) => {
  it('gives what Python gave, from a file, from bytes, and with every check', async () => {
    const tensors = await exportedTensors(name);
    const of = (key: string) => build({ $tensor: key }, tensors) as Tensor;
    const path = programPath(name);
    for (const load of [
      () => ExportedProgram.load(path),
      () => ExportedProgram.load(new Uint8Array(readFileSync(path)), { untrusted: true }),
      async () => (await loadModel(path)) as ExportedProgram,
    ]) {
      using program = await load();
      for (const run of [0, 1]) {
        const output = await program.forward([of(`${run}.ids`)], { kwargs: { mask: of(`${run}.mask`) } });
        const { logits, hidden } = output as { logits: Tensor; hidden: [Tensor, number] };
        // Releases of libtorch compute with kernels of their own.
        expect(difference(logits, of(`${run}.logits`))).toBeLessThanOrEqual(1e-5);
        expect(difference(hidden[0], of(`${run}.hidden`))).toBeLessThanOrEqual(1e-5);
        expect(hidden[1]).toBe(hidden[0].shape[1]);
      }
    }
  });

  it('has the weights, modules and attention of the model', async () => {
    const tensors = await exportedTensors(name);
    using program = await ExportedProgram.load(programPath(name));
    const state = program.stateDict();
    const saved = [...tensors.keys()].filter((key) => key.startsWith('state.')).map((key) => key.slice(6));
    expect(Object.keys(state).sort()).toEqual(saved.sort());
    for (const key of saved) {
      expect({ key, bits: bits(state[key]!) }).toEqual({
        key,
        bits: bits(build({ $tensor: `state.${key}` }, tensors)),
      });
    }
    const [ids, mask] = ['0.ids', '0.mask'].map((key) => build({ $tensor: key }, tensors)) as [Tensor, Tensor];
    const { attentions } = await program.captureAttention([ids], { kwargs: { mask } });
    expect(attentions.map(({ weights }) => weights.shape)).toEqual([[2, 2, 5, 5]]);
    // Releases before 2.9 note no module for what is called inside of attention.
    expect(attentions[0]!.name).toMatch(/^layer(\.self_attn)?$/);
    expect(() => program.registerForwardHook('layer', () => {})).not.toThrow();
    const output = (await program.forward([ids], { kwargs: { mask }, grad: true })) as { logits: Tensor };
    await output.logits.mul(output.logits).sum().backward();
    const without = program.namedParameters().filter(({ tensor }) => tensor.grad === null);
    expect(without).toEqual([]);
  });
});

describe('the version of the format', () => {
  it('may be later in its second part, which is told', async () => {
    const emit = jest.spyOn(process, 'emitWarning').mockImplementation(() => {});
    (await ExportedProgram.load(withVersion('old_2_13', { major: 8, minor: 999 }))).dispose();
    const calls = [...emit.mock.calls];
    emit.mockRestore();
    expect(calls).toEqual([[expect.stringContaining('8.999'), { code: 'NEWER_SCHEMA' }]]);
  });

  it.each([
    [7, /older PyTorch/],
    [9, /later PyTorch/],
  ])('%d is refused', async (major, message) => {
    await expect(ExportedProgram.load(withVersion('old_2_13', { major, minor: 0 }))).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_FILE',
      message: expect.stringMatching(message),
    });
  });
});

describe('pickled weights', () => {
  it('that are cut, or no tensors, are errors', async () => {
    for (const name of ['old_2_7', 'old_2_8']) {
      const records = unzipSync(readFileSync(programPath(name)));
      const record = Object.keys(records).find((each) => /state_dict\.pt$|weights\/model\.pt$/.test(each))!;
      const whole = records[record]!;
      const refusal = async (bytes: Uint8Array): Promise<string> => {
        const error = await ExportedProgram.load(zipSync({ ...records, [record]: bytes }, { level: 0 })).then(
          () => ({ code: 'none' }),
          (thrown: { code: string }) => thrown,
        );
        return error.code;
      };
      for (let length = 1; length < whole.length; length += 997) {
        expect({ name, length, code: await refusal(whole.subarray(0, length)) }).toMatchObject({
          code: 'ERR_MODEL_LOAD',
        });
      }
      // Bytes that differ change a weight, or are found out; nothing ends the process.
      for (let at = 0; at < whole.length; at += 131) {
        const flipped = whole.slice();
        flipped[at]! ^= 0x41;
        expect(['none', 'ERR_MODEL_LOAD', 'ERR_UNSUPPORTED_FILE']).toContain(await refusal(flipped));
      }
    }
  });
});
