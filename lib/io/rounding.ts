import { type DType, infoOf } from '../core/dtype';
import { elementReader } from '../core/nested-elements';

/**
 * By how much results of inputs that are computed together and of single ones may differ, relative to the largest number: sums
 * are then taken in another order. What differs by more was mixed up.
 */
const TOLERANCE: Record<string, number> = {
  float16: 1e-2,
  bfloat16: 5e-2,
  float32: 1e-3,
  float64: 1e-6,
  complex64: 1e-3,
  complex128: 1e-6,
};

type Elements = ArrayLike<number | bigint>;

/**
 * The largest difference of two tensors of one type and size, relative to their largest number. Infinity where one has a number
 * and the other none, and for types without rounding where they differ at all.
 */
export function relativeDifference(dtype: DType, left: Elements, right: Elements): number {
  const { kind } = infoOf(dtype);
  const isRounded = kind === 'float' || kind === 'complex';
  const read = elementReader(dtype) as (element: number | bigint) => number;
  let largest = 0;
  let difference = 0;
  for (let i = 0; i < left.length; ++i) {
    if (left[i] === right[i]) {
      if (isRounded) largest = Math.max(largest, finite(read(left[i] as number)));
      continue;
    }
    if (!isRounded) return Number.POSITIVE_INFINITY;
    const [a, b] = [read(left[i] as number), read(right[i] as number)];
    if (Object.is(a, b)) continue; // two NaNs
    largest = Math.max(largest, finite(a));
    difference = Math.max(difference, Number.isNaN(a - b) ? Number.POSITIVE_INFINITY : Math.abs(a - b));
  }
  return difference === 0 ? 0 : difference / largest;
}

function finite(value: number): number {
  return Number.isFinite(value) ? Math.abs(value) : 0;
}

/** Whether a difference is one of rounding. */
export function isRounding(dtype: DType, difference: number): boolean {
  return difference <= (TOLERANCE[dtype] ?? 0);
}
