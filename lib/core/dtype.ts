import type { NativeTypedArray } from './binding';
import { fromBfloat16Bits, fromFloat16Bits, toBfloat16Bits, toFloat16Bits } from './half';

/** What there is to know of one type of elements. */
interface DTypeInfo {
  /** The typed array that holds them: half types as their bits, booleans as bytes, complex numbers as two, the real part first. */
  array: new (
    length: number,
  ) => NativeTypedArray;
  kind: 'float' | 'complex' | 'integer' | 'boolean';
  /** Whether a typed array of that class holds this type where no other is named. */
  byDefault: boolean;
  /** The range of integers, in bigints where it is beyond what numbers hold. */
  range?: readonly [least: number, most: number] | readonly [least: bigint, most: bigint];
  /** The bits that stand for a number in the array, of types that it can't hold. */
  bits?: (value: number) => number;
  /** The number that such bits stand for. */
  value?: (bits: number) => number;
  /** The decimal digits that tell its numbers apart, where JavaScript's own have more. */
  digits?: number;
  /**
   * The names that formats have for it: torch.save's class of storages (newer types have none: their tensors name the type),
   * safetensors, the Open Inference Protocol, NumPy without a byte order.
   */
  storage?: string;
  safetensors?: string;
  openInference?: string;
  numpy?: string;
}

/** All types of elements, by PyTorch's names. The addon has the same table (native/node/dtypes.h); a test compares them. */
export const DTYPES = {
  float32: {
    array: Float32Array,
    kind: 'float',
    byDefault: true,
    digits: 7,
    storage: 'FloatStorage',
    safetensors: 'F32',
    openInference: 'FP32',
    numpy: 'f4',
  },
  float64: {
    array: Float64Array,
    kind: 'float',
    byDefault: true,
    storage: 'DoubleStorage',
    safetensors: 'F64',
    openInference: 'FP64',
    numpy: 'f8',
  },
  float16: {
    array: Uint16Array,
    kind: 'float',
    byDefault: false,
    bits: toFloat16Bits,
    value: fromFloat16Bits,
    digits: 4,
    storage: 'HalfStorage',
    safetensors: 'F16',
    openInference: 'FP16',
    numpy: 'f2',
  },
  bfloat16: {
    array: Uint16Array,
    kind: 'float',
    byDefault: false,
    bits: toBfloat16Bits,
    value: fromBfloat16Bits,
    digits: 3,
    storage: 'BFloat16Storage',
    safetensors: 'BF16',
    openInference: 'BF16',
  },
  complex64: {
    array: Float32Array,
    kind: 'complex',
    byDefault: false,
    digits: 7,
    storage: 'ComplexFloatStorage',
    safetensors: 'C64',
    numpy: 'c8',
  },
  complex128: {
    array: Float64Array,
    kind: 'complex',
    byDefault: false,
    storage: 'ComplexDoubleStorage',
    numpy: 'c16',
  },
  int64: {
    array: BigInt64Array,
    kind: 'integer',
    byDefault: true,
    range: [-(2n ** 63n), 2n ** 63n - 1n],
    storage: 'LongStorage',
    safetensors: 'I64',
    openInference: 'INT64',
    numpy: 'i8',
  },
  int32: {
    array: Int32Array,
    kind: 'integer',
    byDefault: true,
    range: [-(2 ** 31), 2 ** 31 - 1],
    storage: 'IntStorage',
    safetensors: 'I32',
    openInference: 'INT32',
    numpy: 'i4',
  },
  int16: {
    array: Int16Array,
    kind: 'integer',
    byDefault: true,
    range: [-(2 ** 15), 2 ** 15 - 1],
    storage: 'ShortStorage',
    safetensors: 'I16',
    openInference: 'INT16',
    numpy: 'i2',
  },
  int8: {
    array: Int8Array,
    kind: 'integer',
    byDefault: true,
    range: [-128, 127],
    storage: 'CharStorage',
    safetensors: 'I8',
    openInference: 'INT8',
    numpy: 'i1',
  },
  uint8: {
    array: Uint8Array,
    kind: 'integer',
    byDefault: true,
    range: [0, 255],
    storage: 'ByteStorage',
    safetensors: 'U8',
    openInference: 'UINT8',
    numpy: 'u1',
  },
  uint16: {
    array: Uint16Array,
    kind: 'integer',
    byDefault: false,
    range: [0, 2 ** 16 - 1],
    safetensors: 'U16',
    openInference: 'UINT16',
    numpy: 'u2',
  },
  uint32: {
    array: Uint32Array,
    kind: 'integer',
    byDefault: true,
    range: [0, 2 ** 32 - 1],
    safetensors: 'U32',
    openInference: 'UINT32',
    numpy: 'u4',
  },
  uint64: {
    array: BigUint64Array,
    kind: 'integer',
    byDefault: true,
    range: [0n, 2n ** 64n - 1n],
    safetensors: 'U64',
    openInference: 'UINT64',
    numpy: 'u8',
  },
  bool: {
    array: Uint8Array,
    kind: 'boolean',
    byDefault: false,
    storage: 'BoolStorage',
    safetensors: 'BOOL',
    openInference: 'BOOL',
    numpy: 'b1',
  },
} as const satisfies Record<string, DTypeInfo>;

/**
 * Element types, by PyTorch's names.
 *
 * @example
 * const dtype: DType = 'bfloat16';
 */
export type DType = keyof typeof DTYPES;

/**
 * Element types of floating-point numbers: those that the parameters of a model can be cast to.
 *
 * @example
 * const dtype: FloatingDType = 'bfloat16';
 * const fast = await ScriptModule.load('model.pt', { dtype });
 */
export type FloatingDType = { [Name in DType]: (typeof DTYPES)[Name]['kind'] extends 'float' ? Name : never }[DType];

/**
 * The typed array that holds elements of a type: half types as their bits in a Uint16Array, bool as bytes in a Uint8Array,
 * complex types as two numbers each, the real part first.
 *
 * @example
 * const row: TypedArrayOf<'float32'> = Float32Array.of(1, 2, 3);
 */
export type TypedArrayOf<Name extends DType> = (typeof DTYPES)[Name]['array']['prototype'];

/**
 * An element of a type, as `toArray` and `item` give it: a bigint of int64 and uint64, a boolean of bool, a pair of the real
 * and the imaginary part of complex types, a number of the others.
 *
 * @example
 * const id: ElementOf<'int64'> = 101n;
 */
export type ElementOf<Name extends DType> = Name extends DType
  ? (typeof DTYPES)[Name]['kind'] extends 'boolean'
    ? boolean
    : (typeof DTYPES)[Name]['kind'] extends 'complex'
      ? [real: number, imaginary: number]
      : TypedArrayOf<Name>[number]
  : never;

/** The type that typed arrays of a class hold where no other is named. */
export type DefaultDType<Class> = {
  [Name in DType]: (typeof DTYPES)[Name]['byDefault'] extends true
    ? Class extends TypedArrayOf<Name>
      ? Name
      : never
    : never;
}[DType];

export const DTYPE_NAMES = Object.keys(DTYPES) as DType[];

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(DTYPES, value);
}

/** Whether a type's elements stand for numbers by a scale and a zero point, which `Tensor.dequantize` gives. */
export function isQuantized(dtype: string): boolean {
  return /^qu?int\d/.test(dtype);
}

export function infoOf(dtype: DType): DTypeInfo {
  return DTYPES[dtype];
}

/** How many numbers of its array an element takes. */
export function componentsOf(dtype: DType): 1 | 2 {
  return DTYPES[dtype].kind === 'complex' ? 2 : 1;
}

/** The bytes of an element. */
export function bytesPerElement(dtype: DType): number {
  return DTYPES[dtype].array.BYTES_PER_ELEMENT * componentsOf(dtype);
}

/** The types of floating-point numbers. */
export const FLOATING_DTYPES: readonly FloatingDType[] = DTYPE_NAMES.filter(
  (name): name is FloatingDType => DTYPES[name].kind === 'float',
);

/** The formats that have names of their own for types. */
type Format = 'storage' | 'safetensors' | 'openInference' | 'numpy';

/** The types by the name that a format has for them. */
export function dtypesBy(format: Format): Record<string, DType> {
  return Object.fromEntries(
    DTYPE_NAMES.flatMap((name) => {
      const code = infoOf(name)[format];
      return code === undefined ? [] : [[code, name]];
    }),
  );
}

/** The type that a typed array of a class (by its name) holds where no other is named; undefined where that is open. */
export function defaultDType(arrayName: string): DType | undefined {
  return DTYPE_NAMES.find((name) => DTYPES[name].byDefault && DTYPES[name].array.name === arrayName);
}
