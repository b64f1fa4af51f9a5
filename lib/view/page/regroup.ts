import type { ViewDataAttention, ViewDataExample } from '../view-data';
import { ABSENT, encodeWeight, TINY } from '../weight-code';
import { type AxisLabels, keyLabels, queryLabels } from './axis-labels';
import { blockOf } from './head-values';
import { Matrix } from './matrix';
import type { Selection } from './state';
import { toWords, type Word } from './words';

/** Rows (or columns) that are one: [from, to). */
type Run = Pick<Word, 'from' | 'to'>;

/** Rows and columns as they are drawn: words in place of their pieces, without special tokens. */
export interface Grouping {
  rows: Word[];
  columns: Word[];
}

/** What of a selection changes how rows and columns are drawn. */
type Wanted = Pick<Selection, 'mergeWords' | 'hideSpecial'>;

/** How the rows and columns that are shown are drawn, where that isn't one by one. */
export function groupingOf(
  example: ViewDataExample,
  attention: ViewDataAttention,
  shown: ViewDataAttention['shown'],
  { mergeWords, hideSpecial }: Wanted,
): Grouping | undefined {
  // Of the strongest keys alone the sum over a word's pieces isn't known.
  const merges = mergeWords && attention.capturedTopK === undefined;
  if (!merges && !hideSpecial) return undefined;
  const words = (labels: AxisLabels, [from, to]: [number, number]) => {
    const inside = toWords(labels, merges).filter((word) => word.from >= from && word.to <= to);
    const plain = inside.filter((word) => !(hideSpecial && labels.special.has(word.from)));
    // Of special tokens alone nothing would be left.
    return plain.length ? plain : inside;
  };
  return {
    rows: words(queryLabels(example, attention), shown.rows),
    columns: words(keyLabels(example, attention), shown.columns),
  };
}

/** Labels of words in place of those of their pieces. */
export function groupedLabels(labels: AxisLabels, words: readonly Word[]): AxisLabels {
  return {
    ...labels,
    text: words.map((word) => (word.to - word.from > 1 ? word.text : (labels.text[word.from] as string))),
    positions: words.map(({ from }) => labels.positions[from] as number),
    special: new Set(words.flatMap(({ from }, i) => (labels.special.has(from) ? [i] : []))),
  };
}

/** The word that a row or column belongs to; -1 where it isn't drawn. */
export function wordAt(words: readonly Run[], index: number): number {
  return words.findIndex(({ from, to }) => index >= from && index < to);
}

/**
 * A matrix whose rows and columns are those of runs: the sum over the keys of a run, the mean over its queries. What was off
 * stays as much off.
 */
export function regroup(matrix: Matrix, rows: readonly Run[], columns: readonly Run[]): Matrix {
  const { codes, code, scale, error } = matrix;
  const size = rows.length * columns.length;
  const grouped = new (codes.constructor as new (length: number) => typeof codes)(size);
  const values = new Float32Array(size);
  const slack = new Float32Array(size);
  // Where numbers are known, small ones are none that a code leaves open.
  const tiny = matrix.floats ? undefined : TINY;
  let at = 0;
  for (const row of rows) {
    for (const column of columns) {
      let [sum, highest] = [0, 0];
      for (let y = row.from; y < row.to; y++) {
        for (let x = column.from; x < column.to; x++) {
          const i = y * matrix.columns + x;
          sum += matrix.value(i);
          slack[at] = (slack[at] as number) + (codes[i] === tiny ? matrix.least / 2 : matrix.slack(i));
          if ((codes[i] as number) > highest) highest = codes[i] as number;
        }
      }
      const cells = (row.to - row.from) * (column.to - column.from);
      const value = sum / (row.to - row.from);
      values[at] = value;
      slack[at] = (slack[at] as number) / (row.to - row.from);
      grouped[at++] = cells === 1 || highest <= ABSENT ? highest : encodeWeight(code, value / scale);
    }
  }
  return new Matrix(rows.length, columns.length, grouped, { scale, signed: code.signed }, { values, error, slack });
}

/** The cells of a picture's rows (or columns) that stand for none of some positions. */
export function cellsWithout(
  positions: ReadonlySet<number>,
  [from, to]: [number, number],
  length: number,
  cells: number,
): Run[] {
  const kept: Run[] = [];
  for (let cell = 0; cell < cells; cell++) {
    const [first, end] = blockOf(cell, length, cells);
    if (end <= from || first >= to) continue;
    let has = false;
    for (let i = first; i < end; i++) has ||= positions.has(i);
    if (!has) kept.push({ from: cell, to: cell + 1 });
  }
  return kept.length ? kept : Array.from({ length: cells }, (_, cell) => ({ from: cell, to: cell + 1 }));
}
