import type { ViewDataAttention } from '../view-data';
import { formatApproximate, formatWeight, percentOff } from './format';
import type { CellState } from './matrix';
import type { HeadData } from './store';

/** One weight, or the largest of a block of weights where the page has no more. */
export interface CellValue {
  state: CellState;
  weight: number;
  exact: boolean;
  /** By how much it may be off. */
  off: number;
  /** The block that the value is the largest of. */
  block?: { rows: [number, number]; columns: [number, number] };
}

/** Rows (or columns) that the i-th cell of a picture stands for: [from, to). */
export function blockOf(i: number, length: number, parts: number): [number, number] {
  return [Math.floor((i * length) / parts), Math.floor(((i + 1) * length) / parts)];
}

/** Which cell of a picture a row (or column) lies in. */
export function cellOf(position: number, length: number, parts: number): number {
  let cell = Math.floor((position * parts) / length);
  while (cell + 1 < parts && Math.floor(((cell + 1) * length) / parts) <= position) cell++;
  return cell;
}

/** The value at a row and column of an attention, as good as the page has it. */
export function cellValue(
  data: Pick<HeadData, 'matrix' | 'pooled' | 'top'>,
  attention: Pick<ViewDataAttention, 'rows' | 'columns'>,
  row: number,
  column: number,
): CellValue {
  const { matrix, pooled, top } = data;
  const { rows, columns } = attention;
  if (!pooled) {
    const i = row * columns + column;
    const state = matrix.state(i);
    const known = state === 'weight' && matrix.error > 0 ? top.row(row).find(({ key }) => key === column) : undefined;
    const exact = known !== undefined || matrix.error === 0 || state === 'zero';
    return { state, weight: known?.weight ?? matrix.value(i), exact, off: exact ? 0 : matrix.offBy(i) };
  }
  const known = top.row(row).find(({ key }) => key === column);
  if (known) return { state: 'weight', weight: known.weight, exact: true, off: 0 };
  const [y, x] = [cellOf(row, rows, matrix.rows), cellOf(column, columns, matrix.columns)];
  const i = y * matrix.columns + x;
  const block = { rows: blockOf(y, rows, matrix.rows), columns: blockOf(x, columns, matrix.columns) };
  return { state: matrix.state(i), weight: matrix.value(i), exact: false, off: matrix.offBy(i), block };
}

/** What masked cells are called. */
export function maskedName({ maybeZero }: Pick<ViewDataAttention, 'maybeZero'>): string {
  return maybeZero ? 'masked or 0' : 'masked';
}

/** The same of several attentions; undefined where none has masked cells. */
export function maskedIn(attentions: readonly ViewDataAttention[]): string | undefined {
  const names = attentions.filter(({ masked }) => masked).map(maskedName);
  return names.includes('masked') ? 'masked' : names[0];
}

/** How a value is written: exact, or with how far off it may be. */
export function describeValue(value: CellValue, attention: Pick<ViewDataAttention, 'maybeZero' | 'signed'>): string {
  return describeSum([value], 1, attention);
}

/** The same of several, added up over keys, and the mean over so many queries. */
export function describeSum(
  values: readonly CellValue[],
  queries: number,
  attention: Pick<ViewDataAttention, 'maybeZero' | 'signed'>,
): string {
  const all = (state: CellState) => values.every((value) => value.state === state);
  if (values.some(({ state }) => state === 'nan')) return 'NaN';
  if (all('masked')) return maskedName(attention);
  if (all('absent')) return 'not captured';
  let [sum, off] = [0, 0];
  for (const value of values) {
    sum += value.weight / queries;
    off += value.off / queries;
  }
  if (values.some(({ state }) => state === 'absent')) return `≥ ${formatApproximate(sum)}`;
  if (off === 0) return sum === 0 ? '0' : formatWeight(sum);
  // What is off by most of itself says only how large it may be.
  if (off > Math.abs(sum) / 2 && !attention.signed) return `below ${formatApproximate(sum + off)}`;
  if (off > Math.abs(sum) / 2) return `≈ ${formatApproximate(sum)} ± ${formatApproximate(off)}`;
  return `≈ ${formatApproximate(sum)} ± ${percentOff(off / Math.abs(sum))}`;
}

/** A row (or a column) as weights by key (or query); NaN stays, the rest that is no weight is 0. */
export function lineValues(
  data: Pick<HeadData, 'matrix' | 'pooled' | 'top'>,
  attention: Pick<ViewDataAttention, 'rows' | 'columns'>,
  from: 'query' | 'key',
  index: number,
): Float32Array {
  const { matrix, pooled, top } = data;
  const { rows, columns } = attention;
  const length = from === 'query' ? columns : rows;
  const values = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const [row, column] = from === 'query' ? [index, i] : [i, index];
    const at = pooled
      ? cellOf(row, rows, matrix.rows) * matrix.columns + cellOf(column, columns, matrix.columns)
      : row * columns + column;
    values[i] = matrix.value(at);
  }
  if (matrix.error === 0) return values;
  if (from === 'query') {
    for (const { key, weight } of top.row(index)) values[key] = weight;
  } else {
    for (let row = 0; row < rows; row++) {
      for (const { key, weight } of top.row(row)) if (key === index) values[row] = weight;
    }
  }
  return values;
}
