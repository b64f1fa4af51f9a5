import { spawn } from 'node:child_process';
import { basename, resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { TorchError } from '../core/errors';
import { checkWritable, writeWhole } from '../formats/file';
import type { PrepareExample } from '../view/prepare';
import { DEFAULT_MAX_SIZE, renderExamples } from '../view/render-view';
import { addModelOptions } from './model';
import {
  addSelectionOptions,
  collect,
  collectInputs,
  collectLayers,
  parseBytes,
  parseCount,
  parseIndex,
  parsePatches,
} from './selection';
import { type ExampleOptions, isCapture, withExamples } from './view-examples';
import { type FigureOptions, wantsFigure, writeFigure } from './view-figure';
import { type ServeOptions, serveView } from './view-serve';

interface ViewOptions extends ExampleOptions, FigureOptions, ServeOptions {
  out: string;
  title?: string;
  against?: string;
  compare?: boolean;
  serve?: boolean;
  open?: boolean;
}

/** Adds `view`: attention as a page. */
export function registerView(program: Command): void {
  const command = program
    .command('view')
    .description('run a checkpoint on texts and write its attention as one HTML file that works offline')
    .argument('<model>', "a TorchScript file, or a .safetensors file that 'capture' wrote")
    .option('--tokenizer <file>', 'tokenizer.json of a Hugging Face tokenizer')
    .option('--text <text>', 'a text to run the model on; repeat for several', collect)
    .option('--text-pair <text>', 'the second text of a pair, one for each --text', collect)
    .option('--decoder-text <text>', "encoder-decoder models: the decoder's text, one for each --text", collect)
    .option('--decoder-start <id>', "the token that the decoder's text begins with, by its id", parseIndex)
    .option('--inputs <file>', 'instead of texts: inputs of forward in a .safetensors, .npz or .json file')
    .option('--input <name=value>', 'one input of forward by name: zeros, ones, or numbers like 1,2,3', collectInputs)
    .option('--tokens <file>', 'labels of the positions in JSON, ["a", …] or {"queries": […], "keys": […]}')
    .option('--image <file>', 'a picture whose patches are the positions; only shown: pixels come from --inputs')
    .option('--patches <rows x columns>', 'how many patches it has, like 14x14', parsePatches)
    .option('--prefix <count>', 'how many tokens (class, registers) come before the patches', parseIndex);
  addSelectionOptions(command)
    .option('--top-k <k>', 'for each query the k largest weights only', parseCount)
    .option('--rollout', 'attention rollout beside the layers')
    .option('--against <model>', 'another checkpoint or capture: the page opens with the two compared')
    .option('--compare', 'open the page with the first two texts compared');
  addModelOptions(command)
    .option('--title <title>', "the page's heading")
    .option('--max-size <size>', 'how large the page may be', parseBytes, DEFAULT_MAX_SIZE)
    .option('--out <file>', 'the HTML file to write', 'attention.html')
    .option('--open', 'open the page in the browser')
    .option('--serve', 'instead of a file: a page on this machine in which texts are typed, until Ctrl+C')
    .option('--port <port>', 'with --serve: the port; a free one where none is given', parseIndex)
    .option('--host <host>', 'with --serve: the address to listen on', '127.0.0.1')
    .option('--svg <file>', 'instead of a page: one head as SVG; with --layer and --head')
    .option('--png <file>', 'the same as PNG (needs the package @resvg/resvg-js)')
    .option('--csv <file>', 'one row of it as CSV; with --query')
    .option('--layer <layer>', 'for figures: a module name, a /regular expression/ or a position', parseOneLayer)
    .option('--head <head>', 'for figures: the head', parseIndex)
    .addOption(
      new Option('--figure <view>', 'for figures: what is drawn of the head')
        .choices(['matrix', 'heads', 'text', 'image'])
        .default('matrix'),
    )
    .option('--query <position>', 'for figures and --csv: the query that is asked what it attends to', parseIndex)
    .option('--key <position>', 'for figures: the key that is asked who attends to it', parseIndex)
    .option('--threshold <weight>', 'for --figure heads: lines are drawn for weights from this on', parseWeight, 0.05)
    .option('--merge-words', 'for --figure text: the pieces of a word are one')
    .option('--padding', 'for figures: padding is drawn too')
    .addOption(new Option('--scale <scale>', 'for figures: colours').choices(['log', 'root', 'linear']).default('log'))
    .option('--pixel-ratio <n>', 'for --png: pixels a unit, from 1 to 4', parsePixelRatio, 2)
    .addHelpText(
      'after',
      `
Examples:
  libtorch-attention view model.pt --tokenizer tokenizer.json --text "The cat sat on the mat." --open
  libtorch-attention view model.pt --tokenizer tokenizer.json --text "One." --text "Two." --compare --out two.html
  libtorch-attention view model.pt --tokenizer tokenizer.json --serve --open
  libtorch-attention view vit.pt --inputs image.safetensors --image cat.png --patches 14x14 --prefix 1
  libtorch-attention view capture.safetensors --tokens tokens.json
  libtorch-attention view model.pt --tokenizer tokenizer.json --text "One." --svg head.svg --layer 3 --head 5
  libtorch-attention view model.pt --tokenizer tokenizer.json --text "One." --png text.png --figure text --query 1 --layer 3 --head 5`,
    )
    .action((path: string, options: ViewOptions) => runView(path, options, command));
}

function parseOneLayer(text: string): string | RegExp | number {
  return collectLayers(text)[0] as string | RegExp | number;
}

function parsePixelRatio(text: string): number {
  const ratio = parseCount(text);
  if (ratio > 4)
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected --pixel-ratio from 1 to 4 but received ${ratio}`);
  return ratio;
}

function parseWeight(text: string): number {
  const weight = Number(text);
  if (text.trim() === '' || !(weight >= 0))
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a weight of at least 0 but received '${text}'`);
  return weight;
}

/** Options that say something only beside another one, which is said to be missing where it is. */
const NEEDS: readonly [option: string, needed: readonly (keyof ViewOptions)[], flags: string][] = [
  ['textPair', ['text', 'serve'], '--text'],
  ['decoderText', ['text', 'serve'], '--text'],
  ['decoderStart', ['decoderText', 'serve'], '--decoder-text'],
  ['patches', ['image'], '--image'],
  ['prefix', ['image'], '--image'],
  ['port', ['serve'], '--serve'],
  ['host', ['serve'], '--serve'],
  ['layer', ['svg', 'png', 'csv'], '--svg, --png or --csv'],
  ['head', ['svg', 'png', 'csv'], '--svg, --png or --csv'],
  ['query', ['svg', 'png', 'csv'], '--svg, --png or --csv'],
  ['key', ['svg', 'png'], '--svg or --png'],
  ['figure', ['svg', 'png'], '--svg or --png'],
  ['threshold', ['svg', 'png'], '--svg or --png'],
  ['mergeWords', ['svg', 'png'], '--svg or --png'],
  ['padding', ['svg', 'png'], '--svg or --png'],
  ['scale', ['svg', 'png'], '--svg or --png'],
  ['pixelRatio', ['png'], '--png'],
];

/** Refuses options that would be ignored. */
function refuseIdle(options: ViewOptions, command: Command): void {
  for (const [name, needed, flags] of NEEDS) {
    if (command.getOptionValueSource(name) !== 'cli' || needed.some((each) => options[each])) continue;
    const flag = command.options.find((option) => option.attributeName() === name)?.long ?? name;
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected ${flags} with ${flag} but received none`);
  }
}

/** Refuses files that can't be written, ahead of the run that would be lost. */
async function checkOutputs(options: ViewOptions): Promise<void> {
  if (options.serve) return;
  const { out, svg, png, csv } = options;
  const written = wantsFigure(options) ? [svg, png, csv] : [out];
  for (const path of written) if (path !== undefined) await checkWritable(path);
}

async function runView(path: string, options: ViewOptions, command: Command): Promise<void> {
  refuseIdle(options, command);
  await checkOutputs(options);
  const title = options.title ?? `Attention of ${basename(path)}`;
  if (options.serve) {
    await serveView(path, options, title, (address) => {
      if (options.open) openInBrowser(address);
    });
    return;
  }
  if (wantsFigure(options)) {
    // Of a checkpoint no other layer is captured.
    const own = isCapture(path) || options.layer === undefined ? options : { ...options, layers: [options.layer] };
    const written = await withExamples(path, own, ([example]) => writeFigure(example as PrepareExample, own));
    process.stdout.write(`${written.join('\n')}\n`);
    return;
  }
  let count = 0;
  const counting = (example: PrepareExample): PrepareExample => ({
    ...example,
    attentions: counted(example.attentions, () => count++),
  });
  const compare = options.compare === true || options.against !== undefined;
  const render = (examples: PrepareExample[]) => {
    if (compare && examples.length < 2) {
      const message = `Expected at least two texts with --compare, or --against, but received ${examples.length} text`;
      throw new TorchError('ERR_INVALID_ARGUMENT', message);
    }
    return renderExamples(examples.map(counting), { title, maxSize: options.maxSize, compare });
  };
  const html = await withExamples(path, options, (examples) => withOther(path, options, examples, render));
  await writeWhole(options.out, html);
  const size = (Buffer.byteLength(html) / 1e6).toFixed(1);
  process.stdout.write(`${options.out}: ${count} attention${count === 1 ? '' : 's'}, ${size} MB\n`);
  if (options.open) openInBrowser(resolve(options.out));
}

/** Adds the examples of another model behind each of the first, so that they stand side by side. */
async function withOther(
  path: string,
  options: ViewOptions,
  examples: PrepareExample[],
  render: (examples: PrepareExample[]) => Promise<string>,
): Promise<string> {
  const { against } = options;
  if (against === undefined) return await render(examples);
  const named = (of: string, list: readonly PrepareExample[]) =>
    list.map((example) => ({ ...example, title: isCapture(of) ? basename(of) : `${basename(of)}: ${example.title}` }));
  return await withExamples(against, options, async (others) => {
    const [own, other] = [named(path, examples), named(against, others)];
    return await render(own.flatMap((example, i) => (other[i] ? [example, other[i]] : [example])));
  });
}

async function* counted<Item>(items: Iterable<Item> | AsyncIterable<Item>, count: () => void): AsyncGenerator<Item> {
  for await (const item of items) {
    count();
    yield item;
  }
}

function openInBrowser(target: string): void {
  const commands: Partial<Record<NodeJS.Platform, string[]>> = { darwin: ['open'], win32: ['cmd', '/c', 'start', ''] };
  const [command, ...args] = (commands[process.platform] ?? ['xdg-open']) as [string, ...string[]];
  const child = spawn(command, [...args, target], { detached: true, stdio: 'ignore' });
  child.on('error', () => process.stderr.write(`note: no browser could be started; open ${target}\n`));
  child.unref();
}
