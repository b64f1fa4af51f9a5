import { promisify } from 'node:util';
import { inflateRaw } from 'node:zlib';
import { TorchError } from '../core/errors';
import { elementCount } from '../core/shape';
import type { FlatModel } from '../io/flat-model';
import { isOptional } from '../io/parameters';
import { TextTokenizer } from '../text/tokenizer';
import { pack } from '../view/block';
import { type LiveRequest, LiveServer, type LiveView } from '../view/live-server';
import { markedHead, type PrepareExample, type ViewAttention } from '../view/prepare';
import { renderExamples } from '../view/render-view';
import { limitsOf, withModel } from './model';
import { captured, type ExampleOptions, inputValues, isCapture, type Run, runsOfTexts } from './view-examples';

const inflate = promisify(inflateRaw);

/** The options of `view` that are about serving. */
export interface ServeOptions {
  host: string;
  port?: number;
}

/** Serves a page in which texts are typed, until the process is told to end. */
export async function serveView(
  path: string,
  options: ExampleOptions & ServeOptions,
  title: string,
  onListening: (address: string) => void,
): Promise<void> {
  if (isCapture(path))
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected a checkpoint with --serve but received a capture');
  if (!options.tokenizer)
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      'Expected --tokenizer <tokenizer.json> with --serve but received none',
    );
  const tokenizer = await TextTokenizer.load(options.tokenizer);
  await withModel(path, options, async (model) => {
    const { parameters } = model;
    const takes = (pattern: RegExp) => parameters.some(({ name }) => pattern.test(name));
    const needs = (pattern: RegExp) =>
      parameters.some((parameter) => pattern.test(parameter.name) && !isOptional(parameter));
    const server = new LiveServer(
      {
        title,
        fields: [
          ...(takes(/type_ids$|^segment_ids$/) ? (['textPair'] as const) : []),
          ...(takes(/^decoder_/) ? (['decoderText'] as const) : []),
        ],
        required: needs(/^decoder_(input_)?ids$/) ? ['decoderText'] : [],
        view: (request, base, signal, onProgress) =>
          viewOf(model, tokenizer, options, { title, base, request, signal, onProgress }),
      },
      options.host,
    );
    const address = await server.listen(options.port ?? 0);
    process.stdout.write(`${address}\nCtrl+C ends it.\n`);
    onListening(address);
    await new Promise<void>((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
    });
    await server.close();
  });
}

/** Runs the model on a text, and keeps what it takes to run it again for weights at full resolution. */
async function viewOf(
  model: FlatModel,
  tokenizer: TextTokenizer,
  options: ExampleOptions,
  {
    title,
    base,
    request,
    signal,
    onProgress,
  }: {
    title: string;
    base: string;
    request: LiveRequest;
    signal: AbortSignal;
    onProgress: (layers: number) => void;
  },
): Promise<LiveView> {
  const { text, textPair, decoderText } = request;
  const [run] = runsOfTexts(
    model,
    {
      ...options,
      text: [text],
      textPair: textPair === undefined ? [] : [textPair],
      decoderText: decoderText === undefined ? [] : [decoderText],
    },
    tokenizer,
  ) as [Run];
  const example = captured(model, run, options, tokenizer, signal);
  /** By attention of the page, in order. */
  const shown: Shown[] = [];
  const followed: PrepareExample = { ...example, attentions: follow(example.attentions) };
  async function* follow(attentions: PrepareExample['attentions']): AsyncGenerator<ViewAttention> {
    for await (const attention of attentions) {
      const { index } = attention as ViewAttention & { index: number };
      shown.push({ index: attention.kind === 'derived' ? undefined : index, heads: attention.heads, mask: undefined });
      onProgress(shown.length);
      yield attention;
    }
  }
  const onMask = async (attention: number, mask: Uint8Array | undefined) => {
    if (mask) (shown[attention] as Shown).mask = await pack(mask);
  };
  const page = { title, maxSize: options.maxSize, compare: false, live: base, onMask };
  const html = Buffer.from(await renderExamples([followed], page));
  return {
    html,
    heldBytes: shown.reduce((sum, { mask }) => sum + (mask?.length ?? 0), 0),
    full: async (attention, head, stop) => {
      const wanted = shown[attention];
      if (wanted?.index === undefined)
        throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected an attention of the run but received none of it');
      return await fullHead(model, inputValues(model, run, options.device), wanted, head, options, stop);
    },
  };
}

/** An attention of a page: where it stands in the run, if the model computed it; its heads; which cells are masked, deflated. */
interface Shown {
  index: number | undefined;
  heads: readonly number[];
  mask: Buffer | undefined;
}

/** Runs the model once more for one head. Which cells are masked all heads told, the first time. */
async function fullHead(
  model: FlatModel,
  values: ReturnType<typeof inputValues>,
  { index, heads, mask }: Shown,
  head: number,
  options: ExampleOptions,
  signal: AbortSignal,
): Promise<Float32Array> {
  const { queries, averageHeads } = options;
  const one = heads[head];
  const { attentions } = await model.captureAttention(values, {
    layers: [index as number],
    ...(averageHeads || one === undefined ? { heads: [...heads], averageHeads: true } : { heads: [one] }),
    ...(queries && { queries }),
    ...limitsOf(options),
    signal,
  });
  const [attention] = attentions;
  if (!attention) throw new TorchError('ERR_NO_ATTENTION', `The model computed no attention ${index} this time`);
  try {
    const size = elementCount(attention.weights.shape.slice(-2));
    return (await markedHead(attention, 0, 0, mask ? await inflate(mask) : new Uint8Array(size))).weights;
  } finally {
    attention.weights.dispose();
  }
}
