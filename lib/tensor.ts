import { isSharedArrayBuffer } from 'node:util/types';
import { isMainThread } from 'node:worker_threads';
import { binding, fromNative, type NativeTensor, type NativeTypedArray, native } from './binding';
import { TorchError } from './errors';
import { ARRAY_OF } from './formats/entry';
import { options as checkOptions, integer, invalid, optionalBoolean, optionalString, shown } from './validate';

/** Element types, by PyTorch's names. */
export type DType =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'bfloat16'
  | 'int64'
  | 'int32'
  | 'int16'
  | 'int8'
  | 'uint8'
  | 'bool';

/** Where tensors live: `'cpu'`, `'cuda'` (the first), `'cuda:1'` … */
export type Device = string;

export type TypedArray = NativeTypedArray;

/** Nested arrays of numbers, bigints or booleans, all rows of a dimension equally long. */
export type NestedArray = readonly (number | bigint | boolean | NestedArray)[];

export interface TensorOptions {
  /** Sizes of the dimensions; default: those of the nested arrays, or one dimension for flat data. */
  shape?: readonly number[];
  /** Element type; default: that of the typed array, else float32 for numbers, int64 for bigints, bool for booleans. */
  dtype?: DType;
  /** Default `'cpu'`. */
  device?: Device;
  /**
   * `false`: the tensor lies in the memory of the typed array; an error where that can't be. See `Tensor.from`. Default true.
   */
  copy?: boolean;
}

/** Options of tensors made without data. */
export type ZerosOptions = Pick<TensorOptions, 'dtype' | 'device'>;

type ArrayConstructor = {
  new (length: number): TypedArray;
  readonly BYTES_PER_ELEMENT: number;
};

/** The typed array that holds elements of each type; half types as their bits, booleans as bytes. */
const ARRAYS: Record<DType, ArrayConstructor> = ARRAY_OF;

const DTYPES = Object.keys(ARRAYS) as DType[];

/** The type that a typed array holds when no other is named. Uint16Array is left out: its bits could be of either half type. */
function dtypeOfArray(data: TypedArray): DType {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Float64Array) return 'float64';
  if (data instanceof BigInt64Array) return 'int64';
  if (data instanceof Int32Array) return 'int32';
  if (data instanceof Int16Array) return 'int16';
  if (data instanceof Int8Array) return 'int8';
  if (data instanceof Uint8Array) return 'uint8';
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected options.dtype ('float16' or 'bfloat16') beside a ${(data as object).constructor.name}, whose elements are the bits of a half type`,
  );
}

function isSupportedTypedArray(data: unknown): data is TypedArray {
  return (
    ArrayBuffer.isView(data) &&
    !(data instanceof DataView) &&
    [...new Set(Object.values(ARRAYS))].some((array) => data instanceof array)
  );
}

export function checkDType(value: unknown, what: string): DType | undefined {
  if (value === undefined) return undefined;
  if (!DTYPES.includes(value as DType)) throw invalid(`one of ${DTYPES.join(', ')}`, what, value);
  return value as DType;
}

/** The shape of nested arrays, which have to be rectangular. */
function shapeOfNested(data: NestedArray): number[] {
  const shape: number[] = [];
  for (let level: unknown = data; Array.isArray(level); level = level[0]) shape.push(level.length);
  return shape;
}

function flatten(
  data: NestedArray,
  shape: readonly number[],
  level: number,
  into: (number | bigint | boolean)[],
): void {
  if (data.length !== shape[level]) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected nested arrays with rows of equal length but received rows of ${shape[level]} and ${data.length} elements`,
    );
  }
  for (const element of data) {
    if (level < shape.length - 1) {
      if (!Array.isArray(element)) throw invalid('an array (as its neighbours are)', 'an element of data', element);
      flatten(element, shape, level + 1, into);
    } else {
      if (Array.isArray(element)) throw invalid('a number (as its neighbours are)', 'an element of data', element);
      into.push(element as number | bigint | boolean);
    }
  }
}

const halfBits = new DataView(new ArrayBuffer(8));

/** The bits of the nearest float16 (IEEE 754 binary16, ties to even), computed from the float64 directly. */
function toFloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), -14);
  const step = 2 ** (exponent - 10);
  const quotient = magnitude / step; // exact: a power of two
  const floor = Math.floor(quotient);
  const rest = quotient - floor;
  const steps = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
  return sign | (steps + (exponent + 14) * 1024); // a carry out of the mantissa is the next exponent
}

/** The bits of the nearest bfloat16: the upper half of the float32, ties to even. */
function toBfloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  halfBits.setFloat32(0, value);
  const bits = halfBits.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Writes numbers into the typed array of a type, each checked to be of it. */
function encode(values: readonly (number | bigint | boolean)[], dtype: DType): TypedArray {
  const array = new ARRAYS[dtype](values.length);
  const ranges: Partial<Record<DType, [number, number]>> = {
    int32: [-2147483648, 2147483647],
    int16: [-32768, 32767],
    int8: [-128, 127],
    uint8: [0, 255],
  };
  const range = ranges[dtype];
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as unknown;
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
    (array as Float64Array)[i] =
      dtype === 'bool'
        ? number
          ? 1
          : 0
        : dtype === 'float16'
          ? toFloat16(number)
          : dtype === 'bfloat16'
            ? toBfloat16(number)
            : number;
  }
  return array;
}

function checkShape(shape: unknown, count: number): readonly number[] {
  if (!Array.isArray(shape)) throw invalid('an array of sizes', 'options.shape', shape);
  let product = 1;
  for (const size of shape) product *= integer(size, 'a size of options.shape', 0);
  if (product !== count) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${product} elements for shape [${shape.join(', ')}] but received ${count}`,
    );
  }
  return shape as number[];
}

function cannotShare(expected: string, received: string): TorchError {
  return new TorchError('ERR_INVALID_ARGUMENT', `Expected ${expected} with copy: false but received ${received}`);
}

/** A typed array on the memory of `data` that nobody can detach or resize: libtorch reads it at any time. */
function takeOver(data: TypedArray): ArrayBufferView {
  const { buffer } = data as { buffer: ArrayBufferLike & { resizable?: boolean; growable?: boolean } };
  if (buffer.resizable || buffer.growable) throw cannotShare('memory of fixed length', 'a resizable buffer');
  if (isSharedArrayBuffer(buffer)) return data;
  if (data.byteLength !== buffer.byteLength) {
    throw cannotShare(
      'a typed array over the whole of its ArrayBuffer',
      `one of ${data.byteLength} of its ${buffer.byteLength} bytes (as small Buffers of Node have, which share a pool)`,
    );
  }
  let owned: ArrayBuffer;
  try {
    new Uint8Array(buffer); // throws where it is detached
    owned = structuredClone(buffer as ArrayBuffer, { transfer: [buffer as ArrayBuffer] });
  } catch (error) {
    throw cannotShare('an ArrayBuffer that can be transferred', `one that can't: ${(error as Error).message}`);
  }
  // Some releases of Node copy what can't be transferred.
  if (buffer.byteLength > 0) throw cannotShare('an ArrayBuffer that can be transferred', "one that can't");
  return new Uint8Array(owned);
}

/** What a typed array's elements are worth as numbers, for a conversion to another type. */
function elementsOf(data: TypedArray): (number | bigint)[] {
  return Array.from(data as ArrayLike<number | bigint>);
}

/**
 * A multi-dimensional array in libtorch's memory, on the CPU or a CUDA device.
 *
 * It is freed when it is disposed (`dispose()`, or `using`) or collected, whichever comes first; views and typed arrays
 * made of it stay valid. Operations run at once on the calling thread, on the tensor's device, and are differentiable
 * where PyTorch's are.
 */
export class Tensor {
  readonly #native: NativeTensor;
  #shape: readonly number[] | undefined;
  #dtype: DType | undefined;

  /** @internal Tensors are made with `Tensor.from`, or by models. */
  constructor(handle: NativeTensor) {
    this.#native = handle;
  }

  /**
   * Makes a tensor of data.
   *
   * The data is copied, unless `copy: false` says to lie in its memory, on the CPU and without conversion:
   * - An ArrayBuffer is taken over, as by `postMessage` with transfer: the tensor owns the memory from then on, and `data`
   *   is left detached, of length 0. `toTypedArray()` gives a view of the same memory to write into. (JavaScript has no way
   *   to keep an ArrayBuffer that its owner still holds from being detached, and libtorch would be left with freed memory.)
   *   In a worker it is copied all the same, since the memory would end with the worker.
   * - A SharedArrayBuffer, which can't be detached, is shared: `data` stays a view of the tensor's memory.
   *
   * Don't write into memory that a run under way reads: what it computes is undefined then.
   *
   * @param data A typed array (half types as their bits in a Uint16Array, with `options.dtype`), or a number, or nested
   *   arrays of numbers, bigints or booleans.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where data, shape and dtype don't fit, and with `copy: false` where the
   *   memory can't be used as it is: another type of elements, another device, a part of an ArrayBuffer, one that is
   *   resizable, detached or can't be transferred (WebAssembly's, the pool's of small Buffers, one that `toTypedArray`
   *   made); `ERR_DEVICE_UNAVAILABLE`.
   */
  static from(data: TypedArray | NestedArray | number | bigint | boolean, options?: TensorOptions): Tensor {
    const {
      shape,
      dtype: dtypeOption,
      device,
      copy,
    } = checkOptions(options, ['shape', 'dtype', 'device', 'copy'], 'the options of Tensor.from');
    const dtype = checkDType(dtypeOption, 'options.dtype');
    optionalString(device, 'options.device');
    if (optionalBoolean(copy, 'options.copy') === false) return Tensor.#on(data, shape, dtype, device);
    let array: TypedArray;
    let itsShape: readonly number[];
    let itsType: DType;
    if (isSupportedTypedArray(data)) {
      itsShape = shape === undefined ? [data.length] : checkShape(shape, data.length);
      itsType = dtype ?? dtypeOfArray(data);
      if (data instanceof ARRAYS[itsType]) {
        array = data;
        if (itsType === 'bool')
          array = data.some((byte) => byte > 1) ? Uint8Array.from(data as Uint8Array, (byte) => (byte ? 1 : 0)) : data;
      } else {
        array = encode(elementsOf(data), itsType);
      }
    } else {
      const scalar = !Array.isArray(data);
      const nested = (scalar ? [data] : data) as NestedArray;
      const values: (number | bigint | boolean)[] = [];
      const ownShape = shapeOfNested(nested);
      flatten(nested, ownShape, 0, values);
      const first = values[0];
      itsType = dtype ?? (typeof first === 'bigint' ? 'int64' : typeof first === 'boolean' ? 'bool' : 'float32');
      itsShape = shape === undefined ? (scalar ? [] : ownShape) : checkShape(shape, values.length);
      array = encode(values, itsType);
    }
    return new Tensor(native((addon) => addon.NativeTensor.from(array, itsShape, itsType, device ?? 'cpu')));
  }

  static #on(
    data: unknown,
    shape: readonly number[] | undefined,
    dtype: DType | undefined,
    device: Device | undefined,
  ): Tensor {
    if (!isSupportedTypedArray(data)) throw invalid('a typed array', 'data with copy: false', data);
    if (device !== undefined && device !== 'cpu') throw cannotShare("the device 'cpu'", `'${device}'`);
    const itsShape = shape === undefined ? [data.length] : checkShape(shape, data.length);
    const itsType = dtype ?? dtypeOfArray(data);
    if (!(data instanceof ARRAYS[itsType])) {
      throw cannotShare(`a ${ARRAYS[itsType].name} for ${itsType}`, shown(data));
    }
    if (itsType === 'bool' && data.some((byte) => byte > 1)) throw cannotShare('bytes of 0 and 1 for bool', 'others');
    const memory = takeOver(data);
    // What a worker owns goes with it, also while libtorch reads it, which nobody may have to wait for.
    if (!isMainThread && !isSharedArrayBuffer(memory.buffer)) {
      return new Tensor(native((addon) => addon.NativeTensor.from(memory, itsShape, itsType, 'cpu')));
    }
    return new Tensor(native((addon) => addon.NativeTensor.on(memory, itsShape, itsType)));
  }

  /**
   * A tensor of zeros, to be filled through `toTypedArray()`, which on the CPU is its memory: what is written there
   * between two runs is what the next one reads, without any copy.
   *
   * @param options `dtype` (default `'float32'`) and `device` (default `'cpu'`).
   */
  static zeros(shape: readonly number[], options?: ZerosOptions): Tensor {
    const { dtype, device } = checkOptions(options, ['dtype', 'device'], 'the options of Tensor.zeros');
    if (!Array.isArray(shape)) throw invalid('an array of sizes', 'shape', shape);
    const sizes = Array.from(shape, (size) => integer(size, 'a size of shape', 0)); // holes too
    const type = checkDType(dtype, 'options.dtype') ?? 'float32';
    optionalString(device, 'options.device');
    return new Tensor(native((addon) => addon.NativeTensor.zeros(sizes, type, device ?? 'cpu')));
  }

  /** Sizes of the dimensions. */
  get shape(): readonly number[] {
    this.#shape ??= Object.freeze(this.#call((tensor) => tensor.shape()));
    return this.#shape;
  }

  /** Element type. */
  get dtype(): DType {
    this.#dtype ??= this.#call((tensor) => tensor.dtype()) as DType;
    return this.#dtype;
  }

  /** Where the elements are: `'cpu'`, `'cuda:0'` … */
  get device(): string {
    return this.#call((tensor) => tensor.device());
  }

  /**
   * The elements in row-major order. On the CPU the array is the tensor's own memory wherever Node allows that and the
   * tensor is contiguous: a write into one shows in the other, and in the next run with that tensor as its input. Not while
   * a run reads it: what that computes is undefined then. Blocks while a GPU copies; see `data()`.
   *
   * int64 gives a BigInt64Array, bool a Uint8Array, float16 and bfloat16 their bits in a Uint16Array.
   */
  toTypedArray(): TypedArray {
    return this.#call((tensor) => tensor.toTypedArray());
  }

  /** Like `toTypedArray`, without blocking the event loop while a GPU copies. */
  async data(): Promise<TypedArray> {
    try {
      return await this.#native.data();
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** This tensor on another device or with another element type; the same memory where neither changes. */
  to(options: { device?: Device; dtype?: DType }): Tensor {
    const { device, dtype } = checkOptions(options, ['device', 'dtype'], 'the options of to()');
    optionalString(device, 'options.device');
    checkDType(dtype, 'options.dtype');
    return new Tensor(this.#call((tensor) => tensor.to(device, dtype)));
  }

  /** Whether gradients are computed for it. */
  get requiresGrad(): boolean {
    return this.#call((tensor) => tensor.requiresGrad());
  }

  /** As PyTorch's `requires_grad_()`: asks for gradients of a leaf of floating-point type. */
  set requiresGrad(value: boolean) {
    if (typeof value !== 'boolean') throw invalid('a boolean', 'requiresGrad', value);
    this.#call((tensor) => tensor.setRequiresGrad(value));
  }

  /** The gradient that `backward` has added up in a leaf; null before, and for tensors that aren't leaves. */
  get grad(): Tensor | null {
    const gradient = this.#call((tensor) => tensor.grad());
    return gradient && new Tensor(gradient);
  }

  /** Adds the gradients of this tensor to those of the leaves it was computed from. `gradient`: default 1 for a scalar. */
  async backward(gradient?: Tensor): Promise<void> {
    try {
      await this.#native.backward(gradient === undefined ? undefined : handleOf(gradient, 'gradient'));
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** Slice `index` of dimension `dim`, which disappears. A view. */
  select(dim: number, index: number): Tensor {
    return this.#apply('select', integer(dim, 'dim'), integer(index, 'index'));
  }

  /** `length` elements of dimension `dim` from `start` on. A view. */
  narrow(dim: number, start: number, length: number): Tensor {
    return this.#apply('narrow', integer(dim, 'dim'), integer(start, 'start'), integer(length, 'length', 0));
  }

  /** The same elements in another shape; one size may be -1. A view where possible. */
  reshape(shape: readonly number[]): Tensor {
    if (!Array.isArray(shape)) throw invalid('an array of sizes', 'shape', shape);
    return this.#apply(
      'reshape',
      Array.from(shape, (size) => integer(size, 'a size of shape', -1)), // holes too
    );
  }

  /** Dimensions `a` and `b` swapped. A view. */
  transpose(a: number, b: number): Tensor {
    return this.#apply('transpose', integer(a, 'a'), integer(b, 'b'));
  }

  /** Sum over all elements, or over `dim`. */
  sum(dim?: number): Tensor {
    return this.#apply('sum', dim === undefined ? undefined : integer(dim, 'dim'));
  }

  /** Mean over all elements, or over `dim`. */
  mean(dim?: number): Tensor {
    return this.#apply('mean', dim === undefined ? undefined : integer(dim, 'dim'));
  }

  /** exp(x) / Σ exp(x) along `dim`. */
  softmax(dim: number): Tensor {
    return this.#apply('softmax', integer(dim, 'dim'));
  }

  /** Index of the largest element along `dim` (int64), or among all elements. */
  argmax(dim?: number): Tensor {
    return this.#apply('argmax', dim === undefined ? undefined : integer(dim, 'dim'));
  }

  /** Element-wise sum with a tensor that broadcasts to this one's shape, or with a number. */
  add(x: Tensor | number): Tensor {
    return this.#apply('add', operand(x));
  }

  /** Element-wise product with a tensor that broadcasts to this one's shape, or with a number. */
  mul(x: Tensor | number): Tensor {
    return this.#apply('mul', operand(x));
  }

  /** The value of a tensor with one element; a bigint for int64. */
  item(): number | bigint | boolean {
    return this.#call((tensor) => tensor.item());
  }

  /** Frees the tensor's memory now, unless something else uses it. May be called twice; every other use then throws `ERR_DISPOSED`. */
  dispose(): void {
    this.#native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal */
  static handle(tensor: Tensor): NativeTensor {
    return tensor.#native;
  }

  #call<Result>(call: (tensor: NativeTensor) => Result): Result {
    try {
      return call(this.#native);
    } catch (error) {
      throw fromNative(error);
    }
  }

  #apply(operation: string, ...args: unknown[]): Tensor {
    return new Tensor(this.#call((tensor) => tensor.apply(operation, ...args)));
  }
}

function operand(x: Tensor | number): NativeTensor | number {
  return typeof x === 'number' ? x : handleOf(x, 'x');
}

/** The native side of a tensor, for the layers that pass it on. */
export function handleOf(value: unknown, what: string): NativeTensor {
  if (!(value instanceof Tensor)) throw invalid('a Tensor', what, value);
  const handle = Tensor.handle(value);
  if (handle.isDisposed()) {
    throw new TorchError('ERR_DISPOSED', `Expected a live tensor for ${what} but received one that was disposed`);
  }
  return handle;
}

/** A tensor made by the addon, as users get it. */
export function fromHandle(handle: NativeTensor): Tensor {
  return new Tensor(handle);
}

/** Whether a value that the addon gave is one of its tensors. */
export function isHandle(value: unknown): value is NativeTensor {
  return value instanceof binding().NativeTensor;
}
