import { Tensor } from '../../dist/index.js';
import { Fault } from './outcome.mjs';

/** The 4-byte words that stand anywhere in some bytes. */
export function wordsOf(contents) {
  const words = new Set([0]);
  for (const bytes of contents) {
    let word = 0;
    for (let i = 0; i < bytes.length; i++) {
      word = ((word >>> 8) | (bytes[i] << 24)) >>> 0;
      if (i >= 3) words.add(word);
    }
  }
  return words;
}

const swapped = (word) =>
  (((word & 0xff) << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;

/**
 * Fails where an array has a word that stands nowhere in its file: it comes from other memory of the process. Elements of
 * one or two bytes are too short to tell.
 * @param words what `wordsOf` made of the file
 */
export function checkOrigin(name, array, words) {
  if (array.BYTES_PER_ELEMENT < 4) return;
  const elements = new Uint32Array(array.buffer, array.byteOffset, array.byteLength / 4);
  for (let i = 0; i < elements.length; i++) {
    const word = elements[i];
    if (words.has(word) || words.has(swapped(word))) continue;
    throw new Fault('disclosed', `word ${i} of ${name} is ${word.toString(16)}, which the file does not contain`);
  }
}

/** All tensors of a value. */
export function* tensorsIn(value, depth = 0) {
  if (value instanceof Tensor) yield value;
  else if (value !== null && typeof value === 'object' && depth < 100) {
    for (const item of Object.values(value)) yield* tensorsIn(item, depth + 1);
  }
}
