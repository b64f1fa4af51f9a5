import type { ViewDataAttention } from '../view-data';
import { formatWeight } from './format';
import { cellValue, describeSum, lineValues } from './head-values';
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

/** The weight between the word that is asked and another one: exact, or with how far off it may be. */
export function describeWord(
  data: Parameters<typeof lineValues>[0],
  attention: ViewDataAttention,
  from: Side,
  asked: Word,
  other: Word,
): string {
  const [query, key] = from === 'query' ? [asked, other] : [other, asked];
  const cells = [];
  for (let row = query.from; row < query.to; row++)
    for (let column = key.from; column < key.to; column++) cells.push(cellValue(data, attention, row, column));
  const queries = query.to - query.from;
  // Of a picture's cell no more is known than that no weight of it is larger.
  if (cells.every(({ block }) => block === undefined)) return describeSum(cells, queries, attention);
  const sum = cells.reduce((total, { weight }) => total + weight, 0) / queries;
  return Number.isNaN(sum) || sum === 0 ? describeSum(cells, queries, attention) : `≤ ${formatWeight(sum)}`;
}
