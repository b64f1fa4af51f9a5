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
  return largestDifference(numbers(a), numbers(b));
}

function largestDifference(left: Float64Array, right: Float64Array): number {
  let worst = 0;
  for (let i = 0; i < left.length; i++) {
    const [x, y] = [left[i] as number, right[i] as number];
    if (Object.is(x, y) || x === y) continue;
    const distance = Math.abs(x - y);
    if (!(distance <= worst)) worst = Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance;
  }
  return worst;
}

/** What rounding changes of elements, relative to the largest of them, where it isn't 1e-5. */
const ROUNDING: Partial<Record<DType, number>> = { float16: 2e-3, bfloat16: 1e-2 };

function areRounded(left: Float64Array, right: Float64Array, dtype: DType): boolean {
  const largest = right.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 1);
  return largestDifference(left, right) <= (ROUNDING[dtype] ?? 1e-5) * largest;
}

/** Whether a tensor differs from another one by rounding alone: 1e-5 (more of half types) of its largest element, or of 1. */
export function isRounded(a: Tensor, b: Tensor): boolean {
  return a.shape.join() === b.shape.join() && areRounded(numbers(a), numbers(b), b.dtype);
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

/** A copy of a tensor, to be compared but for rounding. */
class Rounded {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly #bits: unknown;
  readonly #elements: Float64Array;

  constructor(tensor: Tensor) {
    this.dtype = tensor.dtype;
    this.shape = tensor.shape;
    this.#bits = bits(tensor);
    this.#elements = /float/.test(tensor.dtype) ? numbers(tensor).slice() : new Float64Array();
  }

  equals(other: Rounded): boolean {
    if (this.dtype !== other.dtype || this.shape.join() !== other.shape.join()) return false;
    if (!/float/.test(this.dtype)) return this.#bits === other.#bits;
    return areRounded(this.#elements, other.#elements, this.dtype);
  }

  /** For what jest prints. */
  toJSON(): unknown {
    return { dtype: this.dtype, shape: this.shape, elements: [...this.#elements] };
  }
}

type Tester = (a: unknown, b: unknown) => boolean | undefined;

// @types/jest lacks this method.
(expect as unknown as { addEqualityTesters(testers: Tester[]): void }).addEqualityTesters([
  (a, b) => (a instanceof Rounded && b instanceof Rounded ? a.equals(b) : undefined),
]);

/**
 * A value with its tensors copied, to be compared but for rounding with what Python computed: processors don't all give the
 * same bits, since libtorch and MKL choose their kernels by them.
 */
export function rounded(value: Value): unknown {
  if (value instanceof Tensor) return new Rounded(value);
  if (Array.isArray(value)) return value.map(rounded);
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, rounded(item)]));
  }
  return value;
}
