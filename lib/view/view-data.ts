/**
 * Whose attention it is: of a sequence to itself (an encoder's, or a decoder's, which is mostly causal), or across; or
 * what was computed from such: rollout, relevance, gradients.
 */
export type AttentionKind = 'encoder' | 'decoder' | 'cross' | 'derived';

/** What a head does, as far as its weights tell. */
export type Pattern = 'previous' | 'next' | 'self' | 'local' | 'special' | 'content' | 'broad';

/** Types of fewer bits than float32 that a capture may hold weights in; uint8: as codes of 256 levels, on which scale. */
export type HeldType = 'float16' | 'bfloat16' | 'uint8' | 'uint8 linear' | 'uint8 log';

/** How the weights at full resolution are stored: exactly, or as codes of 16 or 8 bits. */
export type FullEncoding = 'float32' | 'log16' | 'log8';

/** Everything that the page knows without unpacking a block: plain JSON, made by `prepareView` and drawn by the page. */
export interface ViewData {
  /** How full resolution is stored, where there is any. */
  encoding: FullEncoding;
  /** So many of the largest weights of each query are there exactly, beside what else there is. */
  topK: number;
  /** Whether two examples are there to be compared. */
  compare?: boolean;
  /** Of a page whose model is at hand: the address that has weights at full resolution, by attention and head. */
  live?: string;
  examples: ViewDataExample[];
}

export interface ViewDataExample {
  title: string;
  /** The token lists of this example, referred to by attentions. */
  tokens: string[][];
  /** Positions of special tokens, by token list. */
  special: number[][];
  /** What stood in the text where a token is unknown or shortened, by token list and position. */
  sources?: Record<number, string>[];
  image?: ViewDataImage;
  /** Of a generation: so many tokens were given, the others came one at a time. */
  prompt?: number;
  attentions: ViewDataAttention[];
}

/** A picture whose patches are tokens. */
export interface ViewDataImage {
  /** A data: URL. */
  url: string;
  /** Pixels of the picture. */
  size: { width: number; height: number };
  /** Rows and columns of patches. */
  patches: [number, number];
  /** So many tokens (class, registers) come before the patches. */
  prefix: number;
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
  /** The capture holds so many keys of each query and no others. */
  capturedTopK?: number;
  /** The capture holds numbers of this type, which are off by what it rounds. */
  held?: HeldType;
  /** Weights are negative too, and codes have signs; what is counted in `stats` is their size. */
  signed?: boolean;
  /** Whether attention from later positions is masked. */
  causal: boolean;
  /** Whether any weight is masked. */
  masked: boolean;
  /** Cells that count as masked, at 0 in every head, may be 0 without a mask: there is one head, or zeros are common. */
  maybeZero?: boolean;
  /** What codes are shares of: 1, or the largest weight where that is more, or where weights aren't parts of 1. */
  scale: number;
  /** Rows and columns without padding: [from, to). */
  shown: { rows: [number, number]; columns: [number, number] };
  thumbnail: { rows: number; columns: number };
  picture: { rows: number; columns: number };
  /** By head; the mean over the heads last, where there are several. */
  stats: HeadStats[];
  /** Which script element has the blocks of this attention. */
  store: number;
  /** Lines of that element; -1 for what is not there. By head, the mean last. */
  blocks: {
    /** 8-bit codes of all thumbnails. */
    thumbnails: number;
    /** 8-bit codes. */
    picture: number[];
    /** A byte for the entropy of each query, a `LOG8` code for what each key receives on average. */
    margins: number[];
    /** By head: blocks of ranks 1, 2, 3 to 4 …; weights as float32, then positions as uint32; bytes by significance. */
    top: number[][];
    full: number[];
  };
}

/** What is known of a head from all of its weights, padding left out. */
export interface HeadStats {
  pattern: Pattern;
  /** How much of the weight lies where the pattern says; for content and broad, the entropy. */
  strength: number;
  /** Mean share of the weight on the token before, after, itself, within 8 tokens, on the first or special tokens. */
  previous: number;
  next: number;
  self: number;
  local: number;
  special: number;
  /** Mean entropy of the queries as a share of the largest possible; -1 where it is not known. */
  entropy: number;
  /** The largest weight. */
  largest: number;
  /** Number of weights that are NaN. */
  nan: number;
}
