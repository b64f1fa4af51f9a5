/** Whose attention it is: of a sequence to itself (an encoder's, or a decoder's, which is mostly causal), or across. */
export type AttentionKind = 'encoder' | 'decoder' | 'cross';

/** Everything that the page shows: plain JSON, made by `prepareView` and drawn by the page. */
export interface ViewData {
  /** How the weights are stored; float16 where float32 would make the file too large. */
  encoding: 'float32' | 'float16';
  examples: ViewDataExample[];
  /** Weights by attention, referred to by `ViewDataAttention.weights`: little-endian elements in base64. */
  weights: string[];
}

export interface ViewDataExample {
  title: string;
  /** The token lists of this example, referred to by attentions. */
  tokens: string[][];
  attentions: ViewDataAttention[];
}

/** One attention call: weights of `heads.length` (or 1, where averaged) × `rows` × `columns`. */
export interface ViewDataAttention {
  name: string;
  /** The part of the name that tells it from the others of its kind: 'layer 3'. */
  label: string;
  operator: string;
  kind: AttentionKind;
  /** Whether the weights are the mean over `heads`, and not one matrix a head. */
  averaged: boolean;
  heads: number[];
  rows: number;
  columns: number;
  /** Query positions of the rows, where they are not simply 0, 1, 2, … */
  queries?: number[];
  /** Indices into `ViewDataExample.tokens`; absent where no tokens are known and positions are shown instead. */
  queryTokens?: number;
  keyTokens?: number;
  /** Index into `ViewData.weights`. */
  weights: number;
  thumbnails: Thumbnails;
}

/** Down-sampled heads (each value the largest of its cells, as a share of the head's largest), the mean at the end. */
export interface Thumbnails {
  rows: number;
  columns: number;
  /** Bytes in base64: 255 times the square root of the share. */
  data: string;
}
