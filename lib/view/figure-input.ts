/** One head as a figure is made of it where there is no page. */
export interface HeadFigureInput {
  /** `rows × columns`, row-major. */
  weights: Float32Array;
  rows: number;
  columns: number;
  /** Query positions of the rows. */
  queries: readonly number[];
  /** Tokens of the whole sequences, by position; positions are shown where there are none. */
  queryTokens?: readonly string[];
  keyTokens?: readonly string[];
  /** How weights become colours. */
  scale: 'log' | 'root' | 'linear';
  /** What stands below: layer, head, kind. How weights become colours is added. */
  caption: string;
  /** Makes a PNG of pixels, four bytes each (red, green, blue, opacity), as a `data:` URL. */
  encode: (pixels: Uint32Array, columns: number, rows: number) => string;
}

/** What `scripts/build-page.mjs` makes of `page/figure/head-figure.ts`. */
export interface FigureModule {
  /** The head as an SVG document. */
  headFigure(input: HeadFigureInput): string;
  /** One row as CSV: position, token, weight and by how much it may be off. */
  rowCsv(input: Omit<HeadFigureInput, 'scale' | 'caption' | 'encode'>, row: number): string;
}
