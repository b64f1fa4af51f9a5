import { ABSENT, ABSENT_BITS, MASKED, MASKED_BITS } from '../weight-code';
import { Matrix } from './matrix';

export interface Difference {
  /** A minus B, cell by cell; of pictures, of the largest weights that their cells stand for. */
  matrix: Matrix;
  /** The largest size of a difference. */
  largest: number;
}

/** Two matrices of one attention's size, at the resolution that both are there in. */
export function alike(a: Matrix, b: Matrix): [Matrix, Matrix] {
  const rows = Math.min(a.rows, b.rows);
  const columns = Math.min(a.columns, b.columns);
  return [a.pooledTo(rows, columns), b.pooledTo(rows, columns)];
}

/** How two heads of the same rows and columns differ. */
export function differenceOf(first: Matrix, second: Matrix): Difference {
  const [a, b] = alike(first, second);
  const values = new Float32Array(a.rows * a.columns);
  const bits = new Uint32Array(values.buffer);
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    const [x, y] = [a.codes[i], b.codes[i]];
    if (x === ABSENT || y === ABSENT) {
      bits[i] = ABSENT_BITS;
    } else if (x === MASKED && y === MASKED) {
      bits[i] = MASKED_BITS;
    } else {
      const difference = a.value(i) - b.value(i);
      values[i] = difference;
      const size = Math.abs(difference);
      if (size > largest) largest = size;
    }
  }
  return { matrix: Matrix.fromFloats(a.rows, a.columns, values, { scale: largest || 1, signed: true }), largest };
}
