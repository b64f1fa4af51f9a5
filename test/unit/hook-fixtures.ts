import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import { Tensor, type Value } from '../../lib/index';

export const folder = join(__dirname, '..', 'fixtures', 'hooks');

export const fixture = (name: string) => join(folder, name);

export const ticks = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export interface HookCase {
  name: string;
  files: string[];
  data: string;
  inputs: unknown[];
  grad: boolean;
  inputGrad: boolean;
  hooks: { kind: 'pre' | 'forward' | 'backward'; path: string; scale?: number }[];
  /** Lengths of the elements of the batch, where what lies beyond differs by design. */
  padded: number[];
  /** [hook, input] or [hook, input, output] */
  events: [number, unknown[], unknown?][];
  output: unknown;
  lossWeights?: unknown[];
  gradients?: Record<string, unknown>;
  inputGradients?: unknown[];
}

export interface GradientCase {
  name: string;
  files: string[];
  inputs: unknown[];
  weights: unknown[];
  gradients: unknown[];
  rollout: Record<'mean' | 'max' | 'min', unknown>;
  relevance: unknown;
}

/** A tensor as plain data. */
export interface Numbers {
  shape: readonly number[];
  data: number[];
}

export function readCases(): HookCase[] {
  const files = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.json')) : [];
  return files
    .filter((file) => file !== 'gradients.json')
    .flatMap((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as HookCase[]);
}

export function readGradientCases(): GradientCase[] {
  return JSON.parse(readFileSync(join(folder, 'gradients.json'), 'utf8')) as GradientCase[];
}

type Entries = Awaited<ReturnType<typeof readSafetensors>>;

/** The structure of a JSON value, its references to tensors replaced. */
export function resolve<Made>(value: unknown, make: (name: string) => Made): unknown {
  if (Array.isArray(value)) return value.map((each) => resolve(each, make));
  if (value === null || typeof value !== 'object') return value;
  const { $tensor } = value as { $tensor?: string };
  if ($tensor !== undefined) return make($tensor);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, resolve(each, make)]));
}

export class Data {
  private constructor(private readonly entries: Entries) {}

  static async read(file: string, where = folder): Promise<Data> {
    return new Data(await readSafetensors(join(where, file)));
  }

  tensors(value: unknown): Value {
    return resolve(value, (name) => {
      const entry = this.entry(name);
      const dtype = entry.dtype as 'float32';
      return Tensor.from(entry.data as Float32Array, { shape: [...entry.shape], dtype });
    }) as Value;
  }

  numbers(value: unknown): unknown {
    return resolve(value, (name): Numbers => {
      const { shape, data } = this.entry(name);
      return { shape: [...shape], data: Array.from(data as Float32Array, Number) };
    });
  }

  private entry(name: string) {
    const entry = this.entries.entries.find((each) => each.name === name);
    if (!entry) throw new Error(`no tensor ${name}`);
    return entry;
  }
}

/** A value with its tensors as plain data. */
export function plain(value: unknown): unknown {
  if (value instanceof Tensor) return { shape: [...value.shape], data: Array.from(value.toTypedArray(), Number) };
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value ?? null;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

export function isNumbers(value: unknown): value is Numbers {
  return Array.isArray((value as Numbers | null)?.data);
}

/** What keeps `received` from being `expected`, within a tolerance relative to the largest element; undefined if nothing. */
export function difference(
  received: unknown,
  expected: unknown,
  tolerance: number,
  padded: readonly number[] = [],
  where = '',
): string | undefined {
  if (isNumbers(expected)) {
    if (!isNumbers(received)) return `${where}: expected a tensor but received ${JSON.stringify(received)}`;
    if (String(received.shape) !== String(expected.shape))
      return `${where}: expected shape ${expected.shape} but received ${received.shape}`;
    const [batch, length] = expected.shape as [number, number];
    const row = expected.data.length / (batch * length);
    const scale = Math.max(1, ...expected.data.map(Math.abs));
    for (let i = 0; i < expected.data.length; i++) {
      const far = Math.abs((received.data[i] as number) - (expected.data[i] as number));
      if (far <= tolerance * scale) continue;
      const inside = padded.length === batch && length === Math.max(...padded);
      if (inside && Math.floor(i / row) % length >= (padded[Math.floor(i / row / length)] as number)) continue;
      return `${where}: element ${i} is off by ${far} (${received.data[i]} for ${expected.data[i]})`;
    }
    return undefined;
  }
  if (Array.isArray(expected)) {
    if (!Array.isArray(received) || received.length !== expected.length)
      return `${where}: expected ${expected.length} elements but received ${JSON.stringify(received)?.slice(0, 100)}`;
    for (const [i, each] of expected.entries()) {
      const found = difference(received[i], each, tolerance, padded, `${where}[${i}]`);
      if (found) return found;
    }
    return undefined;
  }
  if (expected !== null && typeof expected === 'object') {
    const keys = Object.keys(expected);
    if (String(Object.keys((received as object | null) ?? {})) !== String(keys))
      return `${where}: expected keys ${keys}`;
    for (const key of keys) {
      const values = [received, expected].map((each) => (each as Record<string, unknown>)[key]);
      const found = difference(values[0], values[1], tolerance, padded, `${where}.${key}`);
      if (found) return found;
    }
    return undefined;
  }
  return received === expected ? undefined : `${where}: expected ${expected} but received ${JSON.stringify(received)}`;
}
