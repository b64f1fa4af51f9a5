import { TorchError } from '../core/errors';
import { type Block, blockSize, pack } from './block';
import { maxPool, pictureSize } from './max-pool';
import type { FullEncoding, ViewData } from './view-data';

/** What is kept of one head until the size of the page is known. */
export interface PackedHead {
  picture: { rows: number; columns: number; codes: Uint8Array };
  packedPicture?: Block;
  /** Blocks of the ranks 1, 2, 3 to 4. */
  top: Block[];
  /** Full resolution, in the encodings that still come into question. */
  float32?: Block;
  log16?: Block;
  log8?: Block;
  /** The mean over the heads, which the page can make from all heads at full resolution. */
  isMean: boolean;
}

export interface PackedAttention {
  heads: PackedHead[];
  thumbnails: Block | Uint8Array;
  margins: Block[];
}

const ENCODINGS: readonly FullEncoding[] = ['float32', 'log16', 'log8'];
/** Sides of pictures, from the largest on; the last is a thumbnail's. */
export const THUMBNAIL_SIDE = 64;
const SIDES = [256, 128, THUMBNAIL_SIDE] as const;
/** Exact weights of a query, by the number of blocks that hold them. */
const RANKS = [0, 1, 2, 4] as const;
/** What the description of a head takes, about. */
const HEAD_BYTES = 260;

/**
 * Chooses what goes into a page of limited size: all heads as pictures and with the largest weights of each query first,
 * then full resolution from the last layer on, as exact as it goes.
 */
export class PageBudget {
  encoding: FullEncoding = 'float32';
  private readonly attentions: PackedAttention[] = [];
  private side = 0;
  private tops = RANKS.length - 1;
  /** What each attention takes; undefined where that may have changed. */
  private readonly sizes: (number | undefined)[] = [];

  constructor(private readonly maxSize: number) {}

  /** The longest side of a picture of a matrix whose longest side is `length`: half of that or less, else it saves too little. */
  pictureSide(length: number): number {
    return SIDES.slice(this.side).find((side) => 2 * side <= length) ?? THUMBNAIL_SIDE;
  }

  add(attention: PackedAttention): number {
    return this.attentions.push(attention) - 1;
  }

  /** Whether full resolution in an encoding comes into question, for so many bytes as an attention takes at least. */
  wants(encoding: 'float32' | 'log16', bytes: number): boolean {
    if (ENCODINGS.indexOf(encoding) < ENCODINGS.indexOf(this.encoding)) return false;
    if (bytes * (4 / 3) < this.maxSize) return true;
    while (ENCODINGS.indexOf(this.encoding) <= ENCODINGS.indexOf(encoding)) this.dropEncoding();
    return false;
  }

  /** Whether a head that takes so many bytes at full resolution, at least, has a chance to stay: beside all pictures. */
  hasRoomFor(bytes: number): boolean {
    let size = bytes * (4 / 3);
    for (const { thumbnails, margins, heads } of this.attentions) {
      size += HEAD_BYTES * heads.length + blockSize(thumbnails as Block);
      for (const margin of margins) size += blockSize(margin);
      for (const { packedPicture, top } of heads) {
        if (packedPicture) size += blockSize(packedPicture);
        for (const block of top.slice(0, this.tops)) size += blockSize(block);
      }
    }
    return size < this.maxSize;
  }

  /** Leaves out what no longer fits, after heads were added to the last attention. */
  async fit(overhead = 0): Promise<void> {
    this.sizes[this.attentions.length - 1] = undefined;
    while (this.size(overhead) > this.maxSize) {
      if (this.encoding === 'log8' && this.dropOldestFull()) continue;
      if (this.encoding !== 'log8') this.dropEncoding();
      else if (this.tops > 2) this.tops--;
      else if (this.side < SIDES.length - 1) await this.shrinkPictures();
      else if (this.tops > 1) this.tops--;
      else throw tooLarge(this.heads().length, this.size(overhead), this.maxSize);
      this.sizes.fill(undefined);
    }
  }

  private dropEncoding(): void {
    const dropped = this.encoding as 'float32' | 'log16';
    this.encoding = dropped === 'float32' ? 'log16' : 'log8';
    for (const head of this.heads()) delete head[dropped];
    this.sizes.fill(undefined);
  }

  private dropOldestFull(): boolean {
    for (const [i, { heads }] of this.attentions.entries()) {
      const oldest = heads.find(({ log8 }) => log8);
      if (!oldest) continue;
      delete oldest.log8;
      this.sizes[i] = undefined;
      return true;
    }
    return false;
  }

  private async shrinkPictures(): Promise<void> {
    this.side++;
    for (const head of this.heads()) {
      const { rows, columns, codes } = head.picture;
      const size = pictureSize(rows, columns, SIDES[this.side] as number);
      if (size.rows === rows && size.columns === columns) continue;
      head.picture = { ...size, codes: maxPool(codes, rows, columns, size.rows, size.columns) };
      head.packedPicture = await pack(head.picture.codes);
    }
  }

  private heads(): PackedHead[] {
    return this.attentions.flatMap(({ heads }) => heads);
  }

  /** Whether all heads of an attention are there at full resolution, so that their mean needs no picture. */
  private isWhole({ heads }: PackedAttention): boolean {
    return heads.every((head) => head.isMean || head[this.encoding] !== undefined);
  }

  private hasPicture(head: PackedHead, whole: boolean): boolean {
    if (Math.max(head.picture.rows, head.picture.columns) <= THUMBNAIL_SIDE) return false;
    return head.isMean ? !whole : head[this.encoding] === undefined;
  }

  private hasTop(head: PackedHead, whole: boolean): boolean {
    if (head.isMean) return !(whole && this.encoding === 'float32');
    return !(this.encoding === 'float32' && head.float32);
  }

  private size(overhead: number): number {
    let size = overhead;
    for (const [i, attention] of this.attentions.entries()) {
      size += this.sizes[i] ??= this.sizeOf(attention);
      if (!overhead) size += HEAD_BYTES * attention.heads.length;
    }
    return size;
  }

  private sizeOf(attention: PackedAttention): number {
    const whole = this.isWhole(attention);
    let size = blockSize(attention.thumbnails as Block);
    for (const margin of attention.margins) size += blockSize(margin);
    for (const head of attention.heads) {
      const full = head[this.encoding];
      if (full) size += blockSize(full);
      if (this.hasPicture(head, whole)) size += blockSize(head.packedPicture as Block);
      if (this.hasTop(head, whole)) for (const block of head.top.slice(0, this.tops)) size += blockSize(block);
    }
    return size;
  }

  /** Writes the blocks, and where they are into the data. */
  async finish(data: ViewData): Promise<{ data: ViewData; stores: string[][] }> {
    this.place(data);
    // Places are numbers of like length whatever is left out.
    await this.fit(Buffer.byteLength(JSON.stringify(data)) + 64 * this.attentions.length);
    const stores = this.place(data);
    return { data, stores: stores.map((blocks) => blocks.map((block) => block.toString('base64'))) };
  }

  private place(data: ViewData): Block[][] {
    data.encoding = this.encoding;
    data.topK = RANKS[this.tops] as number;
    const stores: Block[][] = this.attentions.map(() => []);
    for (const { attentions } of data.examples) {
      for (const target of attentions) {
        const attention = this.attentions[target.store] as PackedAttention;
        const blocks = stores[target.store] as Block[];
        const put = (block: Block | Uint8Array | undefined) => (block ? blocks.push(Buffer.from(block)) - 1 : -1);
        const whole = this.isWhole(attention);
        const { picture } = attention.heads[0] as PackedHead;
        target.picture = { rows: picture.rows, columns: picture.columns };
        target.blocks = {
          thumbnails: put(attention.thumbnails),
          margins: attention.margins.map(put),
          picture: attention.heads.map((head) => (this.hasPicture(head, whole) ? put(head.packedPicture) : -1)),
          top: attention.heads.map((head) => (this.hasTop(head, whole) ? head.top.slice(0, this.tops).map(put) : [])),
          full: attention.heads.map((head) => put(head[this.encoding])),
        };
      }
    }
    return stores;
  }
}

/** Bytes of base64 that the strongest key of one query takes, deflated: hardly any head takes less. */
const TOP_BYTES = 2.5;

/**
 * Refuses attentions of which not even thumbnails and the largest weight of each query would fit in a page, before anything
 * is captured.
 * @param sites By attention: its matrices (of all sequences and heads) and its queries.
 * @throws {TorchError} ERR_CAPTURE_TOO_LARGE
 */
export function refuseTooLarge(sites: readonly { matrices: number; queries: number }[], maxSize: number): void {
  let size = 0;
  let heads = 0;
  for (const { matrices, queries } of sites) {
    heads += matrices;
    size += matrices * (HEAD_BYTES + TOP_BYTES * queries);
  }
  if (size > maxSize) throw tooLarge(heads, size, maxSize);
}

function tooLarge(heads: number, size: number, maxSize: number): TorchError {
  return new TorchError(
    'ERR_CAPTURE_TOO_LARGE',
    `Expected attention of which at least thumbnails and the largest weight of each query fit in ${inUnits(maxSize)} but received ${heads} heads that take ${inUnits(size)}; ` +
      'allow a larger page, or capture fewer layers, heads or queries',
  );
}

function inUnits(bytes: number): string {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}
