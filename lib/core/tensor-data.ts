import { componentsOf, DTYPE_NAMES, DTYPES, type DType, defaultDType, infoOf } from './dtype';
import { TorchError } from './errors';
import { checkRoom } from './memory';
import { elementCount, MAX_DIMENSIONS } from './shape';
import { type TypedArrayInfo, typedArrayInfo } from './typed-array';
import { elements, invalid, MAX_ELEMENTS, reading } from './validate';

// What tensors are made of: typed arrays and nested ones, read once and checked.

/** A typed array that tensors are made of, as it is now. */
export interface GivenArray extends TypedArrayInfo {
  dtype: DType;
  /** The elements that it has of that type. */
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
    const held = DTYPE_NAMES.filter((name) => DTYPES[name].array.name === info.name).map((name) => `'${name}'`);
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected options.dtype (${held.join(' or ')}) beside a ${info.name}, which may hold elements of each`,
    );
  }
  return { ...info, dtype: resolvedType, length: countOf(info.bytes.length / known.BYTES_PER_ELEMENT, resolvedType) };
}

/** The elements that so many numbers are. */
function countOf(numbers: number, dtype: DType): number {
  const count = numbers / componentsOf(dtype);
  if (Number.isInteger(count)) return count;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected two numbers for each element of ${dtype}, its real and its imaginary part, but received ${numbers} in all`,
  );
}

/** The elements of a typed array as numbers, for a conversion to another type. */
export function elementsOf({ name, bytes }: GivenArray): ArrayLike<number | bigint> {
  const { array } = Object.values(DTYPES).find((each) => each.array.name === name) as { array: typeof Float32Array };
  return new array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length / array.BYTES_PER_ELEMENT);
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

/**
 * The shape of elements in nested arrays, and their numbers: the innermost arrays of complex ones are pairs of a real and an
 * imaginary part. A number alone has no imaginary part.
 *
 * @param given The shape that they should have, where it is known: the numbers may be nested in any way then.
 */
export function shapedAs(
  { shape, values }: { shape: number[]; values: unknown[] },
  dtype: DType,
  given: readonly number[] | undefined,
): { shape: readonly number[]; values: unknown[] } {
  const isPair = componentsOf(dtype) === 2;
  if (isPair && shape.length === 0) return { shape: given ?? [], values: [...values, 0] };
  if (given || !isPair || values.length === 0) return { shape: given ?? shape, values };
  if (shape.at(-1) === 2) return { shape: shape.slice(0, -1), values };
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected pairs of a real and an imaginary part as the innermost arrays of ${dtype} data but received arrays of length ${shape.at(-1)}`,
  );
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
    const isInteger = typeof value !== 'number' || Number.isInteger(value);
    const exact = typeof range?.[0] === 'bigint' && isInteger ? BigInt(value) : Number(value);
    if (range && (!isInteger || exact < range[0] || exact > range[1])) {
      throw invalid(`an integer from ${range[0]} to ${range[1]}`, `element ${i} of ${dtype} data`, value);
    }
    if (typeof exact === 'bigint') {
      (array as BigInt64Array)[i] = exact;
      continue;
    }
    const number = exact;
    (array as Float64Array)[i] = dtype === 'bool' ? (number ? 1 : 0) : bits ? bits(number) : number;
  }
  return new Uint8Array(array.buffer);
}

/** Checks that so many numbers are the elements of a shape. */
export function checkNumbers(shape: readonly number[], numbers: number, dtype: DType): void {
  checkCount(shape, countOf(numbers, dtype));
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
