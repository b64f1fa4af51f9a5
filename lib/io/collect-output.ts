import type { Entry } from '../formats/entry';
import type { Value } from '../index';
import { toEntry } from './entry-values';
import { loadPackage } from './package';

/** The values that one holds, with their names in it: the keys of a dictionary, the fields of a named tuple. */
function heldBy(value: object): [string, Value][] {
  if (value instanceof Map) return [...value].map(([key, item]) => [String(key), item]);
  const held = Object.entries(value);
  // The fields of a named tuple name the elements of its array once more.
  return Array.isArray(value) && held.length > value.length ? held.slice(value.length) : held;
}

/**
 * The tensors of an output as entries of a file, named by their place in it. What is no tensor goes to the metadata, as
 * JSON.
 */
export function collectOutput(name: string, value: Value, entries: Entry[], metadata: Record<string, string>): void {
  if (value instanceof loadPackage().Tensor) {
    entries.push(toEntry(name, value));
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, item] of heldBy(value)) collectOutput(`${name}.${key}`, item, entries, metadata);
  } else {
    metadata[name] = JSON.stringify(value);
  }
}
