import { lineValues } from './head-values';
import type { Word } from './words';

/** Whether a position is asked as a query, for what it attends to, or as a key, for who attends to it. */
export type Side = 'query' | 'key';

/** What a word attends to: the mean over its pieces as queries; who attends to it: the sum over its pieces as keys. */
export function wordValues(
  data: Parameters<typeof lineValues>[0],
  attention: Parameters<typeof lineValues>[1],
  from: Side,
  word: Word,
): Float32Array {
  const sum = lineValues(data, attention, from, word.from);
  for (let i = word.from + 1; i < word.to; i++) {
    const next = lineValues(data, attention, from, i);
    for (let at = 0; at < sum.length; at++) sum[at] = (sum[at] as number) + (next[at] as number);
  }
  const count = from === 'query' ? word.to - word.from : 1;
  return count > 1 ? sum.map((value) => value / count) : sum;
}

/** The weight of a word among others: the sum over its pieces as keys, the mean over its pieces as queries. */
export function combine(values: Float32Array, word: Word, from: Side): number {
  let sum = 0;
  for (let i = word.from; i < word.to; i++) sum += values[i] as number;
  return from === 'query' ? sum : sum / (word.to - word.from);
}
