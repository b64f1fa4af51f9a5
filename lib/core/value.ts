import { isMap } from 'node:util/types';
import { binding } from './binding';
import { TorchError } from './errors';
import { isObjectHandle, ScriptObject } from './script-object';
import { fromHandle, isHandle, Tensor } from './tensor';
import { integer, invalid, MAX_ELEMENTS, reading } from './validate';

/**
 * What models take and give: lists and tuples are arrays, dictionaries objects (Maps are taken too), None is null. What
 * JavaScript has no form for (objects of TorchScript classes, complex numbers) is a `ScriptObject`, which can be passed on
 * unchanged.
 */
export type Value = Tensor | number | bigint | boolean | string | null | undefined | Value[] | { [key: string]: Value };

/** The key of a dictionary by its text, as it stands in objects. */
function keyOf(key: unknown): string {
  if (['string', 'number', 'bigint', 'boolean'].includes(typeof key)) return String(key);
  throw invalid('a string, number, bigint or boolean', 'a key of a Map', key);
}

/** What reading a container costs of all that may be read; an element costs one. */
const CONTAINER = 64;

/** Reads a value of a caller's, each part of it once, into arrays and objects of our own. */
class ValueReader {
  readonly #deepest = binding().maximumDepth;
  #left = MAX_ELEMENTS;

  read(value: unknown, depth: number): unknown {
    if (value === null || typeof value !== 'object') return value;
    if (Tensor.is(value)) return Tensor.handle(value);
    if (ScriptObject.is(value)) return ScriptObject.handle(value);
    if (ArrayBuffer.isView(value)) return value; // refused by the addon, with the parameter's name
    if (depth >= this.#deepest) {
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
      for (let i = 0; i < count; ++i) list.push(this.read(value[i], depth + 1));
      return list;
    }
    const pairs: [string, unknown][] = [];
    if (isMap(value)) Map.prototype.forEach.call(value, (each, key) => pairs.push([keyOf(key), each]));
    else for (const key of Object.keys(value)) pairs.push([key, (value as Record<string, unknown>)[key]]);
    this.#take(pairs.length);
    for (const pair of pairs) pair[1] = this.read(pair[1], depth + 1);
    return Object.fromEntries(pairs);
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

/** A value for the addon: tensors replaced by their native side. */
export function toNative(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value;
  if (Tensor.is(value)) return Tensor.handle(value);
  return reading('a value', () => new ValueReader().read(value, 0));
}

/** A value of the addon, as users get it. Arrays and objects are filled in place: they were made for this call. */
export function fromNativeValue(value: unknown): Value {
  if (value === null || typeof value !== 'object') return value as Value;
  if (isHandle(value)) return fromHandle(value);
  if (Array.isArray(value)) {
    const array: unknown[] = value;
    // Only a named tuple has more than its elements.
    if (Object.keys(array).length === array.length) {
      for (let i = 0; i < array.length; ++i) array[i] = fromNativeValue(array[i]);
      return array as Value[];
    }
  }
  if (isObjectHandle(value)) return new ScriptObject(value) as unknown as Value;
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
