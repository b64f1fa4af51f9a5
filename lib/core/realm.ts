import { isTypedArray } from 'node:util/types';
import { isPlainObject } from './validate';

// The addon makes arrays, objects and typed arrays in the realm that loaded it first, whichever realm this module is in: a
// test runner gives each file a realm of its own. There they would be no instances of the Array and the Float32Array that
// the caller knows, and no strict comparison would find them equal to the caller's.

let foreign = false;

/** Notes whether what the addon makes belongs to another realm than this module. @param made Any plain object of the addon's. */
export function noteRealm(made: object): void {
  foreign = Object.getPrototypeOf(made) !== Object.prototype;
}

/** Makes one array, plain object or typed array of the addon's an instance of this realm's classes. Costs nothing where it is one. */
export function adoptOne<Made>(made: Made): Made {
  if (!foreign || made === null || typeof made !== 'object') return made;
  if (Array.isArray(made)) Object.setPrototypeOf(made, Array.prototype);
  else if (isTypedArray(made)) Object.setPrototypeOf(made, classOf(made).prototype);
  else if (isPlainObject(made)) Object.setPrototypeOf(made, Object.prototype);
  return made;
}

/** The same for all that arrays and plain objects of the addon's are made of. */
export function adopt<Made>(made: Made): Made {
  if (!foreign || made === null || typeof made !== 'object') return made;
  adoptOne(made);
  if (Array.isArray(made) || isPlainObject(made)) for (const part of Object.values(made)) adopt(part);
  return made;
}

function classOf(array: NodeJS.TypedArray): { prototype: object } {
  return (globalThis as unknown as Record<string, { prototype: object }>)[array[Symbol.toStringTag]] as {
    prototype: object;
  };
}
