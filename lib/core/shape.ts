/** The number of elements of a shape; 1 for a scalar's. No safe integer (perhaps infinite) where that is too large for one. */
export function elementCount(shape: readonly number[]): number {
  return shape.includes(0) ? 0 : shape.reduce((count, size) => count * size, 1);
}

/** The most dimensions of a tensor: libtorch's kernels take no more. */
export const MAX_DIMENSIONS = 64;

export function isShape(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.length <= MAX_DIMENSIONS &&
    value.every((size) => Number.isSafeInteger(size) && size >= 0)
  );
}
