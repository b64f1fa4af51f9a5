import { join } from 'node:path';
import { elementCount } from '../../lib/core/shape';
import type { Entry } from '../../lib/formats/entry';
import { readSafetensors } from '../../lib/formats/safetensors';
import { Tensor } from '../../lib/index';

export const FIXTURES = join(__dirname, '../fixtures/nn');

/** One file that scripts/make_nn_fixtures.py made. */
export class Fixture {
  private constructor(
    readonly entries: ReadonlyMap<string, Entry>,
    private readonly metadata: Record<string, string>,
  ) {}

  static async read(name: string): Promise<Fixture> {
    const { entries, metadata } = await readSafetensors(join(FIXTURES, `${name}.safetensors`));
    return new Fixture(new Map(entries.map((entry) => [entry.name, entry])), metadata ?? {});
  }

  list<Element = string>(name: string): Element[] {
    return JSON.parse(this.metadata[name] as string) as Element[];
  }

  number(name: string): number {
    return JSON.parse(this.metadata[name] as string) as number;
  }

  entry(name: string): Entry {
    const entry = this.entries.get(name);
    if (!entry) throw new Error(`no ${name} in the fixture`);
    return entry;
  }

  tensor(name: string): Tensor {
    const { data, dtype, shape } = this.entry(name);
    return Tensor.from(data, { dtype, shape });
  }

  /** A mask by its kind; absent for 'none'. */
  mask(group: string, kind: string): Tensor | undefined {
    return kind === 'none' ? undefined : this.tensor(`${group}.${kind}`);
  }

  /** The tensors below a prefix. */
  state(prefix: string): Record<string, Tensor> {
    const names = [...this.entries.keys()].filter((name) => name.startsWith(prefix));
    return Object.fromEntries(names.map((name) => [name.slice(prefix.length), this.tensor(name)]));
  }

  /** Slice `index` of the first dimension of a stacked tensor. */
  slice(name: string, index: number): Float32Array {
    const { data, shape } = this.entry(name);
    const size = elementCount(shape.slice(1));
    return (data as Float32Array).subarray(index * size, (index + 1) * size);
  }
}

/** A contiguous copy with the first two dimensions swapped where `swap` says so. */
export function arranged(tensor: Tensor, swap: boolean): Tensor {
  return swap ? tensor.transpose(0, 1) : tensor;
}

export function numbers(tensor: Tensor): Float32Array {
  return tensor.toTypedArray() as Float32Array;
}

/** The largest difference; Infinity where lengths differ or something is not a number. */
export function difference(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  counts: (i: number) => boolean = () => true,
): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    if (!counts(i)) continue;
    const distance = Math.abs((a[i] as number) - (b[i] as number));
    if (!(distance <= largest)) largest = Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance;
  }
  return largest;
}

/** A tensor of that shape with values of its own. */
export function ramp(...shape: number[]): Tensor {
  return Tensor.from(
    Array.from({ length: elementCount(shape) }, (_, i) => Math.sin(i)),
    { shape },
  );
}
