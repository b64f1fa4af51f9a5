import { maxPool } from '../max-pool';
import type { HeadStats, ViewDataAttention, ViewDataExample } from '../view-data';
import { MASKED } from '../weight-code';
import { isAlone, KINDS, kindTitle, PATTERN_ORDER, PATTERNS } from './patterns';
import { type Arrangement, matrixCount } from './state';

/** One head of an example. */
export interface Tile {
  attention: number;
  head: number;
}

export interface Group {
  title: string;
  note: string;
  tiles: Tile[];
}

export interface Section {
  title: string;
  groups: Group[];
}

/** The heads of an example in groups, encoder, decoder and cross-attention apart. */
export function arrange(example: ViewDataExample, by: Arrangement, codes: readonly Uint8Array[][]): Section[] {
  const { attentions } = example;
  const kinds = KINDS.filter((kind) => attentions.some((attention) => attention.kind === kind));
  return kinds.map((kind) => {
    const indices = attentions.flatMap((attention, i) => (attention.kind === kind ? [i] : []));
    // What was computed from weights has no pattern of its own.
    const order = kind === 'derived' ? 'layer' : by;
    return { title: kindTitle(kind, isAlone(attentions)), groups: groupsOf(example, indices, order, codes) };
  });
}

function groupsOf(
  example: ViewDataExample,
  indices: number[],
  by: Arrangement,
  codes: readonly Uint8Array[][],
): Group[] {
  const { attentions } = example;
  const of = (i: number) => attentions[i] as ViewDataAttention;
  const counted = (tiles: readonly Tile[]) => `${tiles.length} head${tiles.length === 1 ? '' : 's'}`;
  if (by === 'layer') {
    return indices.map((attention) => {
      const tiles = of(attention).stats.map((_, head) => ({ attention, head }));
      return {
        title: capitalized(of(attention).label),
        note: counted(tiles.slice(0, matrixCount(of(attention)))),
        tiles,
      };
    });
  }
  const tiles = indices.flatMap((attention) =>
    Array.from({ length: matrixCount(of(attention)) }, (_, head) => ({ attention, head })),
  );
  const stats = ({ attention, head }: Tile) => of(attention).stats[head] as HeadStats;
  if (by === 'pattern') {
    return PATTERN_ORDER.map((pattern) => {
      const own = tiles.filter((tile) => stats(tile).pattern === pattern);
      const sign = pattern === 'content' ? 1 : -1;
      own.sort((a, b) => sign * (stats(a).strength - stats(b).strength));
      const { title, rule } = PATTERNS[pattern];
      return { title, note: `${counted(own)} · ${rule}`, tiles: own };
    }).filter((group) => group.tiles.length > 0);
  }
  if (by === 'entropy') {
    tiles.sort((a, b) => stats(a).entropy - stats(b).entropy);
    return [
      {
        title: 'From sharp to broad',
        note: `${counted(tiles)} · by mean entropy of the queries, as a share of its largest`,
        tiles,
      },
    ];
  }
  return bySimilarity(tiles, (tile) => features(of(tile.attention), codes[tile.attention]?.[tile.head])).map(
    (own, i) => ({
      title: `Alike ${i + 1}`,
      note: `${counted(own)} · by the correlation of their pictures`,
      tiles: own,
    }),
  );
}

/** Words as a title; names of modules stay as they are. */
function capitalized(label: string): string {
  return /^[a-z]+( |$)/.test(label) ? label[0]?.toUpperCase() + label.slice(1) : label;
}

const FEATURE_SIDE = 16;

/** A head's picture, small, with mean 0 and length 1. */
function features({ thumbnail }: ViewDataAttention, codes: Uint8Array | undefined): Float32Array {
  const vector = new Float32Array(FEATURE_SIDE * FEATURE_SIDE);
  if (!codes) return vector;
  const [height, width] = [Math.min(FEATURE_SIDE, thumbnail.rows), Math.min(FEATURE_SIDE, thumbnail.columns)];
  const small = maxPool(codes, thumbnail.rows, thumbnail.columns, height, width);
  vector.set(small.map((code) => (code === MASKED ? 0 : code)));
  const mean = vector.reduce((sum, value) => sum + value, 0) / vector.length;
  let square = 0;
  for (let i = 0; i < vector.length; i++) {
    vector[i] = (vector[i] as number) - mean;
    square += (vector[i] as number) ** 2;
  }
  const length = Math.sqrt(square) || 1;
  return vector.map((value) => value / length);
}

const LEAST_CORRELATION = 0.6;

/** Groups around the head that most others are alike to, largest group first; each by closeness to that head. */
function bySimilarity(tiles: readonly Tile[], featuresOf: (tile: Tile) => Float32Array): Tile[][] {
  const vectors = tiles.map(featuresOf);
  const correlation = (a: number, b: number) => {
    const [x, y] = [vectors[a] as Float32Array, vectors[b] as Float32Array];
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += (x[i] as number) * (y[i] as number);
    return sum;
  };
  const near = tiles.map(() => [] as number[]);
  for (let a = 0; a < tiles.length; a++) {
    for (let b = a; b < tiles.length; b++) {
      if (a !== b && correlation(a, b) < LEAST_CORRELATION) continue;
      near[a]?.push(b);
      if (a !== b) near[b]?.push(a);
    }
  }
  const left = new Set(tiles.keys());
  const groups: Tile[][] = [];
  const order = [...near.keys()].sort((a, b) => (near[b]?.length ?? 0) - (near[a]?.length ?? 0));
  for (const centre of order) {
    if (!left.has(centre)) continue;
    const own = (near[centre] ?? [])
      .filter((i) => left.has(i))
      .sort((a, b) => correlation(centre, b) - correlation(centre, a));
    for (const i of own) left.delete(i);
    groups.push(own.map((i) => tiles[i] as Tile));
  }
  // Heads that are like no other come last, together.
  const alone = groups.filter((group) => group.length === 1).flat();
  const several = groups.filter((group) => group.length > 1).sort((a, b) => b.length - a.length);
  return alone.length ? [...several, alone] : several;
}
