import { readFile } from 'node:fs/promises';
import type { Attention } from '../capture/attention';
import { TorchError } from '../core/errors';
import { options as checkOptions, integer, invalid, optionalBoolean } from '../core/validate';
import { checkWritable, writeWhole } from '../formats/file';
import { withDerived } from './derived';
import { pageSize, renderHtml } from './html';
import { imageInfo } from './image-size';
import { type PrepareExample, type PrepareOptions, prepareView } from './prepare';
import type { ViewDataImage } from './view-data';

/**
 * One run of a model, to be shown on a page. A batch of several sequences is shown as so many examples.
 *
 * @example
 * const example: ViewExample = { attentions, tokens: ['[CLS]', 'the', 'cat', '[SEP]'], title: 'the cat' };
 */
export interface ViewExample {
  /**
   * What a capture gave, or a stream of it: with a stream (`captureAttentionStream`), no more than one attention is in
   * memory at a time, and each is disposed when the page has it. Captures with `topK`, `averageHeads`, `heads` or
   * `queries` are drawn for what they are. Gradients (`gradientOf`) are shown beside the weights, and the relevance that
   * follows from them. Of a generation, what `assembleAttention` gives.
   */
  attentions: Iterable<Attention> | AsyncIterable<Attention>;
  /**
   * Tokens of the sequence, in an encoder-decoder model of the encoder's; for a batch, a list for each sequence. Any text:
   * nothing in it is taken as HTML. Default: positions are shown.
   */
  tokens?: readonly string[] | readonly (readonly string[])[];
  /** Tokens of the decoder's sequence in an encoder-decoder model. */
  targetTokens?: readonly string[] | readonly (readonly string[])[];
  /**
   * A picture whose patches are the tokens: `patches` are rows and columns of them, `prefix` tokens (class, registers) come
   * before. The file (PNG, JPEG, WebP, GIF) is only shown.
   */
  image?: { path: string; patches: [number, number]; prefix: number };
  /**
   * Of a generation: how many tokens were given, from 1 on. The page then has a slider over the tokens that came one at a
   * time. Default: none.
   */
  prompt?: number;
  /** Default: the number of the example. */
  title?: string;
}

/**
 * How a page is made.
 *
 * @example
 * const options: ViewOptions = { title: 'BERT', maxSize: 5_000_000 };
 */
export interface ViewOptions {
  /** The page's heading. Default `'Attention'`. */
  title?: string;
  /**
   * Bytes that the page may take. All heads as pictures and with the largest weights of each query come first, then full
   * resolution from the last layer on, as exact as it goes; the page says of each number how far off it may be. Default
   * 20,000,000.
   */
  maxSize?: number;
  /** Whether the page opens with the first two examples compared. Default false. */
  compare?: boolean;
  /**
   * Whether the page also shows attention rollout (`attentionRollout`) of each example with at least two layers of
   * self-attention, captured whole. Default false.
   */
  rollout?: boolean;
}

export const DEFAULT_MAX_SIZE = 20_000_000;

/**
 * Attention as one HTML page that needs nothing else and loads nothing else.
 * Attentions are looked at one at a time, on the event loop's thread, between which it goes on; compressing happens on Node's
 * own threads.
 *
 * @param examples At least one: the attentions of a run (or a stream of them), with its tokens or its image.
 * @param options The title, the most bytes, and what the page opens with.
 * @returns The document, for a file, a response, or the `srcdoc` of an `<iframe>`.
 * @throws TorchError `ERR_INVALID_ARGUMENT` for examples that don't fit their attentions, `ERR_CAPTURE_TOO_LARGE` where not
 *   even small pictures of all heads fit in `maxSize`, `ERR_DISPOSED`.
 *
 * @example
 * const captured = await model.captureAttention([ids, mask]);
 * const html = await renderView([{ attentions: captured.attentions, tokens: ['[CLS]', 'the', 'cat', '[SEP]'] }]);
 */
export async function renderView(examples: readonly ViewExample[], options: ViewOptions = {}): Promise<string> {
  if (!Array.isArray(examples)) throw invalid('an array', 'examples', examples);
  checkOptions(options, ['title', 'maxSize', 'compare', 'rollout'], 'renderView');
  if (options.title !== undefined && typeof options.title !== 'string')
    throw invalid('a string', 'title', options.title);
  const title = options.title ?? 'Attention';
  const maxSize = options.maxSize === undefined ? DEFAULT_MAX_SIZE : integer(options.maxSize, 'maxSize', 1);
  const compare = optionalBoolean(options.compare, 'compare') ?? false;
  if (compare && examples.length < 2) {
    const message = `Expected at least two examples to compare but received ${examples.length}`;
    throw new TorchError('ERR_INVALID_ARGUMENT', message);
  }
  const rollout = optionalBoolean(options.rollout, 'rollout') ?? false;
  const checked = await Promise.all(Array.from(examples, (example, i) => toPrepare(example, i, rollout)));
  return await renderExamples(checked, { title, maxSize, compare });
}

/** The page of examples that are known to be right. */
export async function renderExamples(
  examples: readonly PrepareExample[],
  { title, maxSize, ...options }: PrepareOptions & { title: string },
): Promise<string> {
  const own = pageSize(title);
  if (own >= maxSize) {
    const received = `${maxSize} bytes`;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a size beyond the ${own} bytes of the page's code but received ${received}`,
    );
  }
  return renderHtml(await prepareView(examples, { maxSize: maxSize - own, ...options }), { title });
}

/**
 * Writes what `renderView` returns to a file.
 *
 * @param path The HTML file to write, over what is there.
 * @param examples As for `renderView`.
 * @param options As for `renderView`.
 * @throws TorchError as `renderView`; `ERR_INVALID_ARGUMENT` where it can't be written.
 *
 * @example
 * await writeAttentionView('attention.html', [{ attentions }], { title: 'the cat' });
 */
export async function writeAttentionView(
  path: string,
  examples: readonly ViewExample[],
  options: ViewOptions = {},
): Promise<void> {
  if (typeof path !== 'string') throw invalid('a string', 'path', path);
  // Ahead of the work that would be lost.
  await checkWritable(path);
  await writeWhole(path, await renderView(examples, options));
}

async function toPrepare(example: ViewExample, index: number, rollout: boolean): Promise<PrepareExample> {
  const what = `example ${index}`;
  if (typeof example !== 'object' || example === null) throw invalid('an object', what, example);
  checkOptions(example, ['attentions', 'tokens', 'targetTokens', 'image', 'prompt', 'title'], what);
  const { attentions, tokens, targetTokens, image, prompt, title = `Example ${index + 1}` } = example;
  const iterable =
    typeof attentions === 'object' &&
    attentions !== null &&
    (Symbol.iterator in attentions || Symbol.asyncIterator in attentions);
  if (!iterable) throw invalid('an iterable of attentions', `attentions of ${what}`, attentions);
  if (typeof title !== 'string') throw invalid('a string', `title of ${what}`, title);
  for (const [name, list] of [['tokens', tokens] as const, ['targetTokens', targetTokens] as const]) {
    if (list !== undefined && !isTokens(list)) throw invalid('an array of strings', `${name} of ${what}`, list);
  }
  return {
    title,
    attentions: withDerived(attentions, { rollout, dispose: !(Symbol.iterator in attentions) }),
    mustFit: true,
    ...(tokens && { tokens }),
    ...(targetTokens && { targetTokens }),
    ...(image && { image: await readImage(image, what) }),
    ...(prompt !== undefined && { prompt: integer(prompt, `prompt of ${what}`, 1) }),
  };
}

function isTokens(value: unknown): boolean {
  const isList = (list: unknown) => Array.isArray(list) && list.every((token) => typeof token === 'string');
  return isList(value) || (Array.isArray(value) && value.every(isList));
}

/** A picture of patches as the page takes it. */
export async function readImage(
  image: { path: string; patches: [number, number]; prefix: number },
  what: string,
): Promise<ViewDataImage> {
  checkOptions(image, ['path', 'patches', 'prefix'], `image of ${what}`);
  if (typeof image.path !== 'string') throw invalid('a path', `image.path of ${what}`, image.path);
  if (!Array.isArray(image.patches) || image.patches.length !== 2) {
    throw invalid('[rows, columns]', `image.patches of ${what}`, image.patches);
  }
  const patches = image.patches.map((count) => integer(count, `an element of image.patches of ${what}`, 1));
  const prefix = integer(image.prefix, `image.prefix of ${what}`, 0);
  let bytes: Buffer;
  try {
    bytes = await readFile(image.path);
  } catch (error) {
    const message = `Expected a picture that can be read for ${what}: ${(error as Error).message}`;
    throw new TorchError('ERR_INVALID_ARGUMENT', message, { cause: error });
  }
  const info = imageInfo(bytes);
  if (!info) throw invalid('the path of a PNG, JPEG, WebP or GIF file', `image.path of ${what}`, image.path);
  const { type, width, height } = info;
  return {
    url: `data:${type};base64,${bytes.toString('base64')}`,
    size: { width, height },
    patches: patches as [number, number],
    prefix,
  };
}
