import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import { type DType, Tensor, type Value } from '../../lib/index';

/** The folder of fixture checkpoints; see its README for what the manifest says. */
export const MODELS = join(__dirname, '..', 'fixtures', 'models');

export interface Fixture {
  name: string;
  file: string;
  data: string;
  frozen: boolean;
  method: string;
  inputs: unknown[];
  output?: unknown;
  calls?: number;
  throws?: string;
  attentions: { name: string; operator: string; shape: number[] }[];
  tolerance: number;
  outputTolerance: number;
  unordered?: boolean;
  stretch?: boolean;
}

export const manifest = JSON.parse(readFileSync(join(MODELS, 'manifest.json'), 'utf8')) as {
  broken: string[];
  fixtures: Fixture[];
};

export function fixture(name: string): Fixture {
  const found = manifest.fixtures.find((each) => each.name === name);
  if (!found) throw new Error(`no fixture ${name}`);
  return found;
}

export const path = (file: string): string => join(MODELS, file);

type Entry = { dtype: DType; shape: readonly number[]; data: unknown };

/** The tensors beside a fixture, by name. */
export async function tensorsOf(each: Fixture): Promise<Map<string, Entry>> {
  const { entries } = await readSafetensors(path(each.data));
  return new Map(entries.map((entry) => [entry.name, entry as Entry]));
}

/** A value of the manifest with its tensors filled in. */
export function build(described: unknown, tensors: Map<string, Entry>): Value {
  if (Array.isArray(described)) return described.map((item) => build(item, tensors));
  if (described === null || typeof described !== 'object') return described as Value;
  if ('$tensor' in described) {
    const { data, shape, dtype } = tensors.get(String(described.$tensor)) as Entry;
    return Tensor.from(data as Float32Array, { shape, dtype });
  }
  return Object.fromEntries(Object.entries(described).map(([key, item]) => [key, build(item, tensors)]));
}

export const inputsOf = async (each: Fixture): Promise<Value[]> => build(each.inputs, await tensorsOf(each)) as Value[];

/** A tensor's elements as numbers, whatever their type. */
export function numbers(tensor: Tensor): Float64Array {
  return tensor.to({ dtype: 'float64' }).toTypedArray() as Float64Array;
}

/** The largest absolute difference of two tensors; infinite where shapes, or places of NaN, differ. */
export function difference(a: Tensor, b: Tensor): number {
  if (a.shape.join() !== b.shape.join()) return Number.POSITIVE_INFINITY;
  const [left, right] = [numbers(a), numbers(b)];
  let worst = 0;
  for (let i = 0; i < left.length; i++) {
    const [x, y] = [left[i] as number, right[i] as number];
    if (Object.is(x, y) || x === y) continue;
    const distance = Math.abs(x - y);
    if (!(distance <= worst)) worst = Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance;
  }
  return worst;
}

/** Whether a tensor differs from another one by rounding alone: 1e-5 of its largest element, or of 1. */
export function isRounded(a: Tensor, b: Tensor): boolean {
  const largest = numbers(b).reduce(
    (most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most),
    1,
  );
  return difference(a, b) <= 1e-5 * largest;
}

/** All tensors of a value, in order. */
export function tensorsIn(value: Value): Tensor[] {
  if (value instanceof Tensor) return [value];
  if (Array.isArray(value)) return value.flatMap(tensorsIn);
  if (value !== null && typeof value === 'object') return Object.values(value).flatMap(tensorsIn);
  return [];
}

/** A value with its tensors replaced by type and bits, to be compared exactly. */
export function bits(value: Value): unknown {
  if (value instanceof Tensor) {
    const array = value.toTypedArray();
    return `${value.dtype}[${value.shape.join()}]:${Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('base64')}`;
  }
  if (Array.isArray(value)) return value.map(bits);
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, bits(item)]));
  }
  return value;
}
