type Numbers = Float64Array | Float32Array | Uint8Array | Uint16Array;

/** The first row (or column) of each of `parts` runs of nearly equal length, and the end of the last. */
export function bounds(length: number, parts: number): Uint32Array {
  return Uint32Array.from({ length: parts + 1 }, (_, i) => Math.floor((i * length) / parts));
}

/**
 * A matrix made smaller: each cell of the result is the largest of those that it stands for.
 * @param source `rows × columns`, row-major.
 * @param height Rows of the result, at most `rows`.
 * @param width Columns of the result, at most `columns`.
 */
export function maxPool<Kind extends Numbers>(
  source: Kind,
  rows: number,
  columns: number,
  height: number,
  width: number,
): Kind {
  const target = new (source.constructor as new (length: number) => Kind)(height * width);
  const across = bounds(columns, width);
  const down = bounds(rows, height);
  for (let y = 0; y < height; y++) {
    for (let row = down[y] as number; row < (down[y + 1] as number); row++) {
      const start = row * columns;
      for (let x = 0; x < width; x++) {
        const at = y * width + x;
        let largest = target[at] as number;
        const end = start + (across[x + 1] as number);
        for (let i = start + (across[x] as number); i < end; i++) {
          if ((source[i] as number) > largest) largest = source[i] as number;
        }
        target[at] = largest;
      }
    }
  }
  return target;
}

/** The size of a picture of a matrix that is at most `side` wide and high, in its proportions. */
export function pictureSize(rows: number, columns: number, side: number): { rows: number; columns: number } {
  const scale = Math.min(1, side / Math.max(rows, columns, 1));
  return { rows: Math.max(1, Math.round(rows * scale)), columns: Math.max(1, Math.round(columns * scale)) };
}
