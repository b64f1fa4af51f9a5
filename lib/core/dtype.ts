import { fromBfloat16Bits, fromFloat16Bits, toBfloat16Bits, toFloat16Bits } from './half';

/** What there is to know of one type of elements. */
interface DTypeInfo {
  /** The typed array that holds them: half types as their bits, booleans as bytes. */
  array: new (
    length: number,
  ) => Float32Array | Float64Array | BigInt64Array | Int32Array | Int16Array | Int8Array | Uint8Array | Uint16Array;
  kind: 'float' | 'integer' | 'boolean';
  /** Whether a typed array of that class holds this type where no other is named. */
  byDefault: boolean;
  /** The range of integers; int64 is beyond what numbers hold. */
  range?: readonly [least: number, most: number];
  /** The bits that stand for a number in the array, of types that it can't hold. */
  bits?: (value: number) => number;
  /** The number that such bits stand for. */
  value?: (bits: number) => number;
  /** The decimal digits that tell its numbers apart, where JavaScript's own have more. */
  digits?: number;
  /**
   * The names that formats have for it: torch.save's class of storages, safetensors, the Open Inference Protocol, NumPy
   * without a byte order.
   */
  storage: string;
  safetensors: string;
  openInference: string;
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
  int64: {
    array: BigInt64Array,
    kind: 'integer',
    byDefault: true,
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
 * The typed array that holds elements of a type: half types as their bits in a Uint16Array, bool as bytes in a Uint8Array.
 *
 * @example
 * const row: TypedArrayOf<'float32'> = Float32Array.of(1, 2, 3);
 */
export type TypedArrayOf<Name extends DType> = (typeof DTYPES)[Name]['array']['prototype'];

/**
 * An element of a type, as `toArray` and `item` give it: a bigint of int64, a boolean of bool, a number of the others.
 *
 * @example
 * const id: ElementOf<'int64'> = 101n;
 */
export type ElementOf<Name extends DType> = Name extends DType
  ? (typeof DTYPES)[Name]['kind'] extends 'boolean'
    ? boolean
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

export function infoOf(dtype: DType): DTypeInfo {
  return DTYPES[dtype];
}

/** The types of floating-point numbers. */
export const FLOATING_DTYPES: readonly FloatingDType[] = DTYPE_NAMES.filter(
  (name): name is FloatingDType => DTYPES[name].kind === 'float',
);

/** The types by the name that a format has for them. */
export function dtypesBy(format: 'storage' | 'safetensors' | 'openInference' | 'numpy'): Record<string, DType> {
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
