import { bytesPerElement, DTYPES, type DType, dtypesBy, infoOf, isDType } from '../core/dtype';
import { TorchError } from '../core/errors';
import { elementReader } from '../core/nested-elements';
import { elementCount, isShape, MAX_DIMENSIONS } from '../core/shape';
import type { TypedArray } from '../core/tensor';
import { booleans, encode, flatten } from '../core/tensor-data';
import { invalid, shown } from '../core/validate';

// Tensors as the Open Inference Protocol has them: elements in row-major order, as JSON or as bytes (little-endian).

/** The types that the protocol has a name for: not the complex ones. */
export type WireDType = {
  [Name in DType]: (typeof DTYPES)[Name] extends { openInference: string } ? Name : never;
}[DType];

const DATATYPES = dtypesBy('openInference') as Record<string, WireDType>;

/** A tensor of numbers or booleans, or of texts (BYTES). */
export type WireTensor = { shape: number[] } & (
  | { dtype: WireDType; bytes: Uint8Array }
  | { dtype: 'bytes'; texts: Uint8Array[] }
);

export function isWireDType(dtype: string): dtype is WireDType {
  return isDType(dtype) && infoOf(dtype).openInference !== undefined;
}

/** The protocol's name of a type. */
export function datatypeOf(dtype: WireDType | 'bytes'): string {
  return dtype === 'bytes' ? 'BYTES' : DTYPES[dtype].openInference;
}

export function dtypeOf(datatype: unknown, what: string): WireDType | 'bytes' {
  if (datatype === 'BYTES') return 'bytes';
  const dtype = typeof datatype === 'string' && Object.hasOwn(DATATYPES, datatype) ? DATATYPES[datatype] : undefined;
  if (dtype === undefined)
    throw invalid([...Object.keys(DATATYPES), 'BYTES'].join(', '), `datatype of ${what}`, datatype);
  return dtype;
}

export function checkShape(shape: unknown, what: string): number[] {
  if (isShape(shape)) return [...shape];
  const expected = `at most ${MAX_DIMENSIONS} sizes of at least 0`;
  if (!Array.isArray(shape) || shape.length > MAX_DIMENSIONS) throw invalid(expected, `shape of ${what}`, shape);
  const wrong = shape.findIndex((size) => !isShape([size]));
  throw invalid('a size of at least 0', `shape[${wrong}] of ${what}`, shape[wrong]);
}

function checkCount(count: number, shape: readonly number[], what: string): void {
  const expected = elementCount(shape);
  if (count === expected) return;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected ${expected} elements for shape [${shape.join(', ')}] of ${what} but received ${count}`,
  );
}

/** What JSON has no numbers for, as protobuf's JSON has it. */
const NAMED_NUMBERS = new Map<unknown, number>([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
]);

/** A tensor of JSON data: flat, or nested as its shape. */
export function fromJsonData(datatype: unknown, shape: unknown, data: unknown, what: string): WireTensor {
  const dtype = dtypeOf(datatype, what);
  const sizes = checkShape(shape, what);
  if (!Array.isArray(data)) throw invalid('an array', `data of ${what}`, data);
  const { values } = flatten(data);
  checkCount(values.length, sizes, what);
  if (dtype === 'bytes') return { dtype, shape: sizes, texts: values.map((value) => textOf(value, what)) };
  if (infoOf(dtype).kind === 'float') {
    for (const [i, value] of values.entries())
      if (typeof value === 'string') values[i] = NAMED_NUMBERS.get(value) ?? value;
  } else {
    const inexact = values.find((value) => typeof value === 'number' && Math.abs(value) > Number.MAX_SAFE_INTEGER);
    if (inexact !== undefined) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected integers up to ${Number.MAX_SAFE_INTEGER} in the JSON data of ${what} but received ${inexact}, which JSON's numbers ` +
          'may have rounded: send it as binary data',
      );
    }
  }
  return { dtype, shape: sizes, bytes: encode(values, dtype) };
}

function textOf(value: unknown, what: string): Uint8Array {
  if (typeof value !== 'string') throw invalid('strings', `the BYTES data of ${what}`, value);
  return Buffer.from(value, 'utf8');
}

/** A tensor of binary data. The bytes are the request's: they are copied where a tensor is made of them. */
export function fromBinaryData(datatype: unknown, shape: unknown, bytes: Uint8Array, what: string): WireTensor {
  const dtype = dtypeOf(datatype, what);
  const sizes = checkShape(shape, what);
  if (dtype === 'bytes') {
    const texts = splitTexts(bytes, what);
    checkCount(texts.length, sizes, what);
    return { dtype, shape: sizes, texts };
  }
  const expected = elementCount(sizes) * bytesPerElement(dtype);
  if (bytes.length !== expected) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${expected} bytes for ${datatype} [${sizes.join(', ')}] of ${what} but received ${bytes.length}`,
    );
  }
  return { dtype, shape: sizes, bytes: dtype === 'bool' ? booleans(bytes) : bytes };
}

/** Each element of BYTES has its length before it, in four bytes. */
function splitTexts(bytes: Uint8Array, what: string): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const texts: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length) {
    const length = at + 4 <= bytes.length ? view.getUint32(at, true) : Number.POSITIVE_INFINITY;
    if (at + 4 + length > bytes.length) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a length of four bytes before each element of ${what}, and that many bytes after it, but received ${shown(bytes.length - at)} bytes`,
      );
    }
    texts.push(bytes.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return texts;
}

/** The bytes of a tensor as they are sent. */
export function toBinaryData(tensor: WireTensor): Uint8Array {
  if (tensor.dtype !== 'bytes') return tensor.bytes;
  return Buffer.concat(
    tensor.texts.flatMap((text) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(text.length);
      return [length, text];
    }),
  );
}

/** The elements of a tensor as those of a typed array of its type, which shares their memory where it can. */
export function arrayOf(dtype: DType, bytes: Uint8Array): TypedArray {
  const { array } = DTYPES[dtype];
  const aligned = bytes.byteOffset % array.BYTES_PER_ELEMENT === 0 ? bytes : Uint8Array.from(bytes);
  const known = array as unknown as new (buffer: ArrayBufferLike, offset: number, length: number) => TypedArray;
  return new known(aligned.buffer, aligned.byteOffset, bytes.length / array.BYTES_PER_ELEMENT);
}

/** So many elements are a piece: written within about a millisecond. */
const PIECE = 2 ** 12;

/** The elements of a tensor as a JSON array, flat, in pieces. Integers are exact, whatever JavaScript's parser makes of them. */
export function* toJsonData(tensor: WireTensor): Generator<string, void, undefined> {
  const { count, written } = tensor.dtype === 'bytes' ? writtenTexts(tensor) : writtenNumbers(tensor);
  yield '[';
  for (let start = 0; start < count; start += PIECE) {
    yield `${start > 0 ? ',' : ''}${written(start, Math.min(start + PIECE, count)).join(',')}`;
  }
  yield ']';
}

/** Elements of a tensor as JSON has them, from one position to another. */
interface Written {
  count: number;
  written(start: number, end: number): string[];
}

function writtenTexts({ texts }: { texts: Uint8Array[] }): Written {
  const decoder = new TextDecoder();
  return {
    count: texts.length,
    written: (start, end) => texts.slice(start, end).map((text) => JSON.stringify(decoder.decode(text))),
  };
}

function writtenNumbers({ dtype, bytes }: { dtype: WireDType; bytes: Uint8Array }): Written {
  const array = arrayOf(dtype, bytes) as ArrayLike<number | bigint> & { subarray: Float32Array['subarray'] };
  const valueAt = elementReader(dtype);
  const writtenOne = (element: number | bigint): string => {
    const value = valueAt(element);
    if (typeof value !== 'number') return String(value);
    return Number.isFinite(value) ? (Object.is(value, -0) ? '-0' : String(value)) : `"${value}"`;
  };
  return { count: array.length, written: (start, end) => Array.from(array.subarray(start, end), writtenOne) };
}
