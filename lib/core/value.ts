import { isMap } from 'node:util/types';
import { binding } from './binding';
import { TorchError } from './errors';
import { adoptOne } from './realm';
import { isObjectHandle, ScriptObject } from './script-object';
import { fromHandle, isHandle, Tensor } from './tensor';
import { integer, invalid, isPlainObject, MAX_ELEMENTS, reading, shortened } from './validate';

/**
 * The key of a dictionary in a Map. All of one dictionary are of the same type.
 *
 * @example
 * const scales = new Map<DictionaryKey, Value>([[1, 0.5], ['all', 2]]);
 */
export type DictionaryKey = string | number | bigint | boolean | Tensor | ScriptObject;

/**
 * What models take and give.
 *
 * | TorchScript | JavaScript |
 * | --- | --- |
 * | `Tensor` | `Tensor` |
 * | `int`, `float`, `number` | `number`; an int beyond 2⁵³ is a `bigint`, which is taken for any int |
 * | `bool`, `str` | `boolean`, `string` |
 * | `None` | `null`; `undefined` is taken too, and leaves out a parameter that has a default |
 * | `List`, `Tuple` | array; the fields of a named tuple are properties of its array as well |
 * | `Dict` of `str`, `int`, `float` or `Device` keys | plain object, with other keys by their text; a `Map` is taken too |
 * | `Dict` of `bool`, `Tensor` or `complex` keys | `Map` |
 * | objects of TorchScript classes, `complex` | `ScriptObject`, to be passed on unchanged |
 *
 * Anything else (a `Date`, an instance of a class, a promise, a typed array that no tensor was made of …) is refused with
 * `ERR_INVALID_ARGUMENT`, which says where it stands. Values are nested at most 128 deep.
 *
 * @example
 * const inputs: Value[] = [Tensor.from([[101n, 102n]]), { scale: 2, names: ['a', 'b'] }, new Map([[7, null]])];
 */
export type Value =
  | Tensor
  | ScriptObject
  | number
  | bigint
  | boolean
  | string
  | null
  | undefined
  | Value[]
  | Map<DictionaryKey, Value>
  | { [key: string]: Value };

/** What a value may be where it is none of its parts yet, for errors. */
const VALUES = 'a Tensor, number, bigint, boolean, string, null, array, plain object, Map or ScriptObject';

/** What reading a container costs of all that may be read; an element costs one. */
const CONTAINER = 64;

/** Marks an array of pairs [key, value], which stands for a Map on the way to the addon and back. The addon has the same. */
export const PAIRS = Symbol.for('libtorch-attention.pairs');

/** Reads a value of a caller's, each part of it once, into arrays and objects of our own. */
class ValueReader {
  readonly #deepest = binding().maximumDepth;
  #left = MAX_ELEMENTS;
  /** Where what is read stands in the value: positions in arrays, keys of the rest. */
  readonly #path: (number | string)[] = [];
  readonly #what: string;

  /** @param what What the whole is, for errors: `'inputs[0]'`. */
  constructor(what: string) {
    this.#what = what;
  }

  /** Where what is read stands: `inputs[0].when`. */
  #place(): string {
    const steps = this.#path.map((step) =>
      typeof step === 'number' ? `[${step}]` : /^[A-Za-z_$][\w$]*$/.test(step) ? `.${step}` : `['${shortened(step)}']`,
    );
    return this.#what + steps.join('');
  }

  /** The key of a dictionary. */
  #keyOf(key: unknown): unknown {
    if (['string', 'number', 'bigint', 'boolean'].includes(typeof key)) return key;
    if (Tensor.is(key)) return Tensor.handle(key);
    if (ScriptObject.is(key)) return ScriptObject.handle(key);
    throw invalid('a string, number, bigint, boolean, Tensor or ScriptObject', `a key of ${this.#place()}`, key);
  }

  /** A dictionary whose keys aren't strings, for the addon: its pairs, marked. */
  #pairs(entries: [unknown, unknown][]): unknown {
    const pairs = entries.map(([key, value]) => {
      const step = typeof key === 'object' ? '(a key)' : String(key);
      return [this.#keyOf(key), this.#readAt(step, value)];
    });
    return Object.defineProperty(pairs, PAIRS, { value: true });
  }

  /** Reads what stands in the value at a position or under a key. */
  #readAt(step: number | string, value: unknown): unknown {
    this.#path.push(step);
    const read = this.read(value);
    this.#path.pop();
    return read;
  }

  read(value: unknown): unknown {
    if (value === null || typeof value !== 'object') return value;
    if (Tensor.is(value)) return Tensor.handle(value);
    if (ScriptObject.is(value)) return ScriptObject.handle(value);
    if (ArrayBuffer.isView(value)) return value; // refused by the addon, with the parameter's name
    if (this.#path.length >= this.#deepest) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected values nested at most ${this.#deepest} deep but received deeper ones, or one that contains itself`,
      );
    }
    if (Array.isArray(value)) {
      const length: unknown = value.length;
      const count = integer(length, 'the length of an array', 0);
      this.#take(count);
      const list: unknown[] = [];
      for (let i = 0; i < count; ++i) list.push(this.#readAt(i, value[i]));
      return list;
    }
    const entries: [unknown, unknown][] = [];
    if (isMap(value)) Map.prototype.forEach.call(value, (each, key) => entries.push([key, each]));
    else if (isPlainObject(value)) for (const key of Object.keys(value)) entries.push([key, value[key]]);
    else throw invalid(VALUES, this.#place(), value);
    this.#take(entries.length);
    if (entries.some(([key]) => typeof key !== 'string')) return this.#pairs(entries);
    return Object.fromEntries(entries.map(([key, each]) => [key, this.#readAt(key as string, each)]));
  }

  #take(elements: number): void {
    this.#left -= CONTAINER + elements;
    if (this.#left >= 0) return;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected values of at most ${MAX_ELEMENTS} elements in all but received more (an array counts ${CONTAINER}, and what ` +
        'stands in several places in each of them)',
    );
  }
}

/**
 * A value for the addon: tensors replaced by their native side.
 *
 * @param what What it is, for errors: `'inputs[0]'`.
 */
export function toNative(value: unknown, what: string): unknown {
  if (value === null || typeof value !== 'object') return value;
  if (Tensor.is(value)) return Tensor.handle(value);
  return reading(what, () => new ValueReader(what).read(value));
}

/** A value of the addon, as users get it. Arrays and objects are filled in place: they were made for this call. */
export function fromNativeValue(value: unknown): Value {
  if (value === null || typeof value !== 'object') return value as Value;
  if (isHandle(value)) return fromHandle(value);
  adoptOne(value);
  if (Array.isArray(value)) {
    if (Object.hasOwn(value, PAIRS)) {
      const pairs = value as [unknown, unknown][];
      return new Map(pairs.map(([key, each]) => [fromNativeValue(key) as DictionaryKey, fromNativeValue(each)]));
    }
    const array: unknown[] = value;
    // Only a named tuple has more than its elements.
    if (Object.keys(array).length === array.length) {
      for (let i = 0; i < array.length; ++i) array[i] = fromNativeValue(array[i]);
      return array as Value[];
    }
  }
  if (isObjectHandle(value)) return ScriptObject.of(value);
  const container = value as Record<string, unknown>;
  // The fields of a named tuple name elements of its array: each tensor is to have one wrapper under both.
  const wrapped = new Map<unknown, Value>();
  for (const key of Object.keys(container)) {
    const element = container[key];
    let result = wrapped.get(element);
    if (result === undefined) {
      result = fromNativeValue(element);
      if (element !== null && typeof element === 'object') wrapped.set(element, result);
    }
    Object.defineProperty(container, key, { value: result, writable: true, enumerable: true, configurable: true });
  }
  return container as Value;
}
