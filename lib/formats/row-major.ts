import { elementCount } from '../core/shape';

/**
 * The elements of a strided tensor in row-major order: what `shape` and `strides` (in elements) show of `bytes`, beginning
 * with element `offset`.
 */
export function rowMajor(
  bytes: Uint8Array,
  size: number,
  shape: readonly number[],
  strides: readonly number[],
  offset = 0,
): Uint8Array<ArrayBuffer> {
  const count = elementCount(shape);
  const elements = new Uint8Array(count * size);
  const index = new Array<number>(shape.length).fill(0);
  for (let to = 0, from = offset; to < count; to++) {
    for (let i = 0; i < size; i++) elements[to * size + i] = bytes[from * size + i] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis] as number;
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      from -= (shape[axis] as number) * (strides[axis] as number);
      index[axis] = 0;
    }
  }
  return elements;
}
