import { isMap } from 'node:util/types';
import { isObjectHandle, ScriptObject } from './script-object';
import { fromHandle, isHandle, Tensor } from './tensor';
import { invalid } from './validate';

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

/** A value for the addon: tensors replaced by their native side. */
export function toNative(value: unknown): unknown {
  if (value instanceof Tensor) return Tensor.handle(value);
  if (value instanceof ScriptObject) return ScriptObject.handle(value);
  if (Array.isArray(value)) return value.map(toNative);
  if (isMap(value)) return Object.fromEntries(Array.from(value, ([key, each]) => [keyOf(key), toNative(each)]));
  if (value !== null && typeof value === 'object' && !ArrayBuffer.isView(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, toNative(each)]));
  }
  return value;
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
