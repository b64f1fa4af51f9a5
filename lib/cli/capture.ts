import { type Command, Option } from 'commander';
import type { Entry } from '../formats/entry';
import { writeSafetensors } from '../formats/safetensors';
import type { Attention, CaptureOptions, ScriptModule, Value } from '../index';
import { renderHeatmap } from '../view/heatmap';
import { arrangeInputs, describeOrder, readInputs } from './inputs';
import { addModelOptions, limitsOf, type ModelOptions, progress, toEntry, toValue, withModel } from './model';
import { loadPackage } from './package';
import { addSelectionOptions, parseCount } from './selection';
import { formatTable } from './table';
import { topK } from './top-k';

interface CommandOptions extends ModelOptions {
  inputs: string;
  out: string;
  layers?: (string | RegExp | number)[];
  heads?: number[];
  queries?: number[];
  averageHeads?: boolean;
  topK?: number;
  dtype?: 'float32' | 'same';
}

/** Adds `capture`: attention weights into a file. */
export function registerCapture(program: Command): void {
  const command = program
    .command('capture')
    .description('run a checkpoint and write its output and attention weights to a .safetensors file')
    .argument('<model>', 'a TorchScript file')
    .requiredOption('--inputs <file>', 'inputs of forward: .safetensors, .npz or .json')
    .requiredOption('--out <file>', 'the .safetensors file to write');
  addSelectionOptions(command)
    .option('--top-k <k>', 'for each query the k largest weights and their key positions only', parseCount)
    .addOption(new Option('--dtype <dtype>', 'dtype of the weights').choices(['float32', 'same']));
  addModelOptions(command)
    .addHelpText(
      'after',
      `
Inputs go to forward by the names of its parameters, or in file order where the names differ.
Each attention becomes a tensor attentions.<index> ([batch, heads, queries, keys]) with its name, operator, heads,
queries and whole shape as JSON in the metadata under the same key; the output becomes output, output.<i> or output.<key>.

Examples:
  libtorch-attention capture model.pt --inputs inputs.safetensors --out attention.safetensors
  libtorch-attention capture model.pt --inputs inputs.json --out last.safetensors --layers -1 --heads 0,3
  libtorch-attention capture model.pt --inputs inputs.npz --out top.safetensors --layers '/decoder/' --top-k 5`,
    )
    .action((path: string, options: CommandOptions) => withModel(path, options, (model) => runCapture(model, options)));
}

async function runCapture(model: ScriptModule, options: CommandOptions): Promise<void> {
  const { parameters } = model.signature();
  const inputs = await readInputs(options.inputs);
  const note = describeOrder(inputs, parameters);
  if (note) process.stderr.write(`${note}\n`);
  progress('running the model …');
  const values = arrangeInputs(inputs, parameters).map((entry, i) => toValue(entry, parameters[i], options.device));
  const { output, attentions } = await model.captureAttention(values, captureOptions(options));

  const entries: Entry[] = [];
  const metadata: Record<string, string> = {};
  collectOutput('output', output, entries, metadata);
  for (const attention of attentions) {
    const { index, name, operator, heads, queries, weights, shape } = attention;
    const entry = toEntry(`attentions.${index}`, weights);
    entries.push(...(options.topK ? Object.values(topK(entry, options.topK)) : [entry]));
    metadata[`attentions.${index}`] = JSON.stringify({ name, operator, heads, queries, shape });
  }
  await writeSafetensors(options.out, entries, metadata);
  process.stdout.write(`${report(attentions, options)}\n`);
}

function captureOptions(options: CommandOptions): CaptureOptions {
  const { layers, heads, queries, averageHeads, dtype } = options;
  return {
    ...limitsOf(options),
    ...(layers && { layers }),
    ...(heads && { heads }),
    ...(queries && { queries }),
    ...(averageHeads && { averageHeads }),
    ...(dtype && { dtype }),
  };
}

/** The tensors of an output by their place in it; what is no tensor goes to the metadata, as JSON. */
function collectOutput(name: string, value: Value, entries: Entry[], metadata: Record<string, string>): void {
  if (value instanceof loadPackage().Tensor) {
    entries.push(toEntry(name, value));
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, item] of Object.entries(value)) collectOutput(`${name}.${key}`, item, entries, metadata);
  } else {
    metadata[name] = JSON.stringify(value);
  }
}

function report(attentions: readonly Attention[], options: CommandOptions): string {
  const rows = attentions.map(({ index, name, operator, weights }) => [
    String(index),
    name || '(no module left)',
    operator,
    `[${weights.shape.join(', ')}]`,
    weights.dtype,
  ]);
  const first = attentions[0];
  const parts = [formatTable(['attention', 'module', 'operator', 'shape', 'dtype'], rows)];
  if (first) parts.unshift(...heatmapOf(first, options.averageHeads ?? false));
  parts.push(
    `${attentions.length} attention${attentions.length === 1 ? '' : 's'} and the output are in ${options.out}`,
  );
  return parts.join('\n\n');
}

/** The first head of the first sequence. */
function heatmapOf({ name, index, weights, heads, queries }: Attention, averaged: boolean): string[] {
  const [rows, columns] = weights.shape.slice(-2) as [number, number];
  const first = weights.dtype === 'float32' ? weights : weights.to({ dtype: 'float32' });
  const data = (first.toTypedArray() as Float32Array).subarray(0, rows * columns);
  const title = `${name || `attention ${index}`}, ${averaged ? `mean of ${heads.length} heads` : `head ${heads[0]}`}`;
  return [title, renderHeatmap({ shape: [rows, columns], data }, queries.map(String), [])];
}
