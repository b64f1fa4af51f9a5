import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { strToU8, zipSync } from 'fflate';
import { loadModel, nn, ScriptModule } from '../../lib/index';
import { fixture, path } from './model-fixtures';

const FIXTURES = join(__dirname, '..', 'fixtures');
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'load-model-'));
});

afterAll(() => rmSync(folder, { recursive: true }));

describe('loadModel', () => {
  test('loads a TorchScript archive whatever its name, of a path and of bytes', async () => {
    const archive = path(fixture('caching').file);
    const renamed = join(folder, 'model.pt2');
    copyFileSync(archive, renamed);
    for (const source of [archive, renamed, new Uint8Array(readFileSync(archive))]) {
      using model = await loadModel(source, { device: 'cpu' });
      expect(model).toBeInstanceOf(ScriptModule);
      expect((model as ScriptModule).methods()).toContain('forward');
    }
  });

  const unsupported: [file: string, received: RegExp][] = [
    ['nn/state.pth', /what torch\.save wrote.*; its tensors can be loaded into a module of nn by loadStateDict/],
    ['nn/legacy.pth', /what torch\.save wrote before PyTorch 1\.6, or another pickle; its tensors can be/],
    ['nn/state.safetensors', /a \.safetensors file: tensors alone; its tensors can be/],
    ['formats/stored.npz', /a NumPy archive/],
    ['models/README.md', /a file of no known kind$/],
  ];

  test.each(unsupported)('refuses %s by what it is, whatever its name', async (file, received) => {
    const message = expect.stringMatching(
      new RegExp(
        `^Expected a TorchScript archive \\(torch\\.jit\\.save\\) or a program of torch\\.export but received ${received.source}`,
      ),
    );
    const renamed = join(folder, 'model.pt');
    copyFileSync(join(FIXTURES, file), renamed);
    for (const source of [renamed, new Uint8Array(readFileSync(renamed))])
      await expect(loadModel(source)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_FILE', message });
  });

  test.each<[string, Uint8Array, RegExp]>([
    [
      'a .pt2 of long ago',
      zipSync({
        'serialized_exported_program.json': strToU8('{"schema_version": {"major": 5, "minor": 3}}'),
        version: strToU8('5.3'),
      }),
      /version 8 but it is of 5: it was written by an older PyTorch.*torch\.export\.save/,
    ],
    ['another zip archive', zipSync({ 'readme.txt': strToU8('x') }), /a zip archive of something else/],
    ['GGUF', strToU8('GGUF\x03\0\0\0'), /a GGUF file/],
    ['HDF5', Buffer.from('\x89HDF\r\n\x1a\n', 'latin1'), /an HDF5 file/],
    ['ONNX', Buffer.from('\x08\x08\x12\x07pytorch\x1a\x052.1.0', 'latin1'), /an ONNX model; export the PyTorch model/],
    ['TensorFlow Lite', Buffer.from('\x1c\0\0\0TFL3\0\0', 'latin1'), /a TensorFlow Lite model; export/],
    ['ExecuTorch', Buffer.from('\x30\0\0\0ET12\0\0', 'latin1'), /compiled for ExecuTorch.*; export/],
  ])('knows %s by sight', async (_, bytes, received) => {
    await expect(loadModel(new Uint8Array(bytes))).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_FILE',
      message: expect.stringMatching(received),
    });
  });

  test('fails as ScriptModule.load where there is no file, or a broken archive', async () => {
    const truncated = join(folder, 'truncated.pt');
    writeFileSync(truncated, readFileSync(path(fixture('caching').file)).subarray(0, 2000));
    for (const source of [join(folder, 'none.pt'), folder, truncated, new Uint8Array(0), 5, null, Float32Array.of(1)]) {
      const expected = await ScriptModule.load(source as string).then(
        () => undefined,
        ({ code, message }) => ({ code, message }),
      );
      await expect(loadModel(source as string)).rejects.toMatchObject(expected as object);
      expect(expected?.code).toMatch(/^ERR_(MODEL_LOAD|INVALID_ARGUMENT)$/);
    }
    await expect(loadModel(path(fixture('caching').file), { dtype: 'int8' as never })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });
});

test('a state dictionary of what holds none is refused by what it is', async () => {
  const norm = new nn.LayerNorm(4);
  await expect(norm.loadStateDict(join(FIXTURES, 'formats', 'stored.npz'))).rejects.toThrow(/a NumPy archive/);
});
