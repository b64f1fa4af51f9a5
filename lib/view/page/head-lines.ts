import type { ViewDataAttention } from '../view-data';
import type { HeadData } from './store';

/** Lines that a browser draws without being asked to wait. */
const MOST_DRAWN = 6000;

/** A weight as a line between its query and its key. */
export interface HeadLine {
  row: number;
  column: number;
  /** Its size. */
  weight: number;
  negative: boolean;
  /** Which of the heads that are drawn. */
  head: number;
}

export interface HeadLines {
  /** Weakest first. */
  lines: HeadLine[];
  /** How many weights there are, how many reach the threshold, and which share of all weight the lines have. */
  cells: number;
  found: number;
  share: number;
  /** Whether of each query the strongest keys alone are known. */
  pooled: boolean;
}

/** The weights of heads that reach a threshold, the strongest where those are too many. */
export function headLines(
  heads: readonly Pick<HeadData, 'matrix' | 'pooled' | 'top'>[],
  attention: Pick<ViewDataAttention, 'columns' | 'capturedTopK' | 'signed'>,
  shown: ViewDataAttention['shown'],
  threshold: number,
): HeadLines {
  const lines: HeadLine[] = [];
  let weight = 0;
  let all = 0;
  let cells = 0;
  for (const [head, { matrix, pooled, top }] of heads.entries()) {
    const add = (row: number, column: number, value: number) => {
      const size = Math.abs(value);
      all += size;
      if (size < threshold) return;
      weight += size;
      lines.push({ row, column, weight: size, negative: value < 0, head });
    };
    const values = matrix.floats ? undefined : matrix.values();
    for (let row = shown.rows[0]; row < shown.rows[1]; row++) {
      cells += shown.columns[1] - shown.columns[0];
      if (pooled) {
        for (const { key, weight: value } of top.row(row)) add(row, key, value);
        continue;
      }
      const start = row * attention.columns;
      for (let column = shown.columns[0]; column < shown.columns[1]; column++) {
        const i = start + column;
        const value = values ? (values[matrix.codes[i] as number] as number) : matrix.value(i);
        if (value !== 0 && !Number.isNaN(value)) add(row, column, value);
      }
    }
    // Of a picture only the strongest are known, but that rows sum to 1 is known too.
    if (pooled && !attention.capturedTopK && !attention.signed)
      all = Math.max(all, (head + 1) * (shown.rows[1] - shown.rows[0]));
  }
  const found = lines.length;
  lines.sort((a, b) => a.weight - b.weight);
  if (found > MOST_DRAWN) {
    lines.splice(0, found - MOST_DRAWN);
    weight = lines.reduce((sum, line) => sum + line.weight, 0);
  }
  return { lines, cells, found, share: all > 0 ? weight / all : 0, pooled: heads.some(({ pooled }) => pooled) };
}
