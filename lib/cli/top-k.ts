import { DTYPES } from '../core/dtype';
import type { Entry } from '../formats/entry';

/**
 * The `k` largest weights of each row, largest first (of equal ones the first), and their positions as int64: both of
 * the weights' shape with `k` (or the row's length, if that is less) as the last size. Weights are never negative, so
 * that half types compare as their bits.
 */
export function topK(weights: Entry, k: number): { weights: Entry; keys: Entry } {
  const columns = weights.shape.at(-1) as number;
  const kept = Math.min(k, columns);
  const rows = columns ? weights.data.length / columns : 0;
  const shape = [...weights.shape.slice(0, -1), kept];
  const values = new DTYPES[weights.dtype].array(rows * kept);
  const positions = new BigInt64Array(rows * kept);
  const target: Record<number, number | bigint> = values;
  for (let row = 0; row < rows; row++) {
    const at = (column: number) => Number(weights.data[row * columns + column]);
    const order = Array.from({ length: columns }, (_, column) => column).sort((a, b) => at(b) - at(a) || a - b);
    order.slice(0, kept).forEach((column, i) => {
      target[row * kept + i] = weights.data[row * columns + column] as number | bigint;
      positions[row * kept + i] = BigInt(column);
    });
  }
  return {
    weights: { ...weights, shape, data: values },
    keys: { name: `${weights.name}.keys`, dtype: 'int64', shape, data: positions },
  };
}
