import { DTYPES, type DType, defaultDType, infoOf } from './dtype';
import { TorchError } from './errors';
import { checkRoom } from './memory';
import { elementCount, MAX_DIMENSIONS } from './shape';
import { type TypedArrayInfo, typedArrayInfo } from './typed-array';
import { elements, invalid, MAX_ELEMENTS, reading } from './validate';

// What tensors are made of: typed arrays and nested ones, read once and checked.

/** A typed array that tensors are made of, as it is now. */
export interface GivenArray extends TypedArrayInfo {
  dtype: DType;
  length: number;
}

/** Looks at `data`, once; undefined for what is no typed array that tensors can be made of. */
export function givenArray(data: unknown, dtype: DType | undefined): GivenArray | undefined {
  const info = reading('data', () => typedArrayInfo(data));
  if (!info) return undefined;
  const known = Object.values(DTYPES).find(({ array }) => array.name === info.name)?.array;
  if (!known) return undefined;
  const resolvedType = dtype ?? defaultDType(info.name);
  if (!resolvedType) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected options.dtype ('float16' or 'bfloat16') beside a ${info.name}, whose elements are the bits of a half type`,
    );
  }
  return { ...info, dtype: resolvedType, length: info.bytes.length / known.BYTES_PER_ELEMENT };
}

/** The elements of a typed array as numbers, for a conversion to another type. */
export function elementsOf({ name, bytes, length }: GivenArray): ArrayLike<number | bigint> {
  const { array } = Object.values(DTYPES).find((each) => each.array.name === name) as { array: typeof Float32Array };
  return new array(bytes.buffer as ArrayBuffer, bytes.byteOffset, length);
}

/** The elements of nested arrays, which have to be rectangular, and their shape. */
export function flatten(data: unknown): { shape: number[]; values: unknown[] } {
  const shape: number[] = [];
  const values: unknown[] = [];
  /** How many levels there are: known with the first element that is no array, or the first array without elements. */
  let depth: number | undefined;
  const visit = (array: unknown, level: number): void => {
    const row = elements(array, 'an array (as its neighbours are)', 'an element of data', (element) => element);
    const length = row.length;
    shape[level] ??= length;
    if (length !== shape[level]) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected nested arrays with rows of equal length but received rows of ${shape[level]} and ${length} elements`,
      );
    }
    if (length === 0) depth ??= level + 1;
    for (const element of row) {
      const isArray = typeof element === 'object' && reading('an element of data', () => Array.isArray(element));
      if (!isArray) depth ??= level + 1;
      if (depth !== undefined && isArray !== level + 1 < depth) {
        const expected = isArray ? 'a number (as its neighbours are)' : 'an array (as its neighbours are)';
        throw invalid(expected, 'an element of data', element);
      }
      if (!isArray) {
        values.push(element);
        continue;
      }
      if (level + 1 >= MAX_DIMENSIONS) throw invalid(`at most ${MAX_DIMENSIONS} dimensions`, 'data', data);
      visit(element, level + 1);
    }
    if (values.length > MAX_ELEMENTS) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected at most ${MAX_ELEMENTS} numbers in nested arrays but received more: use a typed array and options.shape`,
      );
    }
  };
  visit(data, 0);
  return { shape, values };
}

/** Writes numbers into the typed array of a type, each checked to be of it. */
export function encode(values: ArrayLike<unknown>, dtype: DType): Uint8Array {
  checkRoom(values.length * DTYPES[dtype].array.BYTES_PER_ELEMENT, () => `${values.length} elements of ${dtype}`);
  const array = new DTYPES[dtype].array(values.length);
  const { range, bits } = infoOf(dtype);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean') {
      throw invalid('numbers, bigints or booleans', `element ${i} of data`, value);
    }
    if (dtype === 'int64') {
      if (typeof value === 'number' && !Number.isInteger(value))
        throw invalid('an integer', `element ${i} of int64 data`, value);
      const integral = BigInt(value);
      if (BigInt.asIntN(64, integral) !== integral)
        throw invalid(`an integer from ${-(2n ** 63n)} to ${2n ** 63n - 1n}`, `element ${i} of int64 data`, value);
      (array as BigInt64Array)[i] = integral;
      continue;
    }
    const number = Number(value);
    if (range && (!Number.isInteger(number) || number < range[0] || number > range[1])) {
      throw invalid(`an integer from ${range[0]} to ${range[1]}`, `element ${i} of ${dtype} data`, value);
    }
    (array as Float64Array)[i] = dtype === 'bool' ? (number ? 1 : 0) : bits ? bits(number) : number;
  }
  return new Uint8Array(array.buffer);
}

export function checkCount(shape: readonly number[], count: number): void {
  const expected = elementCount(shape);
  if (expected === count) return;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected ${expected} elements for shape [${shape.join(', ')}] but received ${count}`,
  );
}

/** Bytes as the booleans that they stand for: 0 or 1. */
export function booleans(bytes: Uint8Array): Uint8Array {
  return bytes.some((byte) => byte > 1) ? bytes.map((byte) => (byte ? 1 : 0)) : bytes;
}

export function cannotShare(expected: string, received: string): TorchError {
  return new TorchError('ERR_INVALID_ARGUMENT', `Expected ${expected} with copy: false but received ${received}`);
}

/** The memory of a typed array where nobody can detach or resize it: libtorch reads it at any time. */
export function takeOver({ bytes, buffer, shared }: GivenArray): Uint8Array {
  const { resizable, growable } = buffer as { resizable?: boolean; growable?: boolean };
  if (resizable || growable) throw cannotShare('memory of fixed length', 'a resizable buffer');
  if (shared) return bytes;
  if (bytes.length !== buffer.byteLength) {
    throw cannotShare(
      'a typed array over the whole of its ArrayBuffer',
      `one of ${bytes.length} of its ${buffer.byteLength} bytes (as small Buffers of Node have, which share a pool)`,
    );
  }
  let owned: ArrayBuffer;
  try {
    owned = structuredClone(buffer as ArrayBuffer, { transfer: [buffer as ArrayBuffer] });
  } catch (error) {
    throw cannotShare('an ArrayBuffer that can be transferred', `one that can't: ${(error as Error).message}`);
  }
  // Some releases of Node copy what can't be transferred.
  if (bytes.length > 0) throw cannotShare('an ArrayBuffer that can be transferred', "one that can't");
  return new Uint8Array(owned);
}
