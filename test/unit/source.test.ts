import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { writeSafetensors } from '../../lib/formats/safetensors';
import { ExportedProgram, loadModel, nn, ScriptModule, Tensor } from '../../lib/index';
import { temporaryFolder, writeFiles } from './fake-libtorch';

const FIXTURES = join(__dirname, '../fixtures');
const FILES = { script: join(FIXTURES, 'cli/text.pt'), exported: join(FIXTURES, 'exported/encoder.pt2') };
const folder = temporaryFolder();

function arrayBufferOf(path: string, shared = false): ArrayBuffer | SharedArrayBuffer {
  const bytes = readFileSync(path);
  const buffer = shared ? new SharedArrayBuffer(bytes.length) : new ArrayBuffer(bytes.length);
  new Uint8Array(buffer).set(bytes);
  return buffer;
}

const forms = [
  ['a path', (path: string) => path],
  ['a URL', (path: string) => pathToFileURL(path)],
  ['the text of a URL', (path: string) => pathToFileURL(path).href],
  ['a Buffer', (path: string) => readFileSync(path)],
  ['an ArrayBuffer', (path: string) => arrayBufferOf(path)],
  ['a SharedArrayBuffer', (path: string) => arrayBufferOf(path, true)],
] as const;

test.each(forms)('models are loaded from %s', async (_, form) => {
  const models = [
    await loadModel(form(FILES.script)),
    await loadModel(form(FILES.exported)),
    await ScriptModule.load(form(FILES.script)),
    await ExportedProgram.load(form(FILES.exported)),
  ];
  expect(models.map((model) => model.constructor.name)).toEqual([
    'ScriptModule',
    'ExportedProgram',
    'ScriptModule',
    'ExportedProgram',
  ]);
  for (const model of models) model.dispose();
});

test('a URL of a name with spaces and umlauts leads there', async () => {
  const path = join(writeFiles(join(folder, 'ein Köfferchen'), { 'a b%.pt': '' }), 'a b%.pt');
  copyFileSync(FILES.script, path);
  expect((await loadModel(pathToFileURL(path))).namedParameters().length).toBeGreaterThan(0);
});

test('so are state dicts', async () => {
  const layer = new nn.LayerNorm(2);
  const path = join(folder, 'norm.safetensors');
  await writeSafetensors(
    path,
    ['weight', 'bias'].map((name) => ({ name, dtype: 'float32', shape: [2], data: Float32Array.of(3, 4) })),
  );
  for (const source of [pathToFileURL(path), pathToFileURL(path).href]) {
    await layer.loadStateDict(source);
    expect(layer.stateDict()['weight']).toEqual(Tensor.from([3, 4]));
  }
});

test.each([
  ['another protocol', new URL('https://example.org/model.pt')],
  ['another machine', 'file://elsewhere/model.pt'],
  ['a broken text', 'file:///%00%zz'],
  ['an array of floats', new Float32Array(4)],
  ['a Blob', new Blob([])],
  ['a number', 3],
  ['nothing', undefined],
])('%s is refused', async (_, source) => {
  for (const load of [loadModel, ScriptModule.load, ExportedProgram.load] as ((from: never) => Promise<unknown>)[]) {
    await expect(load(source as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
  }
});
