import type { FullEncoding, ViewDataAttention } from '../view-data';
import { MASKED, MASKED_BITS } from '../weight-code';
import { Matrix } from './matrix';

/** Unpacked blocks may take so many bytes before the oldest are given back. */
const KEPT_BYTES = 256 * 2 ** 20;
const NO_KEY = 0xffffffff;

/** What there is of a head, as good as the page has it. */
export interface HeadData {
  /** All weights, or a picture of them. */
  matrix: Matrix;
  /** Whether the matrix is the picture: each cell the largest weight of several. */
  pooled: boolean;
  /** Exact weights of each query's strongest keys, largest first; none where the matrix is exact. */
  top: TopKeys;
  /** Normalized entropy by query, and the mean weight received by key: approximate where the matrix is no full one. */
  entropy: Float32Array;
  received: Float32Array;
}

/** The strongest keys of each query, exactly. */
export class TopKeys {
  constructor(private readonly ranks: { width: number; weights: Float32Array; keys: Uint32Array }[]) {}

  get count(): number {
    return this.ranks.reduce((sum, { width }) => sum + width, 0);
  }

  get bytes(): number {
    return this.ranks.reduce((sum, { weights }) => sum + 2 * weights.byteLength, 0);
  }

  row(row: number): { key: number; weight: number }[] {
    const found: { key: number; weight: number }[] = [];
    for (const { width, weights, keys } of this.ranks) {
      for (let i = row * width; i < (row + 1) * width; i++) {
        if (keys[i] !== NO_KEY) found.push({ key: keys[i] as number, weight: weights[i] as number });
      }
    }
    return found;
  }
}

/** Unpacks blocks of the page's script elements when they are asked for, and keeps what was used last. */
export class Store {
  private readonly lines = new Map<number, string[]>();
  private readonly kept = new Map<string, { data: HeadData; bytes: number }>();
  private readonly pending = new Map<string, Promise<HeadData>>();
  /** Heads that the model was asked for in vain. */
  private readonly unanswered = new Set<string>();

  /** @param live Where weights at full resolution are to be had that the page lacks. */
  constructor(
    private readonly encoding: FullEncoding,
    private readonly live?: string,
  ) {}

  /** Codes of all thumbnails of an attention. */
  async thumbnails(attention: ViewDataAttention): Promise<Uint8Array[]> {
    const codes = await this.block(attention, attention.blocks.thumbnails);
    const { rows, columns } = attention.thumbnail;
    const size = rows * columns;
    return attention.stats.map((_, i) => codes.subarray(i * size, (i + 1) * size));
  }

  /** Whether an attention's head is there at full resolution, or can be had. */
  isFull(attention: ViewDataAttention, head: number): boolean {
    return this.isStored(attention, head) || this.isLive(attention, head);
  }

  /** Whether a head's exact weights come from the model. */
  isFetched(attention: ViewDataAttention, head: number): boolean {
    return !this.isStored(attention, head) && this.isLive(attention, head);
  }

  /** Whether the model was asked for a head's weights and gave none. */
  isUnanswered({ store }: ViewDataAttention, head: number): boolean {
    return this.unanswered.has(`${store}/${head}`);
  }

  private isLive(attention: ViewDataAttention, head: number): boolean {
    return this.live !== undefined && attention.kind !== 'derived' && !this.isUnanswered(attention, head);
  }

  private isStored(attention: ViewDataAttention, head: number): boolean {
    const { full } = attention.blocks;
    if (isMean(attention, head)) return full.slice(0, attention.heads.length).every((block) => block >= 0);
    return (full[head] as number) >= 0;
  }

  /** The data of a head if it is unpacked already. */
  peek(attention: ViewDataAttention, head: number): HeadData | undefined {
    return this.kept.get(`${attention.store}/${head}`)?.data;
  }

  /** @param head An index into the attention's matrices; the mean comes after the heads. */
  async head(attention: ViewDataAttention, head: number): Promise<HeadData> {
    const key = `${attention.store}/${head}`;
    const known = this.kept.get(key);
    if (known) {
      this.kept.delete(key);
      this.kept.set(key, known);
      return known.data;
    }
    const pending = this.pending.get(key) ?? this.load(attention, head);
    this.pending.set(key, pending);
    try {
      const data = await pending;
      this.keep(key, data);
      return data;
    } finally {
      this.pending.delete(key);
    }
  }

  private keep(key: string, data: HeadData): void {
    // Pyramids of pictures come later; they are a third of what is here.
    this.kept.set(key, { data, bytes: 1.4 * data.matrix.bytes + data.top.bytes });
    let total = 0;
    for (const { bytes } of this.kept.values()) total += bytes;
    for (const [oldest, { bytes }] of this.kept) {
      if (total <= KEPT_BYTES || oldest === key) break;
      this.kept.delete(oldest);
      total -= bytes;
    }
  }

  private async load(attention: ViewDataAttention, head: number): Promise<HeadData> {
    const [matrix, top, margins] = await Promise.all([
      this.matrix(attention, head),
      this.top(attention, head),
      this.block(attention, attention.blocks.margins[head] as number),
    ]);
    const entropy = Float32Array.from(margins.subarray(0, attention.rows), (byte) => byte / 255);
    const received = new Float32Array(attention.columns);
    const decoded = new Matrix(1, attention.columns, margins.subarray(attention.rows), { scale: attention.scale });
    for (let i = 0; i < received.length; i++) received[i] = decoded.value(i);
    return { ...matrix, top, entropy, received };
  }

  private async matrix(attention: ViewDataAttention, head: number): Promise<{ matrix: Matrix; pooled: boolean }> {
    if (this.isFull(attention, head)) {
      const matrix = this.isFetched(attention, head)
        ? await this.fetched(attention, head)
        : isMean(attention, head)
          ? await this.mean(attention)
          : await this.full(attention, head);
      if (matrix) return { matrix, pooled: false };
      this.unanswered.add(`${attention.store}/${head}`);
    }
    const { picture, thumbnail, blocks } = attention;
    const block = blocks.picture[head] as number;
    const { rows, columns } = block >= 0 ? picture : thumbnail;
    const codes =
      block >= 0 ? await this.block(attention, block) : ((await this.thumbnails(attention))[head] as Uint8Array);
    const pooled = rows !== attention.rows || columns !== attention.columns;
    return { matrix: new Matrix(rows, columns, codes, attention), pooled };
  }

  private async full(attention: ViewDataAttention, head: number): Promise<Matrix> {
    const { rows, columns } = attention;
    const bytes = await this.block(attention, attention.blocks.full[head] as number);
    if (this.encoding === 'log8') return new Matrix(rows, columns, bytes, attention);
    if (this.encoding === 'log16') return new Matrix(rows, columns, new Uint16Array(joinPlanes(bytes, 2)), attention);
    return Matrix.fromFloats(rows, columns, new Float32Array(joinPlanes(bytes, 4)), attention);
  }

  /** A head's exact weights from the model; what the page has of it where that doesn't answer any more. */
  private async fetched({ store, rows, columns, scale, signed }: ViewDataAttention, head: number) {
    try {
      const response = await fetch(`${this.live}${store}/${head}`);
      if (!response.ok) return undefined;
      const bytes = await inflate(new Uint8Array(await response.arrayBuffer()));
      return Matrix.fromFloats(rows, columns, new Float32Array(bytes.buffer), { scale, signed: signed ?? false });
    } catch {
      return undefined;
    }
  }

  private async mean(attention: ViewDataAttention): Promise<Matrix> {
    const { rows, columns, heads } = attention;
    const sum = new Float32Array(rows * columns);
    let first: Matrix | undefined;
    for (let head = 0; head < heads.length; head++) {
      const matrix = await this.full(attention, head);
      first ??= matrix;
      const { floats, codes } = matrix;
      const values = floats?.values ?? matrix.values();
      if (floats) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
      else for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[codes[i] as number] as number);
    }
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) / heads.length;
    // Masked is what every head has masked.
    const bits = new Uint32Array(sum.buffer);
    for (let i = 0; i < sum.length; i++) if (first?.codes[i] === MASKED) bits[i] = MASKED_BITS;
    const { codes } = Matrix.fromFloats(rows, columns, sum, attention);
    // The mean of values that may be off is as much off; those below the least code are off by up to all of themselves.
    const slack = first && !first.floats ? first.least / 2 : 0;
    return new Matrix(rows, columns, codes, attention, { values: sum, error: first?.error ?? 0, slack });
  }

  private async top(attention: ViewDataAttention, head: number): Promise<TopKeys> {
    const blocks = attention.blocks.top[head] ?? [];
    const ranks = await Promise.all(
      blocks.map(async (index) => {
        const buffer = joinPlanes(await this.block(attention, index), 4);
        const half = buffer.byteLength / 2;
        return {
          width: half / 4 / attention.rows,
          weights: new Float32Array(buffer, 0, half / 4),
          keys: new Uint32Array(buffer, half, half / 4),
        };
      }),
    );
    return new TopKeys(ranks);
  }

  private async block({ store }: ViewDataAttention, index: number): Promise<Uint8Array> {
    let lines = this.lines.get(store);
    if (!lines) {
      lines = (document.getElementById(`store-${store}`)?.textContent ?? '').split('\n');
      this.lines.set(store, lines);
    }
    return inflate(fromBase64(lines[index] ?? ''));
  }
}

/** Whether an index of a matrix is that of the mean over heads. */
export function isMean({ averaged, heads }: ViewDataAttention, head: number): boolean {
  return !averaged && head >= heads.length;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function joinPlanes(planes: Uint8Array, width: number): ArrayBuffer {
  const count = planes.length / width;
  const bytes = new Uint8Array(planes.length);
  for (let byte = 0; byte < width; byte++) {
    const start = byte * count;
    for (let i = 0, at = byte; i < count; i++, at += width) bytes[at] = planes[start + i] as number;
  }
  return bytes.buffer;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  // A loop: Uint8Array.from with a function takes ten times as long, which is felt from a few megabytes on.
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
