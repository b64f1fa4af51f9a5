import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ExportedProgram, loadOperators, setNumThreads, type Tensor } from '../../lib/index';
import { load } from '../../lib/libtorch/load';
import { exportedTensors, programPath } from './exported-fixtures';
import { bits, build } from './model-fixtures';

beforeAll(() => setNumThreads(2));

const library = () => join(load().binaries.directory, 'test_operators.so');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lta-operators-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('loadOperators()', () => {
  it('has programs run that use operators of a library, which are refused by name without it', async () => {
    const tensors = await exportedTensors('custom_operator');
    const input = build({ $tensor: 'run0.in.0' }, tensors) as Tensor;
    await expect(ExportedProgram.load(programPath('custom_operator'))).rejects.toMatchObject({
      code: 'ERR_UNKNOWN_OPERATOR',
      message: expect.stringMatching(/lta_test::scaled.*loadOperators.*torch\.library\.custom_op/),
    });
    loadOperators(library());
    loadOperators(library());
    using program = await ExportedProgram.load(programPath('custom_operator'));
    const output = await program.forward([input], { grad: true });
    expect(bits((output as Tensor).mul(1))).toEqual(bits(build({ $tensor: 'run0.out' }, tensors)));
    await (output as Tensor).sum().backward();
    expect(program.namedParameters().every(({ tensor }) => tensor.grad !== null)).toBe(true);
    await expect(ExportedProgram.load(programPath('custom_operator'), { untrusted: true })).rejects.toMatchObject({
      code: 'ERR_UNTRUSTED',
    });
  });

  it('refuses what cannot be loaded, and what would end the process', () => {
    loadOperators(library());
    const refusal = (path: unknown): { code: string; message: string } => {
      try {
        loadOperators(path as string);
      } catch (error) {
        return error as { code: string; message: string };
      }
      throw new Error('nothing was thrown');
    };
    const text = join(folder, 'text.so');
    writeFileSync(text, 'no library');
    const again = join(folder, 'again.so');
    copyFileSync(library(), again);
    for (const [path, message] of [
      [5, /path of a shared library/],
      ['', /path of a shared library/],
      [join(folder, 'none.so'), /cannot be read/],
      [text, /cannot be loaded/],
      [folder, /cannot be loaded/],
      // The same operators once more: libtorch throws while the library is opened, which ends the child process.
      [again, /cannot be loaded/],
    ] as const) {
      expect(refusal(path)).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) });
    }
  });
});
