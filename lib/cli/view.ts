import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { TorchError } from '../errors';
import type { Entry } from '../formats/entry';
import { readJsonValue } from '../formats/json';
import type { ScriptModule } from '../index';
import { shown } from '../validate';
import type { PrepareExample } from '../view/prepare';
import { DEFAULT_MAX_SIZE, disposing, renderExamples } from '../view/render-view';
import { arrangeInputs, describeOrder, readInputs } from './inputs';
import { progress, toValue, withModel } from './model';
import { collect, collectIndices, collectLayers } from './selection';
import { buildTextInputs, TextTokenizer } from './tokenizer';

interface ViewOptions {
  tokenizer?: string;
  text?: string[];
  decoderText?: string[];
  inputs?: string;
  tokens?: string;
  out: string;
  title?: string;
  layers?: (string | RegExp | number)[];
  heads?: number[];
  device?: string;
  open?: boolean;
}

/** Adds `view`: attention as a page. */
export function registerView(program: Command): void {
  program
    .command('view')
    .description('run a checkpoint on texts and write its attention as one HTML file that works offline')
    .argument('<model>', 'a TorchScript file')
    .option('--tokenizer <file>', 'tokenizer.json of a Hugging Face tokenizer')
    .option('--text <text>', 'a text to run the model on; repeat for several', collect)
    .option('--decoder-text <text>', "encoder-decoder models: the decoder's text, one for each --text", collect)
    .option('--inputs <file>', 'instead of texts: inputs of forward in a .safetensors, .npz or .json file')
    .option('--tokens <file>', 'with --inputs: JSON labels of the positions, ["a", …] or {"queries": […], "keys": […]}')
    .option('--out <file>', 'the HTML file to write', 'attention.html')
    .option('--title <title>', "the page's heading")
    .option('--layers <list>', 'module names, /regular expressions/ or positions, negative from the end', collectLayers)
    .option('--heads <list>', 'heads, like 3 or 0,5 or 0:4', collectIndices)
    .option('--device <device>', "where the model runs: 'cpu', 'cuda', 'cuda:1'")
    .option('--open', 'open the page in the browser')
    .addHelpText(
      'after',
      `
Examples:
  libtorch-attention view model.pt --tokenizer tokenizer.json --text "The cat sat on the mat." --open
  libtorch-attention view model.pt --tokenizer tokenizer.json --text "One." --text "Another." --out two.html
  libtorch-attention view vit.pt --inputs image.safetensors --tokens patches.json --layers -1`,
    )
    .action((path: string, options: ViewOptions) => runView(path, options));
}

/** One run of the model, before it happens. */
interface Run {
  title: string;
  inputs: Entry[];
  queryTokens?: string[];
  keyTokens?: string[];
}

async function runView(path: string, options: ViewOptions): Promise<void> {
  if (Boolean(options.inputs) === Boolean(options.text?.length)) {
    const received = options.inputs ? 'both' : 'neither';
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected either --text (with --tokenizer) or --inputs but received ${received}`,
    );
  }
  const tokenizer = options.tokenizer ? await TextTokenizer.load(options.tokenizer) : undefined;
  const title = options.title ?? `Attention of ${basename(path)}`;
  const { html, count } = await withModel(path, options.device, async (model) => {
    const runs = options.inputs ? await runsOfInputs(options.inputs, options) : runsOfTexts(model, options, tokenizer);
    let count = 0;
    const examples = runs.map((run): PrepareExample => {
      const example = captureExample(model, run, options, tokenizer);
      return { ...example, attentions: counted(example.attentions, () => count++) };
    });
    return { html: await renderExamples(examples, { title, maxSize: DEFAULT_MAX_SIZE, compare: false }), count };
  });
  await writeFile(options.out, html);
  const size = (Buffer.byteLength(html) / 1e6).toFixed(1);
  process.stdout.write(`${options.out}: ${count} attention${count === 1 ? '' : 's'}, ${size} MB\n`);
  if (options.open) openInBrowser(resolve(options.out));
}

function runsOfTexts(model: ScriptModule, options: ViewOptions, tokenizer: TextTokenizer | undefined): Run[] {
  if (!tokenizer) {
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected --tokenizer <tokenizer.json> with --text but received none');
  }
  const { text: texts = [], decoderText: decoderTexts = [] } = options;
  if (decoderTexts.length && decoderTexts.length !== texts.length) {
    const received = `${decoderTexts.length} for ${texts.length}`;
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a --decoder-text for each --text but received ${received}`);
  }
  const { parameters } = model.signature();
  return texts.map((text, i) => {
    const encoded = tokenizer.encode(text);
    const decoder = decoderTexts[i] === undefined ? undefined : tokenizer.encode(decoderTexts[i]);
    return {
      title: text,
      inputs: buildTextInputs(parameters, encoded, decoder),
      queryTokens: (decoder ?? encoded).tokens,
      keyTokens: encoded.tokens,
    };
  });
}

async function runsOfInputs(path: string, options: ViewOptions): Promise<Run[]> {
  const labels = options.tokens ? await readTokens(options.tokens) : {};
  return [{ title: basename(path), inputs: await readInputs(path), ...labels }];
}

/** The attentions of a run as they come, the model waiting for the page to take each. */
function captureExample(
  model: ScriptModule,
  run: Run,
  options: ViewOptions,
  tokenizer: TextTokenizer | undefined,
): PrepareExample {
  const { parameters } = model.signature();
  if (options.inputs) {
    const note = describeOrder(run.inputs, parameters);
    if (note) process.stderr.write(`${note}\n`);
  }
  const { layers, heads } = options;
  async function* attentions() {
    progress(`running the model on ${run.title} …`);
    const values = arrangeInputs(run.inputs, parameters).map((entry, i) =>
      toValue(entry, parameters[i], options.device),
    );
    yield* disposing(model.captureAttentionStream(values, { ...(layers && { layers }), ...(heads && { heads }) }));
  }
  const { title, queryTokens, keyTokens } = run;
  const example = { title, attentions: attentions() };
  if (queryTokens) return { ...example, tokens: keyTokens ?? queryTokens, targetTokens: queryTokens };
  return tokenizer ? { ...example, ...tokensOfBatch(run.inputs, tokenizer) } : example;
}

async function* counted<Item>(items: Iterable<Item> | AsyncIterable<Item>, count: () => void): AsyncGenerator<Item> {
  for await (const item of items) {
    count();
    yield item;
  }
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

async function readTokens(path: string): Promise<{ queryTokens?: string[]; keyTokens?: string[] }> {
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

function openInBrowser(path: string): void {
  const commands: Partial<Record<NodeJS.Platform, string[]>> = { darwin: ['open'], win32: ['cmd', '/c', 'start', ''] };
  const [command, ...args] = (commands[process.platform] ?? ['xdg-open']) as [string, ...string[]];
  const child = spawn(command, [...args, path], { detached: true, stdio: 'ignore' });
  child.on('error', () => process.stderr.write(`note: no browser could be started; open ${path}\n`));
  child.unref();
}
