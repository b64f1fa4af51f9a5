/** What is drawn of a head: the matrix, lines between tokens, the text or the picture in the colours of one token's weights. */
export type FigureKind = 'matrix' | 'heads' | 'text' | 'image';

/** One head as a figure is made of it where there is no page. */
export interface HeadFigureInput {
  figure: FigureKind;
  /** `rows × columns`, row-major. */
  weights: Float32Array;
  rows: number;
  columns: number;
  /** Query positions of the rows. */
  queries: readonly number[];
  /** What is drawn, by rows and columns: [from, to). */
  shown: { rows: [number, number]; columns: [number, number] };
  /** Tokens of the whole sequences, by position; positions are shown where there are none. */
  queryTokens?: readonly string[];
  keyTokens?: readonly string[];
  /** How the head is called: 'head 3'. */
  name: string;
  /** Which row (or with `from: 'key'` column) is asked; of texts and pictures one has to be. */
  asked?: { from: 'query' | 'key'; index: number };
  /** Lines are drawn for weights from this on. */
  threshold: number;
  /** Whether the pieces of a word are one. */
  mergeWords: boolean;
  /** The picture whose patches are the positions, and how many pixels it has. */
  image?: { url: string; patches: [number, number]; prefix: number; size: { width: number; height: number } };
  /** The largest weight of all heads of the attention that were captured: what the logarithmic scale ends with. */
  largest: number;
  /** How weights become colours. */
  scale: 'log' | 'root' | 'linear';
  /** What stands below: layer, head, kind. How weights become colours is added. */
  caption: string;
  /** Makes a PNG of pixels, four bytes each (red, green, blue, opacity), as a `data:` URL. */
  encode: (pixels: Uint32Array, columns: number, rows: number) => string;
}

/** What a row is written from. */
export type RowInput = Pick<HeadFigureInput, 'weights' | 'rows' | 'columns' | 'queries' | 'queryTokens' | 'keyTokens'>;

/** What `scripts/build-page.mjs` makes of `page/figure/head-figure.ts`. */
export interface FigureModule {
  /** The head as an SVG document. */
  headFigure(input: HeadFigureInput): string;
  /** One row as CSV: position, token, weight and by how much it may be off. */
  rowCsv(input: RowInput, row: number): string;
}
