import type { ViewDataAttention } from '../view-data';
import { alike } from './difference';
import type { Matrix } from './matrix';

/** Of longer sequences so many queries are looked at, evenly from all. */
const MOST_ROWS = 512;

/**
 * The Jensen–Shannon distance of two heads, the mean over their queries: 0 for the same weights, 1 where no query looks at
 * the same keys in both. Where the page has pictures, of the rows of those; NaN where no row of both has any weight.
 */
export function distanceOf(
  first: Matrix,
  second: Matrix,
  { rows, columns }: ViewDataAttention,
  shown: ViewDataAttention['shown'],
): number {
  const [a, b] = alike(first, second);
  const [top, bottom] = cellsOf(shown.rows, rows, a.rows);
  const part = cellsOf(shown.columns, columns, a.columns);
  const stride = Math.max(1, (bottom - top) / MOST_ROWS);
  let sum = 0;
  let known = 0;
  for (let at = top; at < bottom; at += stride) {
    const row = Math.floor(at);
    const distance = rowDistance(sharesOf(a, row, part), sharesOf(b, row, part));
    if (Number.isNaN(distance)) continue;
    sum += distance;
    known++;
  }
  return known ? sum / known : Number.NaN;
}

/** The cells of a picture in which rows (or columns) lie: [from, to). */
function cellsOf([from, to]: [number, number], length: number, cells: number): [number, number] {
  return [Math.floor((from * cells) / length), Math.ceil((to * cells) / length)];
}

/** A row as shares of its sum. */
function sharesOf(matrix: Matrix, row: number, [from, to]: [number, number]): Float64Array {
  const values = new Float64Array(to - from);
  const start = row * matrix.columns + from;
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    const value = Math.abs(matrix.value(start + i));
    values[i] = value;
    sum += value;
  }
  for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) / sum;
  return values;
}

/** The square root of the divergence in bits. */
function rowDistance(p: Float64Array, q: Float64Array): number {
  let divergence = 0;
  for (let i = 0; i < p.length; i++) {
    const [x, y] = [p[i] as number, q[i] as number];
    const mean = (x + y) / 2;
    if (x > 0) divergence += 0.5 * x * Math.log2(x / mean);
    if (y > 0) divergence += 0.5 * y * Math.log2(y / mean);
    if (Number.isNaN(mean)) return Number.NaN;
  }
  return Math.sqrt(Math.max(0, divergence));
}
