import type { HeadStats, Pattern } from './view-data';
import { ABSENT, encodeWeight, LOG8, logCodeOf, MASKED, TINY, ZERO } from './weight-code';

/** So far from a query its neighbourhood reaches. */
const NEIGHBOURS = 8;
/** Largest weights of a query that are looked for. */
export const TOP = 4;
export const NO_KEY = 0xffffffff;

const BUCKETS = 2 ** 19;
interface Tables {
  codes: Uint8Array;
  logarithms: Float32Array;
}
const tables: Partial<Record<'signed' | 'unsigned', Tables>> = {};

/** Codes and logarithms of all float32 by their first 11 bits of mantissa: a tenth of the time of `Math.log`. */
function bucketTables(signed: boolean): Tables {
  const key = signed ? 'signed' : 'unsigned';
  const known = tables[key];
  if (known) return known;
  const code = logCodeOf(8, signed);
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  const made = { codes: new Uint8Array(BUCKETS), logarithms: new Float32Array(BUCKETS) };
  for (let i = 0; i < BUCKETS; i++) {
    bits[0] = (i << 12) | 0x800;
    made.codes[i] = encodeWeight(code, float[0] as number);
    made.logarithms[i] = Math.log(float[0] as number);
  }
  tables[key] = made;
  return made;
}

export interface HeadLayout {
  rows: number;
  columns: number;
  /** Query positions of the rows. */
  queries: readonly number[];
  /** Rows and columns without padding: [from, to). */
  shown: { rows: [number, number]; columns: [number, number] };
  /** Key positions of the first and of special tokens. */
  special: readonly number[];
  /** Queries and keys are positions of different sequences: nothing is before or after. */
  cross: boolean;
  /** Cells that are masked. */
  mask: Uint8Array | undefined;
  /** Cells that were captured, where not all were. */
  captured: Uint8Array | undefined;
  /** What codes are shares of. */
  scale: number;
  /** Weights are negative too: what is counted is their size. */
  signed: boolean;
}

export interface ScannedHead {
  /** Codes of 8 bits. */
  codes: Uint8Array;
  /** By query: normalized entropy as a byte. */
  entropy: Uint8Array;
  /** By key: the mean weight that it receives, as a `LOG8` code. */
  received: Uint8Array;
  /** By query: the largest weights, largest first, and their keys; `NO_KEY` where there are fewer. */
  topWeights: Float32Array;
  topKeys: Uint32Array;
  stats: HeadStats;
}

/**
 * All that a page has of one head, in one walk over its weights.
 * @param codes `rows × columns` bytes, which the codes are written to: those of a long text, made anew for each head, would
 *   lie about until they are collected.
 */
export function scanHead(weights: Float32Array, layout: HeadLayout, codes: Uint8Array): ScannedHead {
  const { rows, columns, queries, shown, mask, captured, scale, cross, signed } = layout;
  const { codes: codeOf, logarithms } = bucketTables(signed);
  const { nan: nanCode } = logCodeOf(8, signed);
  const bits = new Uint32Array(weights.buffer, weights.byteOffset, weights.length);
  const rescale = scale === 1 ? 0 : 1 / scale;
  const rescaled = new Float32Array(1);
  const rescaledBits = new Uint32Array(rescaled.buffer);
  const entropy = new Uint8Array(rows);
  const received = new Float64Array(columns);
  const topWeights = new Float32Array(rows * TOP);
  const topKeys = new Uint32Array(rows * TOP).fill(NO_KEY);
  const sums = { previous: 0, next: 0, self: 0, local: 0, special: 0, entropy: 0 };
  const counts = { all: 0, previous: 0, next: 0, self: 0, entropy: 0 };
  let largest = 0;
  let nan = 0;
  const [firstRow, endRow] = shown.rows;
  const [firstColumn, endColumn] = shown.columns;

  for (let row = 0; row < rows; row++) {
    const start = row * columns;
    const top = row * TOP;
    const inside = row >= firstRow && row < endRow;
    let sum = 0;
    let surprise = 0;
    let available = 0;
    let broken = false;
    let least = 0;
    for (let column = 0; column < columns; column++) {
      const i = start + column;
      const weight = weights[i] as number;
      if (weight === 0) {
        const absent = captured !== undefined && captured[i] === 0;
        const masked = mask !== undefined && mask[i] !== 0;
        codes[i] = absent ? ABSENT : masked ? MASKED : ZERO;
        if (!masked) available++;
        continue;
      }
      available++;
      // biome-ignore lint/suspicious/noSelfCompare: the quickest test for NaN in the hottest loop
      if (weight !== weight) {
        codes[i] = nanCode;
        broken = true;
        nan++;
        continue;
      }
      let bucket = ((bits[i] as number) & 0x7fffffff) >>> 12;
      if (rescale) {
        rescaled[0] = weight * rescale;
        codes[i] = codeOf[((rescaledBits[0] as number) & 0x7fffffff) >>> 12] as number;
      } else {
        codes[i] = codeOf[bucket] as number;
      }
      const size = weight < 0 ? -weight : weight;
      if (weight < 0 && (codes[i] as number) > TINY && codes[i] !== nanCode && signed)
        codes[i] = (codes[i] as number) + 1;
      if (size > least) {
        insert(topWeights, topKeys, top, weight, column);
        least = Math.abs(topWeights[top + TOP - 1] as number);
      }
      if (!inside || column < firstColumn || column >= endColumn) continue;
      bucket = bucket < BUCKETS ? bucket : BUCKETS - 1;
      sum += size;
      surprise -= size * (logarithms[bucket] as number);
      received[column] = (received[column] as number) + size;
    }
    if (!inside || broken || !(sum > 0)) continue;
    const relative = available > 1 ? (surprise / sum + Math.log(sum)) / Math.log(available) : 0;
    entropy[row] = Math.round(255 * Math.max(0, Math.min(relative, 1)));
    largest = Math.max(largest, Math.abs(topWeights[top] as number));
    counts.all++;
    if (available > 1) {
      sums.entropy += relative;
      counts.entropy++;
    }
    const shareOf = (key: number) => Math.abs(weights[start + key] as number) / sum;
    for (const key of layout.special) sums.special += shareOf(key);
    if (cross) continue;
    const query = queries[row] as number;
    const onOffset = (name: 'previous' | 'next' | 'self', key: number) => {
      if (key < firstColumn || key >= endColumn || (mask !== undefined && mask[start + key] !== 0)) return;
      sums[name] += shareOf(key);
      counts[name]++;
    };
    onOffset('previous', query - 1);
    onOffset('self', query);
    onOffset('next', query + 1);
    const end = Math.min(endColumn, query + NEIGHBOURS + 1);
    for (let key = Math.max(firstColumn, query - NEIGHBOURS); key < end; key++) {
      sums.local += shareOf(key);
    }
  }

  const mean = (total: number, count: number) => (count ? total / count : 0);
  const known = {
    previous: mean(sums.previous, counts.previous),
    next: mean(sums.next, counts.next),
    self: mean(sums.self, counts.self),
    local: mean(sums.local, counts.all),
    special: mean(sums.special, counts.all),
    entropy: captured ? -1 : mean(sums.entropy, counts.entropy),
  };
  const receivedCodes = Uint8Array.from(received, (total) => encodeWeight(LOG8, mean(total, counts.all) / scale));
  const pattern = patternOf(known, endColumn - firstColumn);
  const strength = pattern === 'content' || pattern === 'broad' ? known.entropy : known[pattern];
  const stats = { pattern, strength, ...known, largest, nan };
  for (const key of Object.keys(stats) as (keyof HeadStats)[]) {
    const value = stats[key];
    if (typeof value === 'number' && key !== 'largest' && key !== 'nan') {
      (stats as Record<string, unknown>)[key] = Math.round(value * 1e4) / 1e4;
    }
  }
  return { codes, entropy, received: receivedCodes, topWeights, topKeys, stats };
}

function insert(weights: Float32Array, keys: Uint32Array, start: number, weight: number, key: number): void {
  let at = start + TOP - 1;
  // Equal weights stay by position.
  const size = Math.abs(weight);
  while (at > start && Math.abs(weights[at - 1] as number) < size) {
    weights[at] = weights[at - 1] as number;
    keys[at] = keys[at - 1] as number;
    at--;
  }
  weights[at] = weight;
  keys[at] = key;
}

/** The rules that the page states beside each group. */
function patternOf(
  { previous, next, self, local, special, entropy }: Omit<HeadStats, 'pattern' | 'strength' | 'largest' | 'nan'>,
  keys: number,
): Pattern {
  const most = Math.max(previous, next, self);
  // Of four tokens nearly all are neighbours, and of thirty most lie within eight.
  if (keys > 4 && most > 0.25) return most === previous ? 'previous' : most === next ? 'next' : 'self';
  if (keys > 4 * NEIGHBOURS && local > 0.45) return 'local';
  if (special > 0.5) return 'special';
  return entropy > 0.86 ? 'broad' : 'content';
}
