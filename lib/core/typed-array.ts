import { isSharedArrayBuffer, isTypedArray } from 'node:util/types';

// Typed arrays as they are, whatever a subclass, a prototype or another realm makes of their properties.

const prototype = Object.getPrototypeOf(Uint8Array.prototype) as object;

function getter<Result>(name: string | symbol): (array: object) => Result {
  const get = Object.getOwnPropertyDescriptor(prototype, name)?.get as (this: object) => Result;
  return (array) => get.call(array);
}

const nameOf = getter<string>(Symbol.toStringTag);
const bufferOf = getter<ArrayBufferLike>('buffer');
const byteOffsetOf = getter<number>('byteOffset');
const byteLengthOf = getter<number>('byteLength');

/** What a typed array is at one moment. */
export interface TypedArrayInfo {
  /** The name of its class: `'Float32Array'`. */
  name: string;
  /** Its memory: a view of our own, which has the length that the array had when it was made. */
  bytes: Uint8Array;
  buffer: ArrayBufferLike;
  shared: boolean;
}

/**
 * Looks at a typed array; undefined for what is none. Code of the caller's that runs afterwards may shrink or detach its
 * buffer: `bytes` then has length 0.
 *
 * @throws TypeError where its buffer is detached.
 */
export function typedArrayInfo(value: unknown): TypedArrayInfo | undefined {
  if (!isTypedArray(value)) return undefined;
  const buffer = bufferOf(value);
  const bytes = new Uint8Array(buffer, byteOffsetOf(value), byteLengthOf(value));
  return { name: nameOf(value), bytes, buffer, shared: isSharedArrayBuffer(buffer) };
}
