import { maxPool, pictureSize } from '../max-pool';
import { ABSENT, decodeWeight, encodeWeight, LOG8, LOG16, MASKED, TINY, ZERO } from '../weight-code';

export type CellState = 'weight' | 'zero' | 'tiny' | 'masked' | 'absent' | 'nan';

/** Levels are made smaller by this until they fit below `SMALLEST`. */
const SHRINK = 2;
const SMALLEST = 200;

/** One head's weights, `rows × columns` as codes, exactly too where the page has them so; smaller levels on demand. */
export class Matrix {
  private readonly levels: { rows: number; columns: number; codes: Uint8Array | Uint16Array }[];

  constructor(
    readonly rows: number,
    readonly columns: number,
    readonly codes: Uint8Array | Uint16Array,
    /** What codes are shares of. */
    readonly scale: number,
    readonly exact?: Float32Array,
  ) {
    this.levels = [{ rows, columns, codes }];
  }

  static fromFloats(rows: number, columns: number, values: Float32Array, scale: number): Matrix {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    const codes = new Uint16Array(values.length);
    for (let i = 0; i < codes.length; i++) {
      if (bits[i] === 0x80000000) codes[i] = MASKED;
      else if (bits[i] === 0x7fc00001) codes[i] = ABSENT;
      else codes[i] = encodeWeight(LOG16, (values[i] as number) / scale);
    }
    return new Matrix(rows, columns, codes, scale, values);
  }

  get bits(): 8 | 16 {
    return this.codes instanceof Uint8Array ? 8 : 16;
  }

  get bytes(): number {
    const levels = this.levels.reduce((sum, { codes }) => sum + codes.byteLength, 0);
    return levels + (this.exact?.byteLength ?? 0);
  }

  private get code() {
    return this.bits === 8 ? LOG8 : LOG16;
  }

  /** By how much a value may be off, as a share of it; 0 where values are exact. */
  get error(): number {
    return this.exact ? 0 : this.code.error;
  }

  state(i: number): CellState {
    const code = this.codes[i] as number;
    if (code === MASKED) return 'masked';
    if (code === ABSENT) return 'absent';
    if (code === this.code.nan) return 'nan';
    if (this.exact) return this.exact[i] === 0 ? 'zero' : 'weight';
    return code === ZERO ? 'zero' : code === TINY ? 'tiny' : 'weight';
  }

  /** The weight of a cell; 0 where it is masked or was not captured. */
  value(i: number): number {
    if (this.exact) return (this.codes[i] as number) <= ABSENT ? 0 : (this.exact[i] as number);
    return decodeWeight(this.code, this.codes[i] as number, this.scale);
  }

  /** Weights by code. */
  values(): Float32Array {
    return Float32Array.from({ length: this.code.nan + 1 }, (_, code) => decodeWeight(this.code, code, this.scale));
  }

  /** The level with the fewest cells of which at least `cells` lie in each direction. */
  level(rows: number, columns: number): { rows: number; columns: number; codes: Uint8Array | Uint16Array } {
    let at = 0;
    while (true) {
      const current = this.levels[at] as (typeof this.levels)[number];
      const next = this.levels[at + 1] ?? this.makeLevel(current);
      if (!next || next.rows < Math.min(rows, this.rows) || next.columns < Math.min(columns, this.columns))
        return current;
      at++;
    }
  }

  private makeLevel(from: { rows: number; columns: number; codes: Uint8Array | Uint16Array }) {
    const side = Math.max(from.rows, from.columns);
    if (side <= SMALLEST) return undefined;
    const size = pictureSize(from.rows, from.columns, Math.ceil(side / SHRINK));
    const level = { ...size, codes: maxPool(from.codes, from.rows, from.columns, size.rows, size.columns) };
    this.levels.push(level);
    return level;
  }
}

/** Draws codes into a canvas of their size, one pixel a cell. */
export function paintCodes(
  canvas: HTMLCanvasElement,
  { rows, columns, codes }: { rows: number; columns: number; codes: Uint8Array | Uint16Array },
  colours: Uint32Array,
): void {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext('2d');
  if (!context) return;
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[codes[i] as number] as number;
  context.putImageData(image, 0, 0);
}
