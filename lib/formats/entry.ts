import { componentsOf, DTYPES, type DType } from '../core/dtype';
import { TorchError } from '../core/errors';
import { elementCount } from '../core/shape';

/** The array that holds the elements of a tensor; float16 and bfloat16 are their bits, bool is 0 or 1, complex types are pairs. */
export type EntryData =
  | Float32Array
  | Float64Array
  | Uint16Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint8Array
  | Uint32Array
  | BigUint64Array;

/** One tensor of a file: row-major elements with their shape. */
export interface Entry {
  name: string;
  dtype: DType;
  shape: number[];
  data: EntryData;
}

/** What a file holds, in file order; `metadata` where the format has any. */
export interface Entries {
  entries: Entry[];
  metadata?: Record<string, string>;
}

/** The tensors of a checkpoint, and the dtypes of those that tensors here can't hold, by name. */
export interface StateEntries {
  entries: Entry[];
  foreign: Map<string, string>;
}

/** What the tensors of a file may take more than it has bytes, where they share memory in it or repeat elements. */
const MAX_REPEATS = 16;
const MIN_ROOM = 2 ** 26;

/** Counts the bytes that the tensors of a file take, so that a small file can't ask for all memory there is. */
export class Room {
  #taken = 0;

  constructor(
    private readonly source: string,
    private readonly fileSize: number,
  ) {}

  take(bytes: number): void {
    this.#taken += bytes;
    const most = Math.max(MIN_ROOM, MAX_REPEATS * this.fileSize);
    if (this.#taken <= most) return;
    throw malformed(
      this.source,
      `tensors of at most ${most} bytes in a file of ${this.fileSize}`,
      `some that repeat elements so often that they take ${this.#taken}`,
    );
  }
}

/** The length of the array that holds the elements of such a tensor. */
export function arrayLength(dtype: DType, shape: readonly number[]): number {
  return elementCount(shape) * componentsOf(dtype);
}

/** A view of `buffer` as elements of `dtype`. The buffer starts at its first element and has no other bytes. */
export function arrayOf(dtype: DType, buffer: ArrayBuffer): EntryData {
  return new DTYPES[dtype].array(buffer);
}

/** The error for a file that is not what it claims to be. */
export function malformed(source: string, expected: string, received: string, cause?: unknown): TorchError {
  return new TorchError(
    'ERR_INVALID_ARGUMENT',
    `${source}: expected ${expected} but received ${received}`,
    cause === undefined ? {} : { cause },
  );
}
