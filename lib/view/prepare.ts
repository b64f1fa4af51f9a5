import { setImmediate as nextTurn } from 'node:timers/promises';
import { type CodeScale, decodedCodes } from '../capture/weight-codes';
import { TorchError } from '../core/errors';
import { elementCount } from '../core/shape';
import { attentionLabels } from './attention-labels';
import { isPaddingToken, isSpecial, kindOf, TokenLists, withoutPadding } from './axis-tokens';
import { pack } from './block';
import { maxPool, pictureSize } from './max-pool';
import { type PackedAttention, type PackedHead, PageBudget, THUMBNAIL_SIDE } from './page-budget';
import { type HeadLayout, scanHead, TOP } from './scan-head';
import type { AttentionKind, HeldType, ViewData, ViewDataAttention, ViewDataExample, ViewDataImage } from './view-data';
import { ABSENT, ABSENT_BITS, encodeWeight, logCodeOf, MASKED, MASKED_BITS } from './weight-code';

/** What is used of a `Tensor`. */
interface TensorLike {
  readonly shape: readonly number[];
  readonly dtype: string;
  select(dim: number, index: number): TensorLike;
  to(options: { dtype: 'float32' }): TensorLike;
  narrow(dim: number, start: number, length: number): TensorLike;
  mean(dim: number): TensorLike;
  copyTo(target: Float32Array): void;
  dispose(): void;
}

/** Elements as a tensor, or as an array with their shape; row-major. */
export type Elements = TensorLike | { shape: readonly number[]; data: ArrayLike<number | bigint> };

/** One attention to show: the fields of the package's `Attention` that are looked at. */
export interface ViewAttention {
  name: string;
  operator: string;
  /** `[B, H, Q, K]`, or `[B, Q, K]` where the heads were averaged. */
  weights: Elements;
  /** Of weights in uint8 that are codes. */
  scale?: CodeScale;
  /** Of a capture with `topK`: the key positions of the weights. */
  keys?: Elements;
  /** The shape of the whole attention: its last size tells the number of keys of a capture with `topK`. */
  shape?: readonly number[];
  /** What the capture held, where its weights aren't those that it held any more. */
  held?: HeldType;
  /** Of a capture that holds codes: the weights that they stand for. */
  decode?(): TensorLike;
  heads: readonly number[];
  queries: readonly number[];
  /** `'encoder'`, `'decoder'`, `'cross'` or `'derived'`; told from the name and the weights where it is none of these. */
  kind?: string;
  /** Tokens of the whole query and key sequence, where they are not those of the example. */
  queryTokens?: readonly string[];
  keyTokens?: readonly string[];
}

/** One run of a model, as `prepareView` takes it. A batch of several sequences is shown as so many examples. */
export interface PrepareExample {
  title?: string;
  attentions: Iterable<ViewAttention> | AsyncIterable<ViewAttention>;
  /** Tokens of the sequence, in an encoder-decoder model of the encoder's; a list for each sequence of a batch. */
  tokens?: readonly string[] | readonly (readonly string[])[];
  /** Tokens of the decoder's sequence in an encoder-decoder model. */
  targetTokens?: readonly string[] | readonly (readonly string[])[];
  /** Whether tokens that are those of no attention are an error; else positions are shown. */
  mustFit?: boolean;
  /** What stood in the text where the token doesn't say, by position of `tokens`. */
  sources?: Record<number, string>;
  image?: ViewDataImage;
  /** Of a generation: how many tokens were given. */
  prompt?: number;
}

/** The data of a page and its blocks: lines of base64 by script element. */
export interface PreparedView {
  data: ViewData;
  stores: string[][];
}

export interface PrepareOptions {
  /** Bytes that the blocks and the data may take. */
  maxSize: number;
  compare?: boolean;
  /** Where the page asks for weights at full resolution that it lacks. */
  live?: string;
  /**
   * Is told which cells of an attention are masked (1), by its place in the page; undefined where none are. The array is
   * another attention's as soon as it returns.
   */
  onMask?: (attention: number, mask: Uint8Array | undefined) => Promise<void>;
}

const KINDS: readonly string[] = ['encoder', 'decoder', 'cross', 'derived'];

/**
 * Makes the data of a page from captured attentions, one at a time: no more than one is looked at, and what is kept of it
 * is no larger than the page.
 *
 * Each attention's axes are labelled with its own tokens, else with the example's: the encoder's self-attention with
 * `tokens`, the decoder's with `targetTokens`, cross-attention with both; where their lengths don't fit, with the list
 * that does, else with positions.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for weights whose shape doesn't fit their data, heads or queries;
 *   ERR_CAPTURE_TOO_LARGE for more heads than a page of this size can hold pictures of.
 */
export async function prepareView(examples: readonly PrepareExample[], options: PrepareOptions): Promise<PreparedView> {
  const budget = new PageBudget(options.maxSize);
  const prepared: ViewDataExample[] = [];
  const making = { budget, scratch: new Scratch(), onMask: options.onMask };
  for (const example of examples) prepared.push(...(await prepareExample(example, making)));
  const data: ViewData = {
    encoding: budget.encoding,
    topK: 0,
    ...(options.compare ? { compare: true } : {}),
    ...(options.live === undefined ? {} : { live: options.live }),
    examples: prepared,
  };
  return budget.finish(data);
}

/** An attention of the page while its example isn't complete. */
type Draft = Omit<ViewDataAttention, 'label'>;

/** What a page is made with. */
interface Making {
  budget: PageBudget;
  scratch: Scratch;
  onMask: PrepareOptions['onMask'];
}

async function prepareExample(example: PrepareExample, making: Making): Promise<ViewDataExample[]> {
  const items: { tokens: TokenLists; attentions: Draft[] }[] = [];
  const names: string[] = [];
  for await (const attention of example.attentions) {
    check(attention);
    names.push(attention.name);
    const batch = attention.weights.shape[0] as number;
    const held = heldType(attention);
    const decoded = held?.startsWith('uint8') ? attention.decode?.() : undefined;
    try {
      const whole = decoded ? { ...attention, weights: decoded } : attention;
      for (let item = 0; item < batch; item++) {
        const target = (items[item] ??= { tokens: new TokenLists(), attentions: [] });
        const draft = await prepareAttention(whole, item, names, example, target.tokens, making);
        target.attentions.push({ ...draft, ...(held && { held }) });
      }
    } finally {
      decoded?.dispose();
    }
  }
  if (!items.length) items.push({ tokens: new TokenLists(), attentions: [] });
  for (const [item, { tokens, attentions }] of items.entries()) checkTokens(example, item, tokens, attentions);
  checkImage(
    example,
    items.flatMap(({ attentions }) => attentions),
  );
  return items.map(({ tokens, attentions }, item) => {
    const labels = labelsOf(attentions);
    const title = example.title ?? '';
    return {
      title: items.length > 1 ? `${title} (${item + 1} of ${items.length})` : title,
      tokens: tokens.lists,
      special: tokens.lists.map((list) => list.flatMap((token, i) => (isSpecial(token) ? [i] : []))),
      ...(example.sources
        ? {
            sources: tokens.lists.map((list) =>
              sameTokens(list, listOf(example.tokens, item)) ? (example.sources ?? {}) : {},
            ),
          }
        : {}),
      ...(example.image ? { image: example.image } : {}),
      ...(example.prompt === undefined ? {} : { prompt: example.prompt }),
      attentions: attentions.map((attention, i) => ({ ...attention, label: labels[i] as string })),
    };
  });
}

/** The type that a capture holds weights in, where it rounds them. */
function heldType({ weights, decode, scale, held }: ViewAttention): HeldType | undefined {
  if (held) return held;
  const dtype = isTensor(weights) ? weights.dtype : '';
  return dtype === 'uint8' && !decode ? undefined : heldIn(dtype, scale);
}

/** The type that weights are held in, where it rounds them. */
export function heldIn(dtype: string, scale: CodeScale | undefined): HeldType | undefined {
  if (dtype === 'float16' || dtype === 'bfloat16') return dtype;
  if (dtype !== 'uint8') return undefined;
  return scale ? `uint8 ${scale}` : 'uint8';
}

/** Labels that fit nowhere would be left out without a word. */
function checkTokens(example: PrepareExample, item: number, used: TokenLists, attentions: readonly Draft[]): void {
  const given = [listOf(example.tokens, item), listOf(example.targetTokens, item)].filter((list) => list !== undefined);
  if (!example.mustFit || !given.length || used.lists.length || !attentions.length) return;
  const sizes = new Set(attentions.flatMap(({ rows, columns }) => [rows, columns]));
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected a token for each position of '${example.title ?? ''}', ${[...sizes].join(' or ')}, but received ` +
      `${[...new Set(given.map((list) => list.length))].join(' and ')}`,
  );
}

/** Short names; a gradient is called after the attention whose it is. */
function labelsOf(attentions: readonly Draft[]): string[] {
  const measured = attentions.filter(({ kind }) => kind !== 'derived');
  const short = attentionLabels(measured);
  return attentions.map((attention) => {
    if (attention.kind !== 'derived') return short[measured.indexOf(attention)] as string;
    const of = measured.findIndex(({ name }) => name === attention.name);
    return attention.operator === 'gradient' && of >= 0 ? `gradient of ${short[of]}` : attention.name;
  });
}

/** A picture whose patches are no attention's keys would be an empty view. */
function checkImage({ title, image }: PrepareExample, attentions: readonly Draft[]): void {
  if (!image || !attentions.length) return;
  const [down, across] = image.patches;
  const count = image.prefix + down * across;
  if (attentions.some(({ columns }) => columns === count)) return;
  const received = [...new Set(attentions.map(({ columns }) => columns))].join(', ');
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected a picture whose patches are keys of an attention of '${title ?? ''}' but received ${down} × ${across} patches and ` +
      `${image.prefix} tokens before them, ${count} in all, where attentions have ${received} keys`,
  );
}

function sameTokens(a: readonly string[], b: readonly string[] | undefined): boolean {
  return b !== undefined && a.length === b.length && a.every((token, i) => token === b[i]);
}

/** The tokens of one sequence of a batch. */
function listOf(
  tokens: readonly string[] | readonly (readonly string[])[] | undefined,
  item: number,
): readonly string[] | undefined {
  if (tokens === undefined || !Array.isArray(tokens[0])) return tokens as readonly string[] | undefined;
  return (tokens as readonly (readonly string[])[])[item];
}

function check({ name, weights, keys, heads, queries }: ViewAttention): void {
  const { shape } = weights;
  const averaged = shape.length === 3;
  const received = isTensor(weights) ? elementCount(shape) : weights.data.length;
  const fits =
    (averaged || (shape.length === 4 && shape[1] === heads.length)) &&
    shape.at(-2) === queries.length &&
    received === elementCount(shape) &&
    (!keys || keys.shape.join() === shape.join());
  if (fits) return;
  const expected = `[B, ${heads.length}, ${queries.length}, K], or [B, ${queries.length}, K] for averaged heads`;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected weights of shape ${expected}, for attention '${name}' but received ${received} elements of shape [${shape.join(', ')}]`,
  );
}

function isTensor(elements: Elements): elements is TensorLike {
  return 'copyTo' in elements;
}

/** Elements whose mean over the heads is made at once. */
const AVERAGED = 2 ** 20;

/** Copies the elements of one head of a tensor. */
function copyHead(elements: TensorLike, item: number, head: number, target: Float32Array): void {
  withParts((keep) => {
    const matrices = keep(elements.select(0, item));
    (elements.shape.length === 4 ? keep(matrices.select(0, head)) : matrices).copyTo(target);
  });
}

/** Copies the mean over the heads of a tensor, a few rows at a time: the whole of it would lie beside its copy. */
async function copyMean(elements: TensorLike, item: number, target: Float32Array): Promise<void> {
  const [, heads, rows, columns] = elements.shape as [number, number, number, number];
  const step = Math.max(1, Math.floor(AVERAGED / Math.max(1, heads * columns)));
  for (let row = 0; row < rows; row += step) {
    const end = Math.min(rows, row + step);
    withParts((keep) => {
      const part = keep(keep(elements.select(0, item)).narrow(1, row, end - row));
      const floats = part.dtype === 'float32' ? part : keep(part.to({ dtype: 'float32' }));
      keep(floats.mean(0)).copyTo(target.subarray(row * columns, end * columns));
    });
    await nextTurn();
  }
}

/** Disposes the tensors that are made of others on the way, whatever happens. */
function withParts(use: (keep: <T extends TensorLike>(tensor: T) => T) => void): void {
  const parts: TensorLike[] = [];
  try {
    use((tensor) => {
      parts.push(tensor);
      return tensor;
    });
  } finally {
    for (const part of parts) part.dispose();
  }
}

/** The elements of one head of an array. */
function headOf(
  { shape, data }: Exclude<Elements, TensorLike>,
  item: number,
  head: number,
): ArrayLike<number | bigint> {
  const size = (shape.at(-1) as number) * (shape.at(-2) as number);
  const heads = shape.length === 4 ? (shape[1] as number) : 1;
  const start = (item * heads + head) * size;
  if (data instanceof Float32Array) return data.subarray(start, start + size);
  return Array.prototype.slice.call(data, start, start + size) as (number | bigint)[];
}

/** Whether weights that have a scale are codes still, in an array of their own or a tensor. */
function areCodes(elements: Elements): boolean {
  return isTensor(elements) ? elements.dtype === 'uint8' : elements.data instanceof Uint8Array;
}

/** Memory that is used again for the next attention: freed, it would stay until the next garbage collection. */
class Scratch {
  private readonly buffers = new Map<string, ArrayBuffer>();

  /** So many elements, of whatever was there last. */
  floats(use: 'head' | 'sum', length: number): Float32Array {
    return new Float32Array(this.take(use, 4 * length), 0, length);
  }

  bytes(use: 'codes' | 'mask', length: number): Uint8Array {
    return new Uint8Array(this.take(use, length), 0, length);
  }

  private take(use: string, bytes: number): ArrayBuffer {
    let buffer = this.buffers.get(use);
    if (!buffer || buffer.byteLength < bytes) this.buffers.set(use, (buffer = new ArrayBuffer(bytes)));
    return buffer;
  }
}

/** Gives the weights of one head after the other, whole rows, whatever the capture holds of them. */
class HeadReader {
  readonly matrices: number;
  readonly rows: number;
  readonly columns: number;
  /** Keys of each row that the capture holds. */
  private readonly held: number;
  /** The same, where those are not all. */
  readonly topK: number | undefined;

  constructor(
    private readonly attention: ViewAttention,
    private readonly item: number,
    private readonly scratch: Scratch,
  ) {
    const { shape } = attention.weights;
    this.matrices = shape.length === 3 ? 1 : (shape[1] as number);
    this.rows = shape.at(-2) as number;
    this.held = shape.at(-1) as number;
    this.columns = attention.keys ? Math.max(this.held, attention.shape?.at(-1) ?? this.held) : this.held;
    this.topK = attention.keys && this.held < this.columns ? this.held : undefined;
  }

  /** The weights of a head, until the next are read; which were captured, where not all were. */
  async read(head: number): Promise<{ weights: Float32Array; captured: Uint8Array | undefined }> {
    const { weights: elements, scale, keys } = this.attention;
    await nextTurn();
    const values = this.elementsOf(elements, head, this.scratch.floats('head', this.rows * this.held));
    if (scale && areCodes(elements)) decodedCodes(values, scale, values);
    if (!keys) return { weights: values, captured: undefined };
    // Positions below 2²⁴ are exact in float32.
    const positions = this.elementsOf(keys, head, new Float32Array(values.length));
    const weights = new Float32Array(this.rows * this.columns);
    const captured = this.topK === undefined ? undefined : new Uint8Array(weights.length);
    for (let i = 0; i < values.length; i++) {
      const at = Math.floor(i / this.held) * this.columns + (positions[i] as number);
      weights[at] = values[i] as number;
      if (captured) captured[at] = 1;
    }
    return { weights, captured };
  }

  /** The mean over the heads, where whole rows are held, until the next weights are read. */
  async readMean(): Promise<Float32Array> {
    const { weights: elements, scale, keys } = this.attention;
    const size = this.rows * this.columns;
    if (isTensor(elements) && !keys && !(scale && areCodes(elements))) {
      const mean = this.scratch.floats('head', size);
      await copyMean(elements, this.item, mean);
      return mean;
    }
    const sum = this.scratch.floats('sum', size).fill(0);
    for (let head = 0; head < this.matrices; head++) {
      const { weights } = await this.read(head);
      for (let i = 0; i < size; i++) sum[i] = (sum[i] as number) + (weights[i] as number);
    }
    for (let i = 0; i < size; i++) sum[i] = (sum[i] as number) / this.matrices;
    return sum;
  }

  private elementsOf(elements: Elements, head: number, target: Float32Array): Float32Array {
    if (isTensor(elements)) {
      copyHead(elements, this.item, head, target);
      return target;
    }
    const own = headOf(elements, this.item, head);
    return own instanceof Float32Array ? own : Float32Array.from(own, Number);
  }
}

/** What a first walk over all heads tells: which cells no head looks at, and how large weights get. */
async function survey(reader: HeadReader, scratch: Scratch) {
  const size = reader.rows * reader.columns;
  let mask: Uint8Array | undefined;
  let largest = 0;
  let signed = false;
  for (let head = 0; head < reader.matrices; head++) {
    const { weights, captured } = await reader.read(head);
    if (!captured) {
      mask ??= scratch.bytes('mask', size).fill(1);
      for (let i = 0; i < size; i++) if (weights[i] !== 0) mask[i] = 0;
    }
    for (let i = 0; i < size; i++) {
      const weight = weights[i] as number;
      if (weight > largest) largest = weight;
      else if (weight < 0) {
        signed = true;
        if (-weight > largest) largest = -weight;
      }
    }
  }
  if (mask && !mask.includes(1)) mask = undefined;
  return { mask, signed, largest };
}

/** Whether what every head has at 0 may be no mask: of one head alone, or where weights are 0 as often as not. */
function zerosAreCommon({ heads, kind }: ViewAttention): boolean {
  return heads.length < 2 || ['unnormalized', 'signed', 'relu'].includes(kind ?? '');
}

/** What codes are shares of. */
function codeScale(kind: AttentionKind, signed: boolean, largest: number): number {
  if (!(largest > 0) || !Number.isFinite(largest)) return 1;
  return largest > 1.0001 || signed || kind === 'derived' ? largest : 1;
}

/** One head with what its cells are, as `markedHead` gives it. */
export interface MarkedHead {
  weights: Float32Array;
  rows: number;
  columns: number;
  mask: Uint8Array | undefined;
  /** The largest size of a weight of all heads. */
  largest: number;
}

/**
 * One matrix of an attention, `rows × columns`, with cells that are masked or were not captured marked by their bits.
 * @param known Which cells are masked, where the heads that are there don't tell.
 */
export async function markedHead(
  attention: ViewAttention,
  item: number,
  matrix: number,
  known?: Uint8Array,
): Promise<MarkedHead> {
  check(attention);
  const scratch = new Scratch();
  const reader = new HeadReader(attention, item, scratch);
  const surveyed = await survey(reader, scratch);
  const mask = known ?? surveyed.mask;
  const { weights, captured } = await reader.read(matrix);
  const marked = weights.slice();
  const bits = new Uint32Array(marked.buffer);
  for (let i = 0; i < marked.length; i++) {
    if (captured?.[i] === 0) bits[i] = ABSENT_BITS;
    else if (mask?.[i] === 1) bits[i] = MASKED_BITS;
  }
  return { weights: marked, rows: reader.rows, columns: reader.columns, mask, largest: surveyed.largest };
}

/** Rows and columns of a head that are no padding: [from, to). */
export function shownOf(
  { name, queries, kind }: Pick<ViewAttention, 'name' | 'queries' | 'kind'>,
  { rows, columns, mask }: Pick<MarkedHead, 'rows' | 'columns' | 'mask'>,
  queryTokens: readonly string[] | undefined,
  keyTokens: readonly string[] | undefined,
): ViewDataAttention['shown'] {
  const causal = isCausal(mask, queries, rows, columns);
  const own = kind ?? kindOf({ name, rows, columns, queries, causal }, [name]);
  return shownPart({ rows, columns, queries, mask, kind: own as AttentionKind }, queryTokens, keyTokens);
}

async function prepareAttention(
  attention: ViewAttention,
  item: number,
  names: readonly string[],
  example: PrepareExample,
  tokens: TokenLists,
  { budget, scratch, onMask }: Making,
): Promise<Draft> {
  const { name, operator, heads, queries } = attention;
  const reader = new HeadReader(attention, item, scratch);
  const { rows, columns, matrices } = reader;
  const averaged = attention.weights.shape.length === 3;
  const { mask, signed, largest } = await survey(reader, scratch);
  const identity = queries.every((query, row) => query === row);
  const causal = isCausal(mask, queries, rows, columns);
  const kind = KINDS.includes(attention.kind ?? '')
    ? (attention.kind as AttentionKind)
    : kindOf({ name, rows, columns, queries, causal }, names);
  const scale = codeScale(kind, signed, largest);

  const encoder = listOf(example.tokens, item);
  const decoder = listOf(example.targetTokens, item) ?? encoder;
  const last = queries.reduce((most, query) => Math.max(most, query), -1);
  const ofSource = kind === 'encoder' || (kind === 'derived' && !/decoder/i.test(name));
  const queryTokens = tokens.find([attention.queryTokens, ofSource ? encoder : decoder, decoder, encoder], (length) =>
    identity ? length === rows : length > last,
  );
  const keyTokens = tokens.find(
    [attention.keyTokens, ofSource || kind === 'cross' ? encoder : decoder, encoder, decoder],
    (length) => length === columns,
  );
  const shown = shownPart(
    { rows, columns, queries, mask, kind },
    tokens.lists[queryTokens ?? -1],
    tokens.lists[keyTokens ?? -1],
  );
  const keyList = tokens.lists[keyTokens ?? -1];
  const special = Array.from({ length: columns }, (_, i) => i).filter(
    (i) => i >= shown.columns[0] && i < shown.columns[1] && (i === shown.columns[0] || isSpecial(keyList?.[i] ?? '')),
  );
  const layout = { rows, columns, queries, shown, special, cross: kind === 'cross', mask, scale, signed };

  const packed: PackedAttention = { heads: [], thumbnails: new Uint8Array(), margins: [] };
  const entry = budget.add(packed);
  await onMask?.(entry, mask);
  const thumbnail = pictureSize(rows, columns, THUMBNAIL_SIDE);
  // Of the strongest keys alone no mean over heads is known.
  const hasMean = matrices > 1 && reader.topK === undefined;
  const thumbnails = new Uint8Array((hasMean ? matrices + 1 : matrices) * thumbnail.rows * thumbnail.columns);
  const stats: ViewDataAttention['stats'] = [];

  const store = async (weights: Float32Array, captured: Uint8Array | undefined, isMean: boolean) => {
    const codes = scratch.bytes('codes', rows * columns);
    const scanned = scanHead(weights, { ...layout, captured } satisfies HeadLayout, codes);
    stats.push(scanned.stats);
    thumbnails.set(
      maxPool(scanned.codes, rows, columns, thumbnail.rows, thumbnail.columns),
      (stats.length - 1) * thumbnail.rows * thumbnail.columns,
    );
    const picture = pictureSize(rows, columns, budget.pictureSide(Math.max(rows, columns)));
    const head: PackedHead = {
      picture: { ...picture, codes: maxPool(scanned.codes, rows, columns, picture.rows, picture.columns) },
      top: await packTop(scanned.topWeights, scanned.topKeys, rows),
      isMean,
    };
    head.packedPicture = await pack(head.picture.codes);
    packed.heads.push(head);
    const margins = new Uint8Array(rows + columns);
    margins.set(scanned.entropy);
    margins.set(scanned.received, rows);
    packed.margins.push(await pack(margins));
    if (!isMean) await addFull(head, weights, scanned.codes, { matrices, scale, signed }, budget);
    await budget.fit();
  };

  for (let head = 0; head < matrices; head++) {
    const { weights, captured } = await reader.read(head);
    await store(weights, captured, false);
  }
  if (hasMean) await store(await reader.readMean(), undefined, true);
  packed.thumbnails = await pack(thumbnails);
  await budget.fit();

  return {
    name,
    operator,
    kind,
    averaged,
    heads: [...heads],
    rows,
    columns,
    ...(identity ? {} : { queries: [...queries] }),
    ...(queryTokens === undefined ? {} : { queryTokens }),
    ...(keyTokens === undefined ? {} : { keyTokens }),
    ...(reader.topK === undefined ? {} : { capturedTopK: reader.topK }),
    ...(signed ? { signed } : {}),
    causal,
    masked: mask !== undefined,
    ...(mask && zerosAreCommon(attention) ? { maybeZero: true } : {}),
    scale,
    shown,
    thumbnail,
    picture: pictureSize(rows, columns, THUMBNAIL_SIDE),
    stats,
    store: entry,
    blocks: { thumbnails: -1, picture: [], margins: [], top: [], full: [] },
  };
}

/** Rows and columns that are no padding: no query looks at the key, or the token says so. */
function shownPart(
  {
    rows,
    columns,
    queries,
    mask,
    kind,
  }: {
    rows: number;
    columns: number;
    queries: readonly number[];
    mask: Uint8Array | undefined;
    kind: AttentionKind;
  },
  queryTokens: readonly string[] | undefined,
  keyTokens: readonly string[] | undefined,
): { rows: [number, number]; columns: [number, number] } {
  const isMasked = (column: number) => {
    if (!mask || rows < 2) return false;
    for (let row = 0; row < rows; row++) if (mask[row * columns + column] === 0) return false;
    return true;
  };
  const maskedKeys = new Map<number, boolean>();
  /** T5 and others begin what a decoder reads with a token of padding: alone at the beginning it is none. */
  const isNamed = (tokens: readonly string[] | undefined, position: number, ofDecoder: boolean) =>
    isPaddingToken(tokens?.[position]) && !(ofDecoder && position === 0 && !isPaddingToken(tokens?.[1]));
  const isPaddingKey = (column: number) => {
    if (isNamed(keyTokens, column, kind === 'decoder')) return true;
    const known = maskedKeys.get(column) ?? isMasked(column);
    maskedKeys.set(column, known);
    return known;
  };
  const shownColumns = withoutPadding(columns, isPaddingKey);
  const self = kind !== 'cross';
  const shownRows = withoutPadding(rows, (row) => {
    const position = queries[row] as number;
    if (isNamed(queryTokens, position, kind === 'decoder' || kind === 'cross')) return true;
    return self && position < columns && (position < shownColumns[0] || position >= shownColumns[1]);
  });
  return { rows: shownRows, columns: shownColumns };
}

function isCausal(mask: Uint8Array | undefined, queries: readonly number[], rows: number, columns: number): boolean {
  if (!mask) return false;
  let later = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = (queries[row] as number) + 1; column < columns; column++) {
      if (mask[row * columns + column] === 0) return false;
      later++;
    }
  }
  return later > 0;
}

/** Blocks of the ranks 1, 2 and 3 to 4: each can be left out without the ones before it. */
async function packTop(weights: Float32Array, keys: Uint32Array, rows: number) {
  const ranks = [
    [0, 1],
    [1, 2],
    [2, TOP],
  ] as const;
  return await Promise.all(
    ranks.map(async ([from, to]) => {
      const width = to - from;
      const bytes = new Uint32Array(2 * rows * width);
      const bits = new Uint32Array(weights.buffer);
      for (let row = 0; row < rows; row++) {
        for (let rank = 0; rank < width; rank++) {
          bytes[row * width + rank] = bits[row * TOP + from + rank] as number;
          bytes[(rows + row) * width + rank] = keys[row * TOP + from + rank] as number;
        }
      }
      return await pack(bytes);
    }),
  );
}

/** Full resolution in each encoding that the page may still end up with. */
async function addFull(
  head: PackedHead,
  weights: Float32Array,
  codes: Uint8Array,
  { matrices, scale, signed }: { matrices: number; scale: number; signed: boolean },
  budget: PageBudget,
): Promise<void> {
  const code16 = logCodeOf(16, signed);
  // A little less than heads of this kind take, by a sample of this one.
  const sample = sampled(codes);
  const density = (0.8 * (await pack(sample)).length) / sample.length;
  // Of very many weights nothing but codes of 8 bits would stay, and what is made of one head would lie beside all that was captured.
  const least = weights.length * matrices > MOST_EXACT ? Number.POSITIVE_INFINITY : density * weights.length * matrices;
  if (budget.wants('float32', 2.5 * least)) {
    const exact = weights.slice();
    const bits = new Uint32Array(exact.buffer);
    for (let i = 0; i < codes.length; i++) {
      if (codes[i] === MASKED) bits[i] = MASKED_BITS;
      else if (codes[i] === ABSENT) bits[i] = ABSENT_BITS;
    }
    head.float32 = await pack(exact);
  }
  if (budget.wants('log16', 1.5 * least)) {
    const halves = new Uint16Array(weights.length);
    for (let i = 0; i < halves.length; i++) {
      const code = codes[i] as number;
      halves[i] = code === MASKED || code === ABSENT ? code : encodeWeight(code16, (weights[i] as number) / scale);
    }
    head.log16 = await pack(halves);
  }
  if (budget.hasRoomFor(density * codes.length)) head.log8 = await pack(codes);
}

const SAMPLE = 2 ** 16;
/** So many weights of an attention have a chance to be there with more than 8 bits. */
const MOST_EXACT = 2 ** 26;

/** Stretches from all over an array, where it is long. */
function sampled(codes: Uint8Array): Uint8Array {
  if (codes.length <= SAMPLE) return codes;
  const sample = new Uint8Array(SAMPLE);
  const stretch = SAMPLE / 64;
  for (let i = 0; i < 64; i++) {
    const start = Math.floor((i * (codes.length - stretch)) / 63);
    sample.set(codes.subarray(start, start + stretch), i * stretch);
  }
  return sample;
}
