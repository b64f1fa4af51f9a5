import type { Command } from 'commander';
import { descriptionOf, namedTensorsOf } from '../capture/attention';
import { TorchError } from '../core/errors';
import type { Entry } from '../formats/entry';
import { checkWritable } from '../formats/file';
import { writeSafetensors } from '../formats/safetensors';
import type { Attention, AttentionWithoutWeights } from '../index';
import { collectOutput } from '../io/collect-output';
import { toEntry, toValue } from '../io/entry-values';
import type { FlatModel } from '../io/flat-model';
import type { GivenInput } from '../io/given-inputs';
import { arrangeInputs, describeOrder } from '../io/parameters';
import { TextTokenizer } from '../text/tokenizer';
import { renderHeatmap } from '../view/heatmap';
import { addModelOptions, limitsOf, type ModelOptions, progress, withModel } from './model';
import { addCaptureOptions, type CaptureFlags, captureOf, collectInputs, parseIndex } from './selection';
import { formatTable } from './table';
import { reportUnseen } from './unseen';
import { type Run, runsOfInputs, runsOfTexts } from './view-examples';

interface CommandOptions extends ModelOptions, CaptureFlags {
  inputs?: string;
  tokenizer?: string;
  text?: string;
  textPair?: string;
  decoderText?: string;
  decoderStart?: number;
  input?: GivenInput[];
  out: string;
}

/** Adds `capture`: attention weights into a file. */
export function registerCapture(program: Command): void {
  const command = program
    .command('capture')
    .description('run a checkpoint and write its output and attention weights to a .safetensors file')
    .argument('<model>', 'a TorchScript file or a program of torch.export (.pt2)')
    .option('--inputs <file>', 'inputs of forward: .safetensors, .npz or .json')
    .option('--tokenizer <file>', 'with --text: tokenizer.json of a Hugging Face tokenizer')
    .option('--text <text>', 'instead of --inputs: a text to run the model on')
    .option('--text-pair <text>', 'the second text of a pair')
    .option('--decoder-text <text>', "encoder-decoder models: the decoder's text")
    .option('--decoder-start <id>', "the token that the decoder's text begins with, by its id", parseIndex)
    .option('--input <name=value>', 'one input of forward by name: zeros, ones, or numbers like 1,2,3', collectInputs)
    .requiredOption('--out <file>', 'the .safetensors file to write');
  addCaptureOptions(command);
  addModelOptions(command)
    .addHelpText(
      'after',
      `
Inputs go to forward by the names of its parameters, or in file order where the names differ.
Each attention becomes a tensor attentions.<index> ([batch, heads, queries, keys]) with its name, operator, heads,
queries and whole shape as JSON in the metadata under the same key; the output becomes output, output.<i> or output.<key>.
With --dtype uint8-linear and uint8-log the metadata has a scale: linear is code / 255; log is 0 for 0, NaN for 255, else
2^(24 * (code - 254) / 253).
What else is asked for stands beside it: attentions.<index>.keys (of --top-k), .scores, .logSumExp, .received, .entropy.
What looks like attention and can't be recorded is a JSON list in the metadata under unseen.

Examples:
  libtorch-attention capture model.pt --inputs inputs.safetensors --out attention.safetensors
  libtorch-attention capture model.pt --tokenizer tokenizer.json --text "The cat sat." --out attention.safetensors
  libtorch-attention capture model.pt --inputs inputs.json --out last.safetensors --layers -1 --heads 0,3
  libtorch-attention capture model.pt --inputs inputs.npz --out top.safetensors --layers '/decoder/' --top-k 5
  libtorch-attention capture model.pt --inputs inputs.json --out sums.safetensors --statistics received,entropy --no-weights`,
    )
    .action(async (path: string, options: CommandOptions) => {
      checkSource(options);
      await checkWritable(options.out);
      await withModel(path, options, (model) => runCapture(model, options));
    });
}

/** The run of a text, or of a file of inputs. */
async function runOf(model: FlatModel, options: CommandOptions): Promise<Run> {
  const { inputs, tokenizer, text, textPair, decoderText, decoderStart, input } = options;
  const list = (each: string | undefined) => (each === undefined ? [] : [each]);
  const texts = { text: list(text), textPair: list(textPair), decoderText: list(decoderText) };
  const given = { ...texts, ...(decoderStart !== undefined && { decoderStart }), ...(input && { input }) };
  const [run] =
    inputs === undefined
      ? runsOfTexts(model, given, tokenizer === undefined ? undefined : await TextTokenizer.load(tokenizer))
      : await runsOfInputs({ ...given, inputs });
  return run as Run;
}

/** Refuses what says twice, or not at all, what the model is run on. */
function checkSource({ inputs, text, textPair, decoderText, decoderStart }: CommandOptions): void {
  if ((inputs === undefined) === (text === undefined)) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected either --text (with --tokenizer) or --inputs but received ${inputs === undefined ? 'neither' : 'both'}`,
    );
  }
  const idle = { '--text-pair': textPair, '--decoder-text': decoderText, '--decoder-start': decoderStart };
  const useless = Object.entries(idle).find(([, value]) => value !== undefined && text === undefined);
  if (useless) throw new TorchError('ERR_INVALID_ARGUMENT', `Expected --text with ${useless[0]} but received none`);
}

async function runCapture(model: FlatModel, options: CommandOptions): Promise<void> {
  const { parameters } = model;
  const { inputs } = await runOf(model, options);
  const note = describeOrder(inputs, parameters);
  if (note) process.stderr.write(`${note}\n`);
  progress('running the model …');
  const values = arrangeInputs(inputs, parameters).map((entry, i) => toValue(entry, parameters[i], options.device));
  const { output, attentions, unseen } = await model.captureAttention(values, {
    ...limitsOf(options),
    ...captureOf(options),
  });

  const entries: Entry[] = [];
  const metadata: Record<string, string> = {};
  collectOutput('output', output, entries, metadata);
  for (const attention of attentions) {
    const key = `attentions.${attention.index}`;
    for (const [suffix, tensor] of namedTensorsOf(attention)) entries.push(toEntry(`${key}${suffix}`, tensor));
    metadata[key] = JSON.stringify(descriptionOf(attention));
  }
  metadata.unseen = JSON.stringify(unseen);
  await writeSafetensors(options.out, entries, metadata);
  process.stdout.write(`${[report(attentions, options), ...reportUnseen(unseen)].join('\n\n')}\n`);
}

function report(
  attentions: readonly (AttentionWithoutWeights & Partial<Attention>)[],
  options: CommandOptions,
): string {
  const rows = attentions.map((attention) => {
    const { index, name, operator } = attention;
    const [first] = namedTensorsOf(attention).map(([, tensor]) => tensor);
    return [
      String(index),
      name || '(no module left)',
      operator,
      first ? `[${first.shape.join(', ')}]` : '(nothing)',
      first?.dtype ?? '',
    ];
  });
  const first = attentions[0];
  const parts = [formatTable(['attention', 'module', 'operator', 'shape', 'dtype'], rows)];
  if (first?.weights) parts.unshift(...heatmapOf(first as Attention, options.averageHeads ?? false));
  parts.push(
    `${attentions.length} attention${attentions.length === 1 ? '' : 's'} and the output are in ${options.out}`,
  );
  return parts.join('\n\n');
}

/** The first head of the first sequence. */
function heatmapOf(attention: Attention, averaged: boolean): string[] {
  const { name, index, weights, keys, heads, queries, shape } = attention;
  const [rows, kept] = weights.shape.slice(-2) as [number, number];
  const columns = shape.at(-1) as number;
  const values = attention.decode().toTypedArray();
  const positions = keys?.toTypedArray();
  const data = new Float32Array(rows * columns);
  for (let i = 0; i < rows * kept; i++) {
    const column = positions ? Number(positions[i]) : i % kept;
    data[Math.floor(i / kept) * columns + column] = values[i] as number;
  }
  const title = `${name || `attention ${index}`}, ${averaged ? `mean of ${heads.length} heads` : `head ${heads[0]}`}`;
  return [title, renderHeatmap({ shape: [rows, columns], data }, queries.map(String), [])];
}
