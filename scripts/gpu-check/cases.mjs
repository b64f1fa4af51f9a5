// What the checks run: the cases that test/fixtures lists with their references, and inputs made up here.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { check, onDevice, PROJECT, readSafetensors, skip, torch } from './compare.mjs';

const { Tensor } = torch;

export const fixture = (...path) => join(PROJECT, 'test', 'fixtures', ...path);

/** What a JSON file of test/fixtures lists. */
export const listed = (...path) => JSON.parse(readFileSync(fixture(...path), 'utf8'));

/** The tensors of a `.safetensors` file by name. */
export async function readTensors(path) {
  const { entries, metadata } = await readSafetensors(path);
  const made = new Map(entries.map((entry) => [entry.name, entry]));
  const tensor = (name) => {
    const entry = made.get(name);
    check(entry, `the fixture ${path} has no tensor ${name}`);
    return Tensor.from(entry.data, { shape: [...entry.shape], dtype: entry.dtype });
  };
  return { names: [...made.keys()], metadata: metadata ?? {}, tensor };
}

/** A JSON value with its references to tensors filled in; `$output` refers into `output`. */
export function fill(value, tensors, output) {
  if (Array.isArray(value)) return value.map((each) => fill(each, tensors, output));
  if (value === null || typeof value !== 'object') return value;
  if ('$tensor' in value) return tensors.tensor(value.$tensor);
  if ('$output' in value) return value.$output.reduce((at, key) => at[key], output);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, fill(each, tensors, output)]));
}

/** Numbers that look random and are the same everywhere, about standard normal. */
export function noise(shape, { seed = 1, dtype = 'float32' } = {}) {
  let state = (seed * 2654435761) >>> 0 || 1;
  const next = () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
  const size = shape.reduce((product, each) => product * each, 1);
  const data = new Float32Array(size);
  // Long ones repeat themselves: millions of numbers would take seconds.
  const own = Math.min(size, 100_003);
  for (let i = 0; i < own; ++i) data[i] = (next() + next() + next() - 1.5) * 2;
  for (let i = own; i < size; i *= 2) data.copyWithin(i, 0, Math.min(i, size - i));
  const tensor = Tensor.from(data, { shape });
  return dtype === 'float32' ? tensor : tensor.to({ dtype });
}

const loaded = new Map();

/** A checkpoint on a device; each is loaded once. */
export function load(path, device) {
  const key = `${device} ${path}`;
  let model = loaded.get(key);
  if (!model) loaded.set(key, (model = torch.ScriptModule.load(path, { device })));
  return model;
}

/** The cases of test/fixtures/models. */
export const MODEL_CASES = listed('models', 'manifest.json').fixtures;

export function modelCase(name) {
  const found = MODEL_CASES.find((each) => each.name === name);
  check(found, `no fixture ${name}`);
  return found;
}

/** The tensors of a case of a model, and its inputs: as they are `given`, and on a device. */
export async function inputsOf(each, device) {
  const tensors = await readTensors(fixture('models', each.data));
  const given = fill(each.inputs, tensors);
  return { tensors, given, inputs: onDevice(given, device) };
}

/** A case of a model ready to run on a device. */
export async function prepare(each, device) {
  const model = await load(fixture('models', each.file), device);
  return { model, options: { method: each.method }, ...(await inputsOf(each, device)) };
}

/** A traced program may name the device that it was traced on: it runs nowhere else, in Python either. */
export async function unlessBoundToCpu(device, run) {
  try {
    return await run();
  } catch (error) {
    const bound = /same device|is on cpu|on device cpu|CPU tensor/i.test(error.message);
    if (device !== 'cpu' && bound) skip(`the file names the CPU in its code: ${error.message.split('\n')[0]}`);
    throw error;
  }
}
