import { TorchError } from '../errors';
import { toFloat16Bits } from '../formats/half';
import { attentionLabels } from './attention-labels';
import type { AttentionKind, Thumbnails, ViewData, ViewDataAttention, ViewDataExample } from './view-data';

/** One attention to show: the fields of the package's `Attention`, with the weights as a plain array. */
export interface ViewAttention {
  name: string;
  operator: string;
  /** `[B, H, Q, K]`, or `[B, Q, K]` where the heads were averaged; row-major. */
  weights: { shape: readonly number[]; data: Float32Array };
  heads: readonly number[];
  queries: readonly number[];
  /** Told from the name and the weights where absent. */
  kind?: AttentionKind;
  /** Tokens of the whole query and key sequence, where they are not those of the example. */
  queryTokens?: readonly string[];
  keyTokens?: readonly string[];
}

/** One run of a model. A batch of several sequences is shown as so many examples, all with the same tokens. */
export interface ViewExample {
  title: string;
  attentions: readonly ViewAttention[];
  /** Tokens of the sequence, in an encoder-decoder model of the decoder's. Positions are shown where none fit. */
  queryTokens?: readonly string[];
  /** Tokens of the encoder's sequence in an encoder-decoder model. Default: `queryTokens`. */
  keyTokens?: readonly string[];
}

const FLOAT32_LIMIT = 32 * 2 ** 20;
/** Beyond this a page is too large for a browser (and, in base64, nearly for a string of Node). */
const TOTAL_LIMIT = 320 * 2 ** 20;
const THUMBNAIL_SIZE = 48;

/**
 * Makes the data of a page from captured attentions.
 *
 * Each attention's axes are labelled with its own tokens, else with the example's: the encoder's self-attention with
 * `keyTokens`, the decoder's with `queryTokens`, cross-attention with both; where their lengths don't fit, with the
 * list that does, else with positions. Weights are kept as float32; if all together take more than 32 MiB, as float16.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for weights whose shape doesn't fit their data, heads or queries;
 *   ERR_CAPTURE_TOO_LARGE for more weights than a page can hold (320 MiB as float16).
 */
export function prepareView(examples: readonly ViewExample[]): ViewData {
  const bytes = examples
    .flatMap((example) => example.attentions)
    .reduce((sum, { weights }) => sum + weights.data.byteLength, 0);
  const encoding = bytes > FLOAT32_LIMIT ? 'float16' : 'float32';
  if (bytes / 2 > TOTAL_LIMIT) {
    const mebibytes = Math.ceil(bytes / 2 ** 21);
    throw new TorchError(
      'ERR_CAPTURE_TOO_LARGE',
      `A page holds at most ${TOTAL_LIMIT / 2 ** 20} MiB of attention weights as float16 but received ${mebibytes} MiB; ` +
        'capture fewer layers, heads or queries',
    );
  }
  const data: ViewData = { encoding, examples: [], weights: [] };
  for (const example of examples) {
    for (const attention of example.attentions) check(attention);
    const batch = Math.max(1, ...example.attentions.map(({ weights }) => weights.shape[0] ?? 1));
    for (let item = 0; item < batch; item++) data.examples.push(prepareExample(example, item, batch, data));
  }
  return data;
}

function check({ name, weights: { shape, data }, heads, queries }: ViewAttention): void {
  const averaged = shape.length === 3;
  const fits =
    (averaged || (shape.length === 4 && shape[1] === heads.length)) &&
    shape.at(-2) === queries.length &&
    data.length === shape.reduce((product, size) => product * size, 1);
  if (!fits) {
    const expected = `[B, ${heads.length}, ${queries.length}, K], or [B, ${queries.length}, K] for averaged heads`;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected weights of shape ${expected}, for attention '${name}' but received ${data.length} elements of shape [${shape.join(', ')}]`,
    );
  }
}

function prepareExample(example: ViewExample, item: number, batch: number, data: ViewData): ViewDataExample {
  const attentions = example.attentions.filter(({ weights }) => item < (weights.shape[0] as number));
  const names = attentions.map(({ name }) => name);
  const kinds = attentions.map((attention) => attention.kind ?? kindOf(attention, names));
  const labels = attentionLabels(attentions.map(({ name }, i) => ({ name, kind: kinds[i] as AttentionKind })));
  const tokens = new TokenLists();
  const prepared = attentions.map((attention, i): ViewDataAttention => {
    const { name, operator, heads, queries, weights } = attention;
    const averaged = weights.shape.length === 3;
    const kind = kinds[i] as AttentionKind;
    const [rows, columns] = weights.shape.slice(-2) as [number, number];
    const matrices = averaged ? 1 : heads.length;
    const size = matrices * rows * columns;
    const part = weights.data.subarray(item * size, (item + 1) * size);
    const identity = queries.every((query, row) => query === row);
    const last = Math.max(-1, ...queries);
    const { queryTokens: decoder, keyTokens: encoder = decoder } = example;
    const queryTokens = tokens.find(
      [attention.queryTokens, kind === 'encoder' ? encoder : decoder, decoder, encoder],
      (length) => (identity ? length === rows : length > last),
    );
    const keyTokens = tokens.find(
      [attention.keyTokens, kind === 'decoder' ? decoder : encoder, encoder, decoder],
      (length) => length === columns,
    );
    return {
      name,
      label: labels[i] as string,
      operator,
      kind,
      averaged,
      heads: [...heads],
      rows,
      columns,
      ...(identity ? {} : { queries: [...queries] }),
      ...(queryTokens === undefined ? {} : { queryTokens }),
      ...(keyTokens === undefined ? {} : { keyTokens }),
      weights: data.weights.push(encode(part, data.encoding)) - 1,
      thumbnails: thumbnails(part, matrices, rows, columns),
    };
  });
  const title = batch > 1 ? `${example.title} (${item + 1} of ${batch})` : example.title;
  return { title, tokens: tokens.lists, attentions: prepared };
}

/** The different token lists of an example, each stored once. */
class TokenLists {
  readonly lists: string[][] = [];

  /** The index of the first list that fits, of those that there are. */
  find(candidates: (readonly string[] | undefined)[], fits: (length: number) => boolean): number | undefined {
    const list = candidates.find((candidate) => candidate && fits(candidate.length));
    if (!list) return undefined;
    const known = this.lists.findIndex(
      (other) => other.length === list.length && other.every((token, i) => token === list[i]),
    );
    return known >= 0 ? known : this.lists.push([...list]) - 1;
  }
}

const CROSS_NAME = /cross|enc(oder)?_?dec(oder)?_?att|encoder_attn|src_attn|context_attn/i;

function kindOf({ name, weights, queries }: ViewAttention, names: readonly string[]): AttentionKind {
  if (CROSS_NAME.test(name)) return 'cross';
  // nn.TransformerDecoderLayer calls its cross-attention multihead_attn, beside self_attn.
  if (/(^|\.)multihead_attn$/.test(name) && names.includes(name.replace(/multihead_attn$/, 'self_attn')))
    return 'cross';
  const [rows, columns] = weights.shape.slice(-2) as [number, number];
  const whole = queries.every((query, row) => query === row);
  if (whole && rows > 1 && rows !== columns) return 'cross';
  if (/decoder/i.test(name)) return 'decoder';
  if (/encoder/i.test(name)) return 'encoder';
  return rows > 1 && isCausal(weights.data, queries, columns) ? 'decoder' : 'encoder';
}

function isCausal(data: Float32Array, queries: readonly number[], columns: number): boolean {
  for (let at = 0, row = 0; at < data.length; at += columns, row = (row + 1) % queries.length) {
    for (let column = (queries[row] as number) + 1; column < columns; column++)
      if (data[at + column] !== 0) return false;
  }
  return true;
}

function encode(weights: Float32Array, encoding: ViewData['encoding']): string {
  const elements = encoding === 'float32' ? weights : toFloat16(weights);
  return Buffer.from(elements.buffer, elements.byteOffset, elements.byteLength).toString('base64');
}

function toFloat16(weights: Float32Array): Uint16Array {
  const halves = new Uint16Array(weights.length);
  for (let i = 0; i < halves.length; i++) halves[i] = toFloat16Bits(weights[i] as number);
  return halves;
}

function thumbnails(weights: Float32Array, matrices: number, rows: number, columns: number): Thumbnails {
  const scale = Math.min(1, THUMBNAIL_SIZE / Math.max(rows, columns));
  const height = Math.max(1, Math.round(rows * scale));
  const width = Math.max(1, Math.round(columns * scale));
  const size = rows * columns;
  const all = Array.from({ length: matrices }, (_, i) => weights.subarray(i * size, (i + 1) * size));
  if (matrices > 1) all.push(mean(all));
  const bytes = new Uint8Array(all.length * height * width);
  all.forEach((matrix, i) => {
    const target = bytes.subarray(i * height * width, (i + 1) * height * width);
    downSample(matrix, rows, columns, target, height, width);
  });
  return { rows: height, columns: width, data: Buffer.from(bytes).toString('base64') };
}

function mean(matrices: readonly Float32Array[]): Float32Array {
  const result = new Float32Array(matrices[0]?.length ?? 0);
  for (const matrix of matrices)
    for (let i = 0; i < result.length; i++) result[i] = (result[i] as number) + (matrix[i] as number);
  return result.map((sum) => sum / matrices.length);
}

function downSample(
  matrix: Float32Array,
  rows: number,
  columns: number,
  target: Uint8Array,
  height: number,
  width: number,
): void {
  const largest = new Float32Array(height * width);
  let maximum = 0;
  for (let row = 0; row < rows; row++) {
    const to = Math.floor((row * height) / rows) * width;
    for (let column = 0; column < columns; column++) {
      const value = matrix[row * columns + column] as number;
      const at = to + Math.floor((column * width) / columns);
      if (value > (largest[at] as number)) largest[at] = value;
      if (value > maximum) maximum = value;
    }
  }
  for (let i = 0; i < largest.length; i++)
    target[i] = maximum && Math.round(255 * Math.sqrt((largest[i] as number) / maximum));
}
