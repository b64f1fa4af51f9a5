import { type InspectOptions, inspect } from 'node:util';
import { isSharedArrayBuffer } from 'node:util/types';
import { isMainThread } from 'node:worker_threads';
import { binding, fromNative, type NativeTensor, type NativeTypedArray, native } from './binding';
import { cancellable, stopOf } from './cancellable';
import {
  bytesPerElement,
  type DefaultDType,
  DTYPE_NAMES,
  DTYPES,
  type DType,
  type ElementOf,
  type FloatingDType,
  infoOf,
  isDType,
  isQuantized,
  type TypedArrayOf,
} from './dtype';
import { TorchError } from './errors';
import { checkRoom } from './memory';
import { jsonOf, nestedElements } from './nested-elements';
import { adopt } from './realm';
import { RUN_LIMITS, type RunLimits } from './run-limits';
import { elementCount, MAX_DIMENSIONS } from './shape';
import {
  booleans,
  cannotShare,
  checkCount,
  checkNumbers,
  elementsOf,
  encode,
  flatten,
  type GivenArray,
  givenArray,
  shapedAs,
  takeOver,
} from './tensor-data';
import { inspectTensor } from './tensor-inspection';
import {
  options as checkOptions,
  elements,
  integer,
  invalid,
  optionalBoolean,
  optionalString,
  reading,
  shortened,
} from './validate';

export type { DType, ElementOf, TypedArrayOf } from './dtype';

/**
 * Where tensors live: `'cpu'`, `'cuda'` (the first), `'cuda:1'` … `devices()` lists those that there are; another is
 * `ERR_DEVICE_UNAVAILABLE` where it is used.
 *
 * @example
 * const device: Device = devices().at(-1) ?? 'cpu';
 */
export type Device = string;

/**
 * The arrays that hold elements: one class for each `DType`, half types as their bits in a Uint16Array, bool as bytes in a
 * Uint8Array, complex types as two numbers each in a Float32Array or Float64Array.
 *
 * @example
 * const row: TypedArray = Float32Array.of(1, 2, 3);
 */
export type TypedArray = NativeTypedArray;

/**
 * Nested arrays of numbers, bigints or booleans, all rows of a dimension equally long; at most 64 deep.
 *
 * @example
 * const rows: NestedArray = [[1, 2], [3, 4]];
 */
export type NestedArray = readonly (number | bigint | boolean | NestedArray)[];

/**
 * What `toArray` gives: nested arrays of elements, or the element itself of a tensor without dimensions.
 *
 * @example
 * const rows = Tensor.from([[1, 2], [3, 4]]).toArray() as number[][];
 * const any: NestedElements<number> = rows;
 */
export type NestedElements<Element> = Element | NestedElements<Element>[];

/**
 * The element type of a tensor that is made of some data where none is named.
 *
 * @example
 * const dtype: DTypeOf<bigint[][]> = 'int64';
 */
export type DTypeOf<Data> = [Data] extends [never] ? 'float32' : DTypeBelow<Data, 8>;

/** One less, of the levels that `DTypeBelow` looks into. */
type LevelsBelow = [never, 0, 1, 2, 3, 4, 5, 6, 7];

/** The element type of nested arrays, any where they are deeper than `Levels`. */
type DTypeBelow<Data, Levels extends number> = Data extends TypedArray
  ? [DefaultDType<Data>] extends [never]
    ? DType
    : DefaultDType<Data>
  : Data extends readonly (infer Each)[]
    ? Levels extends 0
      ? DType
      : [Each] extends [never]
        ? 'float32'
        : DTypeBelow<Each, LevelsBelow[Levels]>
    : Data extends bigint
      ? 'int64'
      : Data extends boolean
        ? 'bool'
        : 'float32';

/** The types that hold fractions. */
type FractionalDType = FloatingDType | 'complex64' | 'complex128';

/** The element type of sums: of integers and booleans int64. */
type SumOf<Name extends DType> = Name extends FractionalDType ? Name : 'int64';

/** The element type of a result with a number: of integers it depends on the number. */
type WithNumber<Name extends DType> = Name extends FractionalDType ? Name : DType;

/** The element type of a result of two tensors, known where both have the same. */
type ResultOf<Name extends DType, Other extends DType> = [Name, Other] extends [Other, Name] ? Name : DType;

/**
 * What a tensor is made of, as a plain object: `Tensor.from` makes the same tensor of its parts.
 *
 * @example
 * const { data, ...options }: TensorContents = structuredClone(Tensor.from([[1, 2]])).contents as TensorContents;
 * const same = Tensor.from(data, options);
 */
export interface TensorContents<Name extends DType = DType> {
  /** Element type. */
  dtype: Name;
  /** Sizes of the dimensions. */
  shape: readonly number[];
  /** Where the tensor is; the elements below are on the CPU. */
  device: Device;
  /** The elements in row-major order, as `toTypedArray` gives them; the numbers that they stand for of a quantized tensor. */
  data: TypedArrayOf<Name>;
}

/**
 * What `JSON.stringify` writes of a tensor. A file of inputs in JSON may have it in the place of a nested array.
 *
 * @example
 * const { data, ...options } = JSON.parse(JSON.stringify(Tensor.from([[1, 2]]))) as TensorJson;
 * const same = Tensor.from(data as number[][], options);
 */
export interface TensorJson<Name extends DType = DType> {
  /** Element type. */
  dtype: Name;
  /** Sizes of the dimensions. */
  shape: readonly number[];
  /**
   * The elements, nested as `toArray` nests them: complex ones as pairs. Those that JSON has no number for are texts: `'NaN'`, `'Infinity'`,
   * `'-Infinity'`, and integers beyond 2⁵³ in digits.
   */
  data: NestedElements<number | boolean | string>;
}

/**
 * Options of `Tensor.from`.
 *
 * @example
 * const options: TensorOptions = { shape: [2, 2], dtype: 'float16' };
 */
export interface TensorOptions {
  /**
   * Sizes of the dimensions, each at least 0 and at most 64 of them; default: those of the nested arrays, or one dimension for
   * flat data.
   */
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

/**
 * Options of tensors made without data.
 *
 * @example
 * const options: ZerosOptions = { dtype: 'int64', device: 'cpu' };
 */
export type ZerosOptions = Pick<TensorOptions, 'dtype' | 'device'>;

/** Sizes of dimensions, as an array of our own. @param least -1 where one size may be left to be worked out. */
function sizesOf(value: unknown, what: string, least: -1 | 0 = 0): number[] {
  const sizes = elements(
    value,
    'an array of sizes',
    what,
    (size) => integer(size, `a size of ${what}`, least),
    MAX_DIMENSIONS,
  );
  if (!Number.isSafeInteger(elementCount(sizes))) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a shape of at most ${Number.MAX_SAFE_INTEGER} elements for ${what} but received [${sizes.join(', ')}]`,
    );
  }
  return sizes;
}

export function checkDType(value: unknown, what: string): DType | undefined {
  if (value === undefined) return undefined;
  if (!isDType(value)) throw invalid(`one of ${DTYPE_NAMES.join(', ')}`, what, value);
  return value;
}

/**
 * A multi-dimensional array in libtorch's memory, on the CPU or a CUDA device.
 *
 * It is freed when it is disposed (`dispose()`, or `using`) or collected, whichever comes first; views and typed arrays
 * made of it stay valid. Tensors are made with `Tensor.from`, `Tensor.zeros`, or by models.
 *
 * Operations run at once on the calling thread, on the tensor's device, and are differentiable where PyTorch's are. They
 * throw `ERR_INVALID_ARGUMENT` for what libtorch refuses (a dimension beyond the tensor's, shapes that don't broadcast), and
 * `ERR_DISPOSED` after `dispose()`. Dimensions may be negative: they count from the last.
 *
 * `Name` is its element type where the compiler knows it: a `Tensor<'float32'>` gives a Float32Array. Each is a `Tensor`.
 *
 * @example
 * const scores = Tensor.from([[1, 2], [3, 4]]);
 * console.log(scores.softmax(-1).toArray());
 */
export class Tensor<Name extends DType = DType> {
  readonly #native: NativeTensor;
  #dtype: DType | undefined;

  /**
   * Shape, dtype, device and elements as they are now; null once the tensor is disposed. The only property of its own that a
   * tensor has, for those who look at nothing else: the comparisons of test runners (`assert.deepStrictEqual`, `toEqual`),
   * `structuredClone` and `postMessage`, which make a plain object `{ contents }` of it. Elements of a GPU are copied.
   *
   * @example
   * const { contents } = Tensor.from([1, 2]);
   * console.log(contents?.dtype, contents?.data); // 'float32', Float32Array [1, 2]
   */
  declare readonly contents: TensorContents<Name> | null;

  static readonly #contents: PropertyDescriptor = {
    enumerable: true,
    get(this: Tensor): TensorContents | null {
      // A copy of a tensor's properties on another object, as test runners make to report a failure, is no tensor.
      if (!(#native in this) || this.#native.isDisposed()) return null;
      const { dtype, shape, device } = this;
      if (!isQuantized(dtype)) return { dtype, shape, device, data: this.toTypedArray() };
      using numbers = this.dequantize();
      return { dtype, shape, device, data: numbers.toTypedArray() };
    },
  };

  private constructor(handle: NativeTensor) {
    if (!isHandle(handle))
      throw invalid('what Tensor.from, Tensor.zeros or a model makes', 'the handle of a Tensor', handle);
    this.#native = handle;
    Object.defineProperty(this, 'contents', Tensor.#contents);
  }

  /** @internal The tensor that the addon made, as users get it. */
  static of(handle: NativeTensor): Tensor {
    return new Tensor(handle);
  }

  /** @internal Whether a value is a tensor: by what it is, not by its prototype. */
  static is(value: unknown): value is Tensor {
    return typeof value === 'object' && value !== null && #native in value;
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
   * @param data A typed array (half types as their bits in a Uint16Array, complex types as two numbers for each element, both
   *   with `options.dtype`), or a number, or nested arrays of numbers, bigints or booleans, whose innermost arrays are pairs of
   *   a real and an imaginary part where `options.dtype` is complex.
   * @param options `shape`, `dtype`, `device`, and `copy`.
   * @returns The tensor, which needs no gradients.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where data, shape and dtype don't fit, and with `copy: false` where the
   *   memory can't be used as it is: another type of elements, another device, a part of an ArrayBuffer, one that is
   *   resizable, detached or can't be transferred (WebAssembly's, the pool's of small Buffers, one that `toTypedArray`
   *   made); `ERR_DEVICE_UNAVAILABLE`.
   *
   * @example
   * const ids = Tensor.from([[101n, 7592n, 102n]]); // int64 [1, 3]
   * const roots = Tensor.from([[0, 1], [0, -1]], { dtype: 'complex64' }); // i and -i: complex64 [2]
   * const image = Tensor.from(new Float32Array(3 * 224 * 224), { shape: [1, 3, 224, 224], copy: false });
   */
  static from<Data extends TypedArray | NestedArray | number | bigint | boolean, Name extends DType = DTypeOf<Data>>(
    data: Data,
    options?: TensorOptions & { dtype?: Name },
  ): Tensor<Name> {
    return Tensor.#from(data, options) as Tensor<Name>;
  }

  static #from(data: unknown, options: TensorOptions | undefined): Tensor {
    const {
      shape,
      dtype: dtypeOption,
      device,
      copy,
    } = checkOptions(options, ['shape', 'dtype', 'device', 'copy'], 'the options of Tensor.from');
    const dtype = checkDType(dtypeOption, 'options.dtype');
    optionalString(device, 'options.device');
    const sizes = shape === undefined ? undefined : sizesOf(shape, 'options.shape');
    const share = optionalBoolean(copy, 'options.copy') === false;
    const given = givenArray(data, dtype);
    if (share) return Tensor.#on(data, given, sizes, device);
    let bytes: Uint8Array;
    let resolvedShape: readonly number[];
    let resolvedType: DType;
    if (given) {
      resolvedShape = sizes ?? [given.length];
      checkCount(resolvedShape, given.length);
      resolvedType = given.dtype;
      if (given.name !== DTYPES[resolvedType].array.name) bytes = encode(elementsOf(given), resolvedType);
      else bytes = resolvedType === 'bool' ? booleans(given.bytes) : given.bytes;
    } else {
      const scalar = !reading('data', () => Array.isArray(data));
      const nested = scalar ? { shape: [], values: [data] } : flatten(data);
      const first = nested.values[0];
      resolvedType = dtype ?? (typeof first === 'bigint' ? 'int64' : typeof first === 'boolean' ? 'bool' : 'float32');
      const shaped = shapedAs(nested, resolvedType, sizes);
      resolvedShape = shaped.shape;
      checkNumbers(resolvedShape, shaped.values.length, resolvedType);
      bytes = encode(shaped.values, resolvedType);
    }
    return new Tensor(native((addon) => addon.NativeTensor.from(bytes, resolvedShape, resolvedType, device ?? 'cpu')));
  }

  static #on(
    data: unknown,
    given: GivenArray | undefined,
    sizes: readonly number[] | undefined,
    device: Device | undefined,
  ): Tensor {
    if (!given) throw invalid('a typed array', 'data with copy: false', data);
    if (device !== undefined && device !== 'cpu') throw cannotShare("the device 'cpu'", `'${shortened(device)}'`);
    const resolvedShape = sizes ?? [given.length];
    checkCount(resolvedShape, given.length);
    const resolvedType = given.dtype;
    if (given.name !== DTYPES[resolvedType].array.name) {
      throw cannotShare(`a ${DTYPES[resolvedType].array.name} for ${resolvedType}`, `an instance of ${given.name}`);
    }
    if (resolvedType === 'bool' && given.bytes.some((byte) => byte > 1)) {
      throw cannotShare('bytes of 0 and 1 for bool', 'others');
    }
    const memory = takeOver(given);
    // What a worker owns goes with it, also while libtorch reads it, which nobody may have to wait for.
    if (!isMainThread && !isSharedArrayBuffer(memory.buffer)) {
      return new Tensor(native((addon) => addon.NativeTensor.from(memory, resolvedShape, resolvedType, 'cpu')));
    }
    return new Tensor(native((addon) => addon.NativeTensor.on(memory, resolvedShape, resolvedType)));
  }

  /**
   * A tensor of zeros, to be filled through `toTypedArray()`, which on the CPU is its memory: what is written there
   * between two runs is what the next one reads, without any copy.
   *
   * @param shape Sizes of the dimensions, each at least 0; at most 64.
   * @param options `dtype` (default `'float32'`) and `device` (default `'cpu'`).
   * @returns The tensor, which needs no gradients.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, also for more elements than the memory that is free holds;
   *   `ERR_DEVICE_UNAVAILABLE`.
   *
   * @example
   * const input = Tensor.zeros([1, 128], { dtype: 'int64' });
   * input.toTypedArray()[0] = 101n;
   */
  static zeros<Name extends DType = 'float32'>(
    shape: readonly number[],
    options?: ZerosOptions & { dtype?: Name },
  ): Tensor<Name> {
    const { dtype, device } = checkOptions(options, ['dtype', 'device'], 'the options of Tensor.zeros');
    const sizes = sizesOf(shape, 'shape');
    const type = checkDType(dtype, 'options.dtype') ?? 'float32';
    optionalString(device, 'options.device');
    checkRoom(elementCount(sizes) * bytesPerElement(type), () => `a tensor of shape [${sizes.join(', ')}]`);
    return new Tensor<Name>(native((addon) => addon.NativeTensor.zeros(sizes, type, device ?? 'cpu')));
  }

  /**
   * Sizes of the dimensions, as they are now: a model may resize a tensor that it is given. `[]` for a scalar.
   *
   * @example
   * const [batch, heads] = weights.shape;
   */
  get shape(): readonly number[] {
    return Object.freeze(this.#call((tensor) => tensor.shape()));
  }

  /**
   * Element type. Models may also give tensors of types that have no typed array, by PyTorch's name: quantized ones
   * (`'quint8'`), which `dequantize()` reads, and others (`'float8_e5m2'`), which `to({ dtype })` converts.
   *
   * @example
   * if (weights.dtype === 'float16') console.log(weights.to({ dtype: 'float32' }));
   */
  get dtype(): Name {
    this.#dtype ??= this.#call((tensor) => tensor.dtype()) as DType;
    return this.#dtype as Name;
  }

  /**
   * Where the elements are: `'cpu'`, `'cuda:0'` …
   *
   * @example
   * const onCpu = weights.device === 'cpu' ? weights : weights.to({ device: 'cpu' });
   */
  get device(): string {
    return this.#call((tensor) => tensor.device());
  }

  /**
   * The elements in row-major order. On the CPU the array is the tensor's own memory wherever Node allows that and the
   * tensor is contiguous: a write into one shows in the other, and in the next run with that tensor as its input. Not while
   * a run reads it: what that computes is undefined then. Blocks while a GPU copies; see `data()`.
   *
   * int64 gives a BigInt64Array, uint64 a BigUint64Array, bool a Uint8Array, float16 and bfloat16 their bits in a Uint16Array,
   * complex64 and complex128 the real and the imaginary part of each element in a Float32Array or Float64Array.
   *
   * @returns The array, of as many elements as the tensor has (twice as many of complex types).
   * @throws TorchError `ERR_DISPOSED`; `ERR_INVALID_ARGUMENT` for elements that no typed array holds, as those of quantized
   *   tensors (see `dequantize`).
   *
   * @example
   * const values = Tensor.from([1, 2]).toTypedArray();
   * values[0] = 3; // a Float32Array
   */
  toTypedArray(): TypedArrayOf<Name> {
    return this.#call((tensor) => tensor.toTypedArray()) as TypedArrayOf<Name>;
  }

  /**
   * @internal Writes the elements, converted to float32, to an array of as many: an array of `toTypedArray` holds the whole
   * memory that the tensor lies in until it is collected.
   */
  copyTo(target: Float32Array): void {
    this.#call((tensor) => tensor.copyTo(target));
  }

  /**
   * The elements as nested arrays, one level for each dimension; the element itself of a tensor without dimensions. int64 and
   * uint64 give bigints, bool booleans, complex types pairs of the real and the imaginary part, every other type numbers, half
   * types too. `Tensor.from` makes the same tensor of it again, where `dtype` is named for types other than float32, int64 and
   * bool.
   *
   * A copy, about ten times as large as the tensor: for looking at small ones. Blocks as `toTypedArray` does.
   *
   * @returns The nested arrays, or the element.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for more than 2²⁵ elements and rows; otherwise as `toTypedArray`.
   *
   * @example
   * const rows = Tensor.from(Float32Array.of(1, 2, 3, 4), { shape: [2, 2] }).toArray() as number[][];
   * console.log(rows[1]?.[0]); // 3
   */
  toArray(): NestedElements<ElementOf<Name>> {
    return nestedElements(this) as NestedElements<ElementOf<Name>>;
  }

  /**
   * What `JSON.stringify` writes of it: dtype, shape and elements, for small tensors.
   *
   * @returns A plain object that `JSON.parse` gives back, which `Tensor.from` takes apart: see `TensorJson`.
   * @throws TorchError as `toArray`.
   *
   * @example
   * console.log(JSON.stringify(Tensor.from([[1, 2]]))); // {"dtype":"float32","shape":[1,2],"data":[[1,2]]}
   */
  toJSON(): TensorJson<Name> {
    const { dtype, shape } = this;
    return { dtype, shape, data: jsonOf(this.toArray()) };
  }

  /**
   * The text that `console.log` shows.
   *
   * @returns Shape, dtype, device and the first elements, on several lines where they need them.
   * @throws Nothing: a disposed tensor says that it is.
   *
   * @example
   * const text = `${Tensor.from([1, 2])}`; // Tensor { shape: [ 2 ], dtype: 'float32', device: 'cpu', values: [ 1, 2 ] }
   */
  toString(): string {
    return inspect(this);
  }

  /**
   * Like `toTypedArray`, without blocking the event loop while a GPU copies.
   *
   * @returns What `toTypedArray` returns.
   * @throws TorchError as `toTypedArray`.
   *
   * @example
   * const values = await weights.data();
   */
  async data(): Promise<TypedArrayOf<Name>> {
    try {
      return adopt(await this.#native.data()) as TypedArrayOf<Name>;
    } catch (error) {
      throw fromNative(error);
    }
  }

  /**
   * This tensor on another device or with another element type; the same memory where neither changes. Blocks while a GPU
   * copies to the CPU. A complex type made real loses its imaginary parts, as in PyTorch, which the process is warned of once.
   *
   * @param options `device` and `dtype`; what is left out stays.
   * @returns The tensor, differentiable where this one is.
   * @throws TorchError `ERR_DEVICE_UNAVAILABLE`, `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * const half = weights.to({ device: 'cpu', dtype: 'float16' });
   */
  to<To extends DType = Name>(options: { device?: Device; dtype?: To }): Tensor<To> {
    const { device, dtype } = checkOptions(options, ['device', 'dtype'], 'the options of to()');
    optionalString(device, 'options.device');
    checkDType(dtype, 'options.dtype');
    if (dtype !== undefined) {
      const from: string = this.dtype;
      if (isQuantized(from)) {
        throw new TorchError(
          'ERR_INVALID_ARGUMENT',
          `Expected a tensor that isn't quantized for to({ dtype }) but received one of ${from}: convert what its dequantize() gives`,
        );
      }
      warnOfImaginaryParts(from, dtype);
    }
    return new Tensor<To>(this.#call((tensor) => tensor.to(device, dtype)));
  }

  /**
   * The numbers that the elements of a quantized tensor stand for, (q - zero point) · scale, as float32: with one scale, or one
   * for each channel. Other tensors as float32.
   *
   * @returns A tensor of the same shape.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for types that PyTorch doesn't dequantize, `ERR_DISPOSED`.
   *
   * @example
   * model.registerForwardHook('encoder', (module, input, output) => {
   *   const values = (output as Tensor).dequantize().toTypedArray(); // a Float32Array
   *   console.log(values[0]);
   * });
   */
  dequantize(): Tensor<'float32'> {
    return this.#apply('dequantize');
  }

  /**
   * Whether gradients are computed for it. Setting it is PyTorch's `requires_grad_()`: asks for gradients of a leaf of
   * floating-point type.
   *
   * @throws TorchError When set: `ERR_INVALID_ARGUMENT` for a tensor that is no leaf or not of floating-point type.
   *
   * @example
   * const x = Tensor.from([1, 2, 3]);
   * x.requiresGrad = true;
   */
  get requiresGrad(): boolean {
    return this.#call((tensor) => tensor.requiresGrad());
  }

  set requiresGrad(value: boolean) {
    if (typeof value !== 'boolean') throw invalid('a boolean', 'requiresGrad', value);
    this.#call((tensor) => tensor.setRequiresGrad(value));
  }

  /**
   * The gradient that `backward` has added up in a leaf; null before, and for tensors that aren't leaves. The tensor is the
   * leaf's own: it changes with the next `backward`.
   *
   * @example
   * const x = Tensor.from([1, 2, 3]);
   * x.requiresGrad = true;
   * await x.mul(x).sum().backward();
   * console.log(x.grad?.toArray()); // [2, 4, 6]
   */
  get grad(): Tensor<Name> | null {
    const gradient = this.#call((tensor) => tensor.grad());
    return gradient && new Tensor<Name>(gradient);
  }

  /**
   * Adds the gradients of this tensor to those of the leaves it was computed from. Runs on a thread of the addon's own; full
   * backward hooks fire in it.
   *
   * One that is stopped, by the signal, a limit or a hook, has added to some leaves and not to others, and its graph can't be
   * used again. A hook that never settles holds it up until it is stopped.
   *
   * @param gradient What is known of this tensor's own gradient, of its shape. Default: 1, for a tensor of one element.
   * @param options What ends it early: default nothing.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where there is nothing to differentiate, also a second time (libtorch frees the
   *   graph); `ERR_HOOK_FAILED`, `ERR_TIME_LIMIT`, `ERR_MEMORY_LIMIT`, `ERR_DISPOSED`; the signal's reason where it was aborted.
   *
   * @example
   * const logits = (await model.forward([ids], { grad: true })) as Tensor;
   * await logits.select(-1, 0).sum().backward(undefined, { timeLimit: 10_000 });
   */
  async backward(gradient?: Tensor, options?: RunLimits): Promise<void> {
    const handle = gradient === undefined ? undefined : handleOf(gradient, 'gradient');
    const stop = stopOf(checkOptions(options, RUN_LIMITS, 'the options of backward'));
    await cancellable(stop, (cancellation) => this.#native.backward(handle, cancellation));
  }

  /**
   * Slice `index` of dimension `dim`, which disappears. A view: no elements are copied. `index` may be negative.
   *
   * @param dim The dimension, from -rank to rank - 1; negative ones count from the last.
   * @param index From -size to size - 1 of the dimension.
   * @returns A tensor with a dimension less, on the same memory.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * const firstHead = weights.select(1, 0); // [B, Q, K] of [B, H, Q, K]
   */
  select(dim: number, index: number): Tensor<Name> {
    return this.#apply<Name>('select', integer(dim, 'dim'), integer(index, 'index'));
  }

  /**
   * `length` elements (at least 0) of dimension `dim` from `start` on. A view: no elements are copied.
   *
   * @param dim The dimension, from -rank to rank - 1; negative ones count from the last.
   * @param start The first element, from -size to size of the dimension.
   * @param length At least 0; with `start`, at most the size of the dimension.
   * @returns A tensor of as many dimensions, on the same memory.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * const firstQueries = weights.narrow(-2, 0, 4);
   */
  narrow(dim: number, start: number, length: number): Tensor<Name> {
    return this.#apply<Name>('narrow', integer(dim, 'dim'), integer(start, 'start'), integer(length, 'length', 0));
  }

  /**
   * The same elements in another shape; one size may be -1, and is worked out. A view where possible, else a copy.
   *
   * @param shape Sizes of the dimensions, at most 64; their product is the number of elements.
   * @returns The tensor in that shape.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * const rows = weights.reshape([-1, weights.shape.at(-1) ?? 0]);
   */
  reshape(shape: readonly number[]): Tensor<Name> {
    return this.#apply<Name>('reshape', sizesOf(shape, 'shape', -1));
  }

  /**
   * Dimensions `a` and `b` swapped. A view: no elements are copied.
   *
   * @param a The dimension, from -rank to rank - 1; negative ones count from the last.
   * @param b The other one.
   * @returns A tensor on the same memory.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * const byKeys = weights.transpose(-2, -1);
   */
  transpose(a: number, b: number): Tensor<Name> {
    return this.#apply<Name>('transpose', integer(a, 'a'), integer(b, 'b'));
  }

  /**
   * Sum over all elements, or over `dim`, which disappears.
   *
   * @param dim The dimension, from -rank to rank - 1; negative ones count from the last. Default: all of them.
   * @returns Of the same type where that is of floating-point or complex type, else int64.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * const received = weights.sum(-2); // by key
   */
  sum(dim?: number): Tensor<SumOf<Name>> {
    return this.#apply('sum', dim === undefined ? undefined : integer(dim, 'dim'));
  }

  /**
   * Mean over all elements, or over `dim`, which disappears. Of floating-point types.
   *
   * @param dim The dimension, from -rank to rank - 1; negative ones count from the last. Default: all of them.
   * @returns Of the same type.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, also for other types; `ERR_DISPOSED`.
   *
   * @example
   * const overHeads = weights.mean(1);
   */
  mean(dim?: number): Tensor<Name> {
    return this.#apply<Name>('mean', dim === undefined ? undefined : integer(dim, 'dim'));
  }

  /**
   * exp(x) / Σ exp(x) along `dim`. Of floating-point types.
   *
   * @param dim The dimension, from -rank to rank - 1; negative ones count from the last.
   * @returns Of the same shape and type; sums to 1 along `dim`.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, also for other types; `ERR_DISPOSED`.
   *
   * @example
   * const probabilities = Tensor.from([1, 2, 3]).softmax(-1);
   */
  softmax(dim: number): Tensor<Name> {
    return this.#apply<Name>('softmax', integer(dim, 'dim'));
  }

  /**
   * Index of the largest element along `dim` (int64), or among all elements in row-major order; an error where there are none.
   *
   * @param dim The dimension, from -rank to rank - 1; negative ones count from the last. Default: all of them, as one
   *   row.
   * @returns int64, without `dim`; a scalar for all elements.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, also where there are no elements; `ERR_DISPOSED`.
   *
   * @example
   * const strongestKey = weights.argmax(-1); // int64 [B, H, Q]
   */
  argmax(dim?: number): Tensor<'int64'> {
    return this.#apply('argmax', dim === undefined ? undefined : integer(dim, 'dim'));
  }

  /**
   * Element-wise sum with a tensor whose shape broadcasts with this one's, or with a number.
   *
   * @param x A number, or a tensor on the same device.
   * @returns Of the shape that both broadcast to, and the type that PyTorch promotes both to.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, also where the result wouldn't fit into the memory that is free;
   *   `ERR_DISPOSED`.
   *
   * @example
   * const shifted = Tensor.from([1, 2, 3]).add(0.5);
   */
  add(x: number): Tensor<WithNumber<Name>>;
  add<Other extends DType>(x: Tensor<Other>): Tensor<ResultOf<Name, Other>>;
  add(x: Tensor | number): Tensor;
  add(x: Tensor | number): Tensor {
    return this.#apply('add', this.#operand(x));
  }

  /**
   * Element-wise product with a tensor whose shape broadcasts with this one's, or with a number.
   *
   * @param x A number, or a tensor on the same device.
   * @returns Of the shape that both broadcast to, and the type that PyTorch promotes both to.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, also where the result wouldn't fit into the memory that is free;
   *   `ERR_DISPOSED`.
   *
   * @example
   * const scaled = Tensor.from([[1, 2], [3, 4]]).mul(Tensor.from([10, 100]));
   */
  mul(x: number): Tensor<WithNumber<Name>>;
  mul<Other extends DType>(x: Tensor<Other>): Tensor<ResultOf<Name, Other>>;
  mul(x: Tensor | number): Tensor;
  mul(x: Tensor | number): Tensor {
    return this.#apply('mul', this.#operand(x));
  }

  /**
   * The value of a tensor with one element: a bigint for int64 and uint64, a boolean for bool, the real and the imaginary part
   * for complex types, else a number. Blocks while a GPU copies.
   *
   * @returns The element.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for a tensor of another number of elements, `ERR_DISPOSED`.
   *
   * @example
   * const token = Number(Tensor.from([0.1, 0.9]).argmax().item()); // 1
   */
  item(): ElementOf<Name> {
    return this.#call((tensor) => tensor.item()) as ElementOf<Name>;
  }

  /**
   * Frees the tensor's memory now, unless something else uses it: a view, a typed array, a run. May be called twice; every
   * other use then throws `ERR_DISPOSED`.
   *
   * @throws Nothing.
   *
   * @example
   * for await (const { weights } of model.captureAttentionStream([ids])) {
   *   console.log(weights.shape);
   *   weights.dispose();
   * }
   */
  dispose(): void {
    this.#native.dispose();
  }

  /**
   * What `using` calls: `dispose()`.
   *
   * @throws Nothing.
   *
   * @example
   * using total = weights.sum();
   */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal What `console.log` and `util.inspect` show of it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return inspectTensor(this, depth, options);
  }

  /** @internal */
  static handle(tensor: Tensor): NativeTensor {
    return tensor.#native;
  }

  /** What is added to this tensor or multiplied by it, where the result has room. */
  #operand(x: Tensor | number): NativeTensor | number {
    if (typeof x === 'number') return x;
    const handle = handleOf(x, 'x');
    const [a, b] = [this.shape, x.shape];
    const rank = Math.max(a.length, b.length);
    const sizes = Array.from({ length: rank }, (_, i) => Math.max(a.at(i - rank) ?? 1, b.at(i - rank) ?? 1));
    checkRoom(elementCount(sizes) * 4, () => `operands that broadcast to shape [${sizes.join(', ')}]`);
    return handle;
  }

  #call<Result>(call: (tensor: NativeTensor) => Result): Result {
    try {
      return adopt(call(this.#native));
    } catch (error) {
      throw fromNative(error);
    }
  }

  #apply<Result extends DType>(operation: string, ...args: unknown[]): Tensor<Result> {
    try {
      return new Tensor<Result>(this.#call((tensor) => tensor.apply(operation, ...args)));
    } catch (error) {
      throw withoutKernel(error, operation);
    }
  }
}

/** Says of an operation that libtorch has no kernel for a type what would do; any other error as it is. */
function withoutKernel(error: unknown, operation: string): unknown {
  const [, kernel, type] =
    (error instanceof TorchError && /^"(\w+)" not implemented for '(\w+)'/.exec(error.message)) || [];
  if (kernel === undefined) return error;
  return new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected a type that PyTorch has ${operation}() for but received ${type}: convert the tensor with to({ dtype }) first ` +
      `("${kernel}" not implemented for '${type}')`,
    { cause: error },
  );
}

let warned = false;

/** Warns, once, where a conversion drops imaginary parts: PyTorch's own warning goes to stderr alone. */
function warnOfImaginaryParts(from: string, to: DType): void {
  if (warned || !isDType(from) || infoOf(from).kind !== 'complex' || /^(complex|bool)/.test(to)) return;
  warned = true;
  process.emitWarning(`${from} converted to ${to} loses its imaginary parts: toArray() and toTypedArray() give both`, {
    code: 'LTA_IMAGINARY_PARTS',
  });
}

/** The native side of a tensor, for the layers that pass it on. */
export function handleOf(value: unknown, what: string): NativeTensor {
  if (!Tensor.is(value)) throw invalid('a Tensor', what, value);
  const handle = Tensor.handle(value);
  if (handle.isDisposed()) {
    throw new TorchError('ERR_DISPOSED', `Expected a live tensor for ${what} but received one that was disposed`);
  }
  return handle;
}

/** A tensor made by the addon, as users get it. */
export function fromHandle<Name extends DType = DType>(handle: NativeTensor): Tensor<Name> {
  return Tensor.of(handle) as Tensor<Name>;
}

/** Whether a value that the addon gave is one of its tensors. */
export function isHandle(value: unknown): value is NativeTensor {
  return value instanceof binding().NativeTensor;
}
