import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSafetensors } from '../../dist/formats/safetensors.js';
import { Tensor } from '../../dist/index.js';

export const FIXTURES = fileURLToPath(new URL('../fixtures', import.meta.url));
/** Larger ones are slow to load and show nothing else. */
const MOST_BYTES = 64_000;

/** The fixtures that are mutated: { path, kind, bytes, inputs } each, the last one for programs. */
export function programs() {
  const manifest = JSON.parse(readFileSync(join(FIXTURES, 'models', 'manifest.json'), 'utf8'));
  const byFile = new Map();
  for (const { file, data, inputs } of manifest.fixtures) {
    if (!byFile.has(file))
      byFile.set(file, { path: join(FIXTURES, 'models', file), data: join(FIXTURES, 'models', data), inputs });
  }
  for (const name of filesBelow('hostile', /\.pt$/)) byFile.set(name, { path: join(FIXTURES, name) });
  return [...byFile.values()]
    .map(({ path, data, inputs }) => ({
      path,
      kind: 'zip',
      bytes: read(path),
      inputs: async () => (data ? build(inputs, await tensorsOf(data)) : [ramp([1, 2, 8, 4])]),
    }))
    .filter(({ bytes }) => bytes.length > 0 && bytes.length <= MOST_BYTES);
}

/** Programs of torch.export: { path, bytes, call } each, the last one for what their first run is given. */
export function exportedPrograms() {
  const folder = join(FIXTURES, 'exported');
  const manifest = (name) => JSON.parse(readFileSync(join(folder, name), 'utf8'));
  const calls = new Map([
    ...manifest('exported.json').map(({ name, runs: [first] }) => [name, first]),
    ...manifest('hooks.json').map(({ name, inputs, kwargs }) => [name, { inputs, kwargs }]),
  ]);
  const ofReleases = { inputs: [{ $tensor: '0.ids' }], kwargs: { mask: { $tensor: '0.mask' } } };
  return filesBelow('exported', /\.pt2$/)
    .map((file) => {
      const name = /(\w+)\.pt2$/.exec(file)[1];
      const { inputs, kwargs } = calls.get(name) ?? (name.startsWith('old_') ? ofReleases : { inputs: [], kwargs: {} });
      const path = join(FIXTURES, file);
      const call = async () => {
        const tensors = await tensorsOf(join(folder, `${name}.safetensors`));
        return { inputs: build(inputs, tensors), kwargs: build(kwargs, tensors) };
      };
      return { path, bytes: read(path), call };
    })
    .filter(({ bytes }) => bytes.length <= MOST_BYTES);
}

export function dataFiles() {
  const kinds = { '.pth': 'zip', '.pt': 'zip', '.npz': 'zip', '.safetensors': 'safetensors', '.json': 'json' };
  const names = [...filesBelow('nn', /\.(pth|pt|safetensors)$/), ...filesBelow('formats', /./), 'cli/encoded.json'];
  return names
    .map((name) => ({ path: join(FIXTURES, name), bytes: read(join(FIXTURES, name)) }))
    .filter(({ bytes }) => bytes.length > 0 && bytes.length <= MOST_BYTES)
    .map(({ path, bytes }) => {
      const extension = /\.\w+$/.exec(path)[0];
      const kind = bytes[0] === 0x80 ? 'legacy' : kinds[extension];
      return { path, bytes, extension, kind };
    });
}

function filesBelow(folder, pattern) {
  if (!existsSync(join(FIXTURES, folder))) return [];
  return readdirSync(join(FIXTURES, folder))
    .filter((name) => pattern.test(name))
    .sort()
    .map((name) => join(folder, name));
}

const read = (path) => new Uint8Array(readFileSync(path));

async function tensorsOf(path) {
  const { entries } = await parseSafetensors(read(path));
  return new Map(entries.map((entry) => [entry.name, entry]));
}

/** A value of a manifest with its tensors filled in. */
function build(described, tensors) {
  if (Array.isArray(described)) return described.map((item) => build(item, tensors));
  if (described === null || typeof described !== 'object') return described;
  if ('$tensor' in described) {
    const { data, shape, dtype } = tensors.get(described.$tensor);
    return Tensor.from(data, { shape, dtype });
  }
  return Object.fromEntries(Object.entries(described).map(([key, item]) => [key, build(item, tensors)]));
}

/** A float32 tensor of small different numbers. */
export function ramp(shape) {
  const length = shape.reduce((a, b) => a * b, 1);
  return Tensor.from(
    Float32Array.from({ length }, (_, i) => Math.sin(i)),
    { shape },
  );
}
