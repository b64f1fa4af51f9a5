import { TorchError } from '../core/errors';
import type { FlatModel } from '../io/flat-model';
import { TextTokenizer } from '../text/tokenizer';
import { type LiveRequest, LiveServer, type LiveView } from '../view/live-server';
import { markedHead, type PrepareExample, type ViewAttention } from '../view/prepare';
import { renderExamples } from '../view/render-view';
import { limitsOf, withModel } from './model';
import { captured, type ExampleOptions, inputValues, isCapture, type Run, runsOfTexts } from './view-examples';

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
    const server = new LiveServer(
      {
        title,
        fields: [
          ...(takes(/type_ids$|^segment_ids$/) ? (['textPair'] as const) : []),
          ...(takes(/^decoder_/) ? (['decoderText'] as const) : []),
        ],
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
  /** Where each attention of the page stands in the run; none for what was computed from others. */
  const indices: (number | undefined)[] = [];
  const followed: PrepareExample = { ...example, attentions: follow(example.attentions) };
  async function* follow(attentions: PrepareExample['attentions']): AsyncGenerator<ViewAttention> {
    for await (const attention of attentions) {
      indices.push(attention.kind === 'derived' ? undefined : (attention as ViewAttention & { index: number }).index);
      onProgress(indices.length);
      yield attention;
    }
  }
  const html = await renderExamples([followed], { title, maxSize: options.maxSize, compare: false, live: base });
  return {
    html,
    full: async (attention, head, stop) => {
      const index = indices[attention];
      if (index === undefined)
        throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected an attention of the run but received none of it');
      return await fullHead(model, inputValues(model, run, options.device), index, head, options, stop);
    },
  };
}

async function fullHead(
  model: FlatModel,
  values: ReturnType<typeof inputValues>,
  index: number,
  head: number,
  options: ExampleOptions,
  signal: AbortSignal,
): Promise<Float32Array> {
  const { heads, queries, averageHeads } = options;
  const limits = { ...limitsOf(options), signal };
  const selection = { layers: [index], ...(queries && { queries }), ...limits };
  const site = (await model.attentionSites(values, limits)).find((each) => each.index === index);
  const all = heads ?? Array.from({ length: site?.headCount ?? 0 }, (_, i) => i);
  const one = all[head];
  const mean = averageHeads || one === undefined;
  const { attentions } = await model.captureAttention(values, {
    ...selection,
    ...(mean ? { heads: all, averageHeads: true } : { heads: [one] }),
  });
  const [attention] = attentions;
  if (!attention) throw new TorchError('ERR_NO_ATTENTION', `The model computed no attention ${index} this time`);
  try {
    return (await markedHead(attention, 0, 0)).weights;
  } finally {
    attention.weights.dispose();
  }
}
