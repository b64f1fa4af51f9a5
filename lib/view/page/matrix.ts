import { maxPool, pictureSize } from '../max-pool';
import type { ViewDataAttention } from '../view-data';
import {
  ABSENT,
  ABSENT_BITS,
  decodeWeight,
  encodeWeight,
  type LogCode,
  logCodeOf,
  MASKED,
  MASKED_BITS,
  TINY,
  ZERO,
} from '../weight-code';

export type CellState = 'weight' | 'zero' | 'tiny' | 'masked' | 'absent' | 'nan';

/** Levels are made smaller by this until they fit below `SMALLEST`. */
const SHRINK = 2;
const SMALLEST = 200;

/** A matrix as codes. */
export interface Picture<Codes extends Uint8Array | Uint16Array = Uint8Array | Uint16Array> {
  rows: number;
  columns: number;
  codes: Codes;
}

/** What codes mean: shares of which weight, and whether they have signs. */
export interface Coding {
  scale: number;
  signed?: boolean;
}

/** Weights as numbers, beside codes that are drawn; by how much they may be off: 0 where they are exact. */
export interface Floats {
  values: Float32Array;
  /** As a share of each. */
  error: number;
  /** Beside that: what sums and means have of weights that are less than a code says. One for all, or one each. */
  slack?: number | Float32Array;
}

/** One head's weights, `rows × columns` as codes, as numbers too where the page has them so; smaller levels on demand. */
export class Matrix {
  private readonly levels: Picture[];
  /** What codes are shares of. */
  readonly scale: number;
  readonly code: LogCode;
  private table: Float32Array | undefined;

  constructor(
    readonly rows: number,
    readonly columns: number,
    readonly codes: Uint8Array | Uint16Array,
    { scale, signed = false }: Coding,
    readonly floats?: Floats,
  ) {
    this.levels = [{ rows, columns, codes }];
    this.scale = scale;
    this.code = logCodeOf(codes instanceof Uint8Array ? 8 : 16, signed);
  }

  static fromFloats(rows: number, columns: number, values: Float32Array, coding: Coding): Matrix {
    const code = logCodeOf(16, coding.signed);
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    const codes = new Uint16Array(values.length);
    for (let i = 0; i < codes.length; i++) {
      if (bits[i] === MASKED_BITS) codes[i] = MASKED;
      else if (bits[i] === ABSENT_BITS) codes[i] = ABSENT;
      else codes[i] = encodeWeight(code, (values[i] as number) / coding.scale);
    }
    return new Matrix(rows, columns, codes, coding, { values, error: 0 });
  }

  get bytes(): number {
    const levels = this.levels.reduce((sum, { codes }) => sum + codes.byteLength, 0);
    return levels + (this.floats?.values.byteLength ?? 0);
  }

  /** The least weight that has a code of its own. */
  get least(): number {
    return this.code.floor * this.scale;
  }

  /** By how much a value may be off, as a share of it; 0 where values are exact. */
  get error(): number {
    return this.floats?.error ?? this.code.error;
  }

  /** By how much more than `error` a value may be off, whatever its size. */
  slack(i: number): number {
    const slack = this.floats?.slack ?? 0;
    return typeof slack === 'number' ? slack : (slack[i] as number);
  }

  /** By how much what a cell holds may be off, in all. */
  offBy(i: number): number {
    if (this.state(i) === 'tiny') return Math.abs(this.value(i));
    return this.state(i) === 'weight' ? this.error * Math.abs(this.value(i)) + this.slack(i) : 0;
  }

  state(i: number): CellState {
    const code = this.codes[i] as number;
    if (code === MASKED) return 'masked';
    if (code === ABSENT) return 'absent';
    if (code === this.code.nan) return 'nan';
    if (this.floats) return this.floats.values[i] === 0 ? 'zero' : 'weight';
    return code === ZERO ? 'zero' : code === TINY ? 'tiny' : 'weight';
  }

  /** The weight of a cell; 0 where it is masked or was not captured. */
  value(i: number): number {
    if (this.floats) return (this.codes[i] as number) <= ABSENT ? 0 : (this.floats.values[i] as number);
    return this.values()[this.codes[i] as number] as number;
  }

  /** Weights by code. */
  values(): Float32Array {
    this.table ??= Float32Array.from({ length: this.code.nan + 1 }, (_, i) => decodeWeight(this.code, i, this.scale));
    return this.table;
  }

  /** Made as small as another matrix: each cell the largest weight of those that it stands for. */
  pooledTo(rows: number, columns: number): Matrix {
    if (rows === this.rows && columns === this.columns) return this;
    const { scale, code, codes } = this;
    const pooled = maxPool(codes, this.rows, this.columns, rows, columns);
    return new Matrix(rows, columns, pooled, { scale, signed: code.signed });
  }

  /** The level with the fewest cells of which at least `cells` lie in each direction. */
  level(rows: number, columns: number): Picture {
    let at = 0;
    while (true) {
      const current = this.levels[at] as Picture;
      const next = this.levels[at + 1] ?? this.makeLevel(current);
      if (!next || next.rows < Math.min(rows, this.rows) || next.columns < Math.min(columns, this.columns))
        return current;
      at++;
    }
  }

  private makeLevel(from: Picture): Picture | undefined {
    const side = Math.max(from.rows, from.columns);
    if (side <= SMALLEST) return undefined;
    const size = pictureSize(from.rows, from.columns, Math.ceil(side / SHRINK));
    const level = { ...size, codes: maxPool(from.codes, from.rows, from.columns, size.rows, size.columns) };
    this.levels.push(level);
    return level;
  }
}

/** Draws codes into a canvas of their size, one pixel a cell. */
export function paintCodes(canvas: HTMLCanvasElement, { rows, columns, codes }: Picture, colours: Uint32Array): void {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext('2d');
  if (!context) return;
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[codes[i] as number] as number;
  context.putImageData(image, 0, 0);
}

/** The part of a picture that shows these rows and columns. */
export function crop<Codes extends Uint8Array | Uint16Array>(
  picture: Picture<Codes>,
  shown: ViewDataAttention['shown'],
  { rows, columns }: { rows: number; columns: number },
): Picture<Codes> {
  const part = ([from, to]: [number, number], length: number, cells: number): [number, number] => {
    const start = Math.floor((from * cells) / length);
    return [start, Math.max(start + 1, Math.ceil((to * cells) / length))];
  };
  const [top, bottom] = part(shown.rows, rows, picture.rows);
  const [left, right] = part(shown.columns, columns, picture.columns);
  if (top === 0 && left === 0 && bottom === picture.rows && right === picture.columns) return picture;
  const codes = new (picture.codes.constructor as new (length: number) => Codes)((bottom - top) * (right - left));
  for (let row = top; row < bottom; row++) {
    const start = row * picture.columns;
    codes.set(picture.codes.subarray(start + left, start + right), (row - top) * (right - left));
  }
  return { rows: bottom - top, columns: right - left, codes };
}
