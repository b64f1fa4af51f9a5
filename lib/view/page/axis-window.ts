/** One direction of a matrix in its window: where rows or columns lie, in pixels, as far as they are enlarged. */
export class AxisWindow {
  /**
   * @param first The first row or column that is shown.
   * @param count How many are shown.
   * @param length Pixels of the window.
   * @param enlarged How often the whole is enlarged.
   * @param offset Pixels from the window's edge to the first, as enlarged; at most 0.
   */
  constructor(
    readonly first: number,
    readonly count: number,
    readonly length: number,
    readonly enlarged = 1,
    readonly offset = 0,
  ) {}

  at(enlarged: number, offset: number): AxisWindow {
    return new AxisWindow(this.first, this.count, this.length, enlarged, offset);
  }

  /** Pixels of a row or column. */
  get size(): number {
    return (this.enlarged * this.length) / this.count;
  }

  /** The pixel where a row or column begins; fractions lie within it. */
  place(i: number): number {
    return this.offset + (i - this.first) * this.size;
  }

  /** The row or column at a pixel. */
  indexAt(pixel: number): number {
    return this.clamp(this.first + Math.floor((pixel - this.offset) / this.size));
  }

  clamp(i: number): number {
    return Math.max(this.first, Math.min(i, this.first + this.count - 1));
  }

  /** The rows or columns that are in sight, with fractions: [from, to). */
  get visible(): [number, number] {
    const from = this.first - this.offset / this.size;
    return [from, Math.min(this.first + this.count, from + this.length / this.size)];
  }

  /** By how many pixels a row or column lies beyond the window, 0 where it is in sight. */
  beyond(i: number): number {
    const at = this.place(i);
    if (at < 0) return at;
    return Math.max(0, at + this.size - this.length);
  }
}
