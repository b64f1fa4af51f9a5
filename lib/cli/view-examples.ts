import { basename } from 'node:path';
import { TorchError } from '../core/errors';
import { shown } from '../core/validate';
import type { Entry } from '../formats/entry';
import { readJsonValue } from '../formats/json';
import type { AttentionSite, Value } from '../index';
import { toValue } from '../io/entry-values';
import type { FlatModel } from '../io/flat-model';
import type { GivenInput } from '../io/given-inputs';
import { givenEntries } from '../io/given-inputs';
import { readInputs } from '../io/input-files';
import { arrangeInputs, describeOrder } from '../io/parameters';
import { buildTextInputs } from '../text/text-inputs';
import { type Encoded, TextTokenizer, withDecoderStart } from '../text/tokenizer';
import { withDerived } from '../view/derived';
import { refuseTooLarge } from '../view/page-budget';
import type { PrepareExample, ViewAttention } from '../view/prepare';
import { readImage } from '../view/render-view';
import type { ViewDataImage } from '../view/view-data';
import { withCaptureFile } from './capture-file';
import { limitsOf, type ModelOptions, progress, withModel } from './model';

/** The options of `view` that say what is run and what is captured of it. */
export interface ExampleOptions extends ModelOptions {
  tokenizer?: string;
  text?: string[];
  textPair?: string[];
  decoderText?: string[];
  decoderStart?: number;
  inputs?: string;
  input?: GivenInput[];
  tokens?: string;
  image?: string;
  patches?: [number, number];
  prefix?: number;
  layers?: (string | RegExp | number)[];
  heads?: number[];
  queries?: number[];
  averageHeads?: boolean;
  topK?: number;
  rollout?: boolean;
  maxSize: number;
}

/** Those of them that say what is run. */
export type RunSource = Omit<ExampleOptions, 'maxSize'>;

/** One run of the model, before it happens. */
export interface Run {
  title: string;
  inputs: Entry[];
  queryTokens?: string[];
  keyTokens?: string[];
  sources?: Record<number, string>;
}

/** Whether a file is what `capture` wrote, and no checkpoint. */
export function isCapture(path: string): boolean {
  return /\.safetensors$/i.test(path);
}

/** Makes the examples of a checkpoint, or of a capture, and lends them to `use`: attentions come as they are asked for. */
export async function withExamples<Result>(
  path: string,
  options: ExampleOptions,
  use: (examples: PrepareExample[]) => Promise<Result>,
): Promise<Result> {
  const tokenizer = options.tokenizer ? await TextTokenizer.load(options.tokenizer) : undefined;
  const image = await imageOf(options);
  if (isCapture(path)) return await withCaptured(path, options, tokenizer, image, use);
  if (Boolean(options.inputs) === Boolean(options.text?.length)) {
    const received = options.inputs ? 'both' : 'neither';
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected either --text (with --tokenizer) or --inputs but received ${received}`,
    );
  }
  return await withModel(path, options, async (model) => {
    const runs = options.inputs ? await runsOfInputs(options) : runsOfTexts(model, options, tokenizer);
    const examples: PrepareExample[] = [];
    for (const run of runs) examples.push({ ...captured(model, run, options, tokenizer), ...(image && { image }) });
    return await use(examples);
  });
}

async function imageOf({ image, patches, prefix = 0 }: ExampleOptions): Promise<ViewDataImage | undefined> {
  if (image === undefined) return undefined;
  if (!patches)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected --patches ROWSxCOLUMNS with --image but received none');
  return await readImage({ path: image, patches, prefix }, '--image');
}

async function withCaptured<Result>(
  path: string,
  options: ExampleOptions,
  tokenizer: TextTokenizer | undefined,
  image: ViewDataImage | undefined,
  use: (examples: PrepareExample[]) => Promise<Result>,
): Promise<Result> {
  const selecting = ['layers', 'heads', 'queries', 'averageHeads', 'topK', 'rollout'] as const;
  const running = ['inputs', 'input', ...selecting, 'verify', 'timeLimit', 'memoryLimit'] as const;
  const useless = running.find((name) => options[name] !== undefined);
  if (useless) {
    const flag = `--${useless.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected no ${flag} with a capture, which is shown as it is, but received one; give it to 'capture', or a checkpoint here`,
    );
  }
  const labels = options.tokens ? await readTokens(options.tokens) : labelsOfText(options, tokenizer);
  return await withCaptureFile(path, async (attentions) =>
    use([{ title: basename(path), ...tokensOf(labels), mustFit: true, ...(image && { image }), attentions }]),
  );
}

/** Labels from a text, where there is a tokenizer: a capture holds no tokens. */
function labelsOfText(options: ExampleOptions, tokenizer: TextTokenizer | undefined): Partial<Run> {
  const [text] = options.text ?? [];
  if (text === undefined) return {};
  const { encoded, decoder } = encodeTexts(text, 0, options, needTokenizer(tokenizer));
  return labelsOf(encoded, decoder);
}

/** The texts of a run as the model takes them. */
function encodeTexts(text: string, at: number, options: RunSource, tokenizer: TextTokenizer) {
  const { textPair = [], decoderText = [], decoderStart } = options;
  const encoded = tokenizer.encode(text, textPair[at]);
  const written = decoderText[at] === undefined ? undefined : tokenizer.encode(decoderText[at]);
  const decoder =
    written && decoderStart !== undefined
      ? withDecoderStart(written, decoderStart, tokenizer.label(decoderStart))
      : written;
  return { encoded, decoder };
}

function labelsOf(encoded: Encoded, decoder: Encoded | undefined): Pick<Run, 'queryTokens' | 'keyTokens' | 'sources'> {
  return { queryTokens: (decoder ?? encoded).tokens, keyTokens: encoded.tokens, sources: encoded.sources };
}

function needTokenizer(tokenizer: TextTokenizer | undefined): TextTokenizer {
  if (tokenizer) return tokenizer;
  throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected --tokenizer <tokenizer.json> with --text but received none');
}

/** The runs of the texts of a command, or of one that was typed. */
export function runsOfTexts(model: FlatModel, options: RunSource, tokenizer: TextTokenizer | undefined): Run[] {
  const known = needTokenizer(tokenizer);
  const { text: texts = [], input = [] } = options;
  for (const [name, list] of [
    ['--decoder-text', options.decoderText],
    ['--text-pair', options.textPair],
  ] as const) {
    if (!list?.length || list.length === texts.length) continue;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a ${name} for each --text but received ${list.length} for ${texts.length}`,
    );
  }
  if (options.decoderStart !== undefined && !options.decoderText?.length)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected --decoder-text with --decoder-start but received none');
  const { parameters } = model;
  let said = false;
  return texts.map((text, i) => {
    const { encoded, decoder } = encodeTexts(text, i, options, known);
    const given = givenEntries(input, encoded.ids.length, parameters);
    const pair = options.textPair?.[i];
    const { inputs, given: what } = buildTextInputs(parameters, encoded, decoder, given);
    if (!said) process.stderr.write(`inputs: ${what.join(', ')}\n`);
    said = true;
    return {
      title: pair === undefined ? text : `${text} / ${pair}`,
      inputs,
      ...labelsOf(encoded, decoder),
    };
  });
}

/** The run of a file of inputs. */
export async function runsOfInputs(options: RunSource): Promise<Run[]> {
  const path = options.inputs as string;
  const labels = options.tokens ? await readTokens(options.tokens) : {};
  const read = await readInputs(path);
  const length = read.find(({ shape }) => shape.length > 1)?.shape[1] ?? 1;
  const given = givenEntries(options.input ?? [], length);
  const inputs = [...read.filter(({ name }) => !given.has(name)), ...given.values()];
  return [{ title: basename(path), inputs, ...labels }];
}

function tokensOf({ queryTokens, keyTokens, sources }: Partial<Run>): Partial<PrepareExample> {
  if (!queryTokens) return {};
  return { tokens: keyTokens ?? queryTokens, targetTokens: queryTokens, ...(sources && { sources }) };
}

/** The attentions of a run as they come, the model waiting for the page to take each. */
export function captured(
  model: FlatModel,
  run: Run,
  options: ExampleOptions,
  tokenizer: TextTokenizer | undefined,
  signal?: AbortSignal,
): PrepareExample {
  const { parameters } = model;
  if (options.inputs) {
    const note = describeOrder(run.inputs, parameters);
    if (note) process.stderr.write(`${note}\n`);
  }
  async function* attentions(): AsyncGenerator<ViewAttention> {
    progress(`running the model on ${run.title} …`);
    const values = inputValues(model, run, options.device);
    await refuseBeforeRun(model, run, values, options);
    const { layers, heads, queries, averageHeads, topK } = options;
    const selection = {
      ...limitsOf(options),
      ...(layers && { layers }),
      ...(heads && { heads }),
      ...(queries && { queries }),
      ...(averageHeads && { averageHeads }),
      ...(topK !== undefined && { topK }),
      ...(signal && { signal }),
    };
    const stream = model.captureAttentionStream(values, selection);
    yield* withDerived(stream, { rollout: options.rollout ?? false, dispose: true });
  }
  const example = { title: run.title, attentions: attentions() };
  if (run.queryTokens) return { ...example, ...tokensOf(run), mustFit: options.tokens !== undefined };
  return tokenizer ? { ...example, ...tokensOfBatch(run.inputs, tokenizer) } : example;
}

/** A run's inputs in the order of forward's parameters. */
export function inputValues(model: FlatModel, run: Run, device: string | undefined): Value[] {
  const { parameters } = model;
  return arrangeInputs(run.inputs, parameters).map((entry, i) => toValue(entry, parameters[i], device));
}

/** Fewer heads than that no model has; it says from which length on a run is looked at ahead of its capture. */
const MOST_HEADS = 5000;

/** A page that can't hold what is asked for is refused before anything is captured. */
async function refuseBeforeRun(model: FlatModel, run: Run, values: Value[], options: ExampleOptions): Promise<void> {
  const longest = Math.max(0, ...run.inputs.flatMap(({ shape }) => shape.slice(1)));
  const selects = options.queries || options.layers || options.topK;
  if (selects || 4 * longest * MOST_HEADS < options.maxSize) return;
  const sites: AttentionSite[] = await model.attentionSites(values, limitsOf(options));
  refuseTooLarge(
    sites.map(({ shape, headCount, queryCount }) => ({
      matrices:
        shape.slice(0, -3).reduce((product, size) => product * size, 1) *
        (options.averageHeads ? 1 : (options.heads?.length ?? headCount)),
      queries: queryCount,
    })),
    options.maxSize,
  );
}

/** Inputs with a tokenizer: each sequence of the batch has tokens of its own. */
function tokensOfBatch(inputs: Entry[], tokenizer: TextTokenizer): { tokens?: string[][]; targetTokens?: string[][] } {
  const sequences = (name: RegExp) => {
    const entry = inputs.find((input) => name.test(input.name) && input.shape.length === 2 && /^int/.test(input.dtype));
    const [batch, length] = (entry?.shape ?? [0, 0]) as [number, number];
    const labels = Array.from((entry?.data ?? []) as Iterable<number | bigint>, (id) => tokenizer.label(Number(id)));
    return Array.from({ length: batch }, (_, item) => labels.slice(item * length, (item + 1) * length));
  };
  const tokens = sequences(/^(input_)?ids$|^tokens$|^input$|^src$|^0$/);
  const targetTokens = sequences(/^decoder_(input_)?ids$|^tgt$/);
  return { ...(tokens.length ? { tokens } : {}), ...(targetTokens.length ? { targetTokens } : {}) };
}

async function readTokens(path: string): Promise<{ queryTokens: string[]; keyTokens?: string[] }> {
  let labels: unknown;
  try {
    labels = await readJsonValue(path);
  } catch (error) {
    const message = `Expected labels in JSON in ${path}: ${(error as Error).message}`;
    throw new TorchError('ERR_INVALID_ARGUMENT', message, { cause: error });
  }
  if (isStrings(labels)) return { queryTokens: labels };
  const { queries, keys } = (labels ?? {}) as { queries?: unknown; keys?: unknown };
  if (isStrings(queries) && isStrings(keys)) return { queryTokens: queries, keyTokens: keys };
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected ["a", …] or {"queries": […], "keys": […]} in ${path} but received ${shown(labels)}`,
  );
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
