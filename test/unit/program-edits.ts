import { readFileSync } from 'node:fs';
import { archiveOf, type Records, recordsOf } from './archive-edits';
import { programPath } from './exported-fixtures';

// biome-ignore lint/suspicious/noExplicitAny: what JSON.parse gives, to be broken
export type Json = any;

export const bytesOf = (name: string): Buffer => readFileSync(programPath(name));

/** A program with its JSON changed, and other records. */
export function edited(
  name: string,
  change: (parts: { program: Json; graph: Json; weights: Json; records: Records }) => void,
  options: { compressed?: boolean } = {},
): Uint8Array {
  const records = recordsOf(bytesOf(name));
  const [model, config] = ['models/model.json', 'data/weights/model_weights_config.json'];
  const program = JSON.parse(Buffer.from(records[model]!).toString());
  const weights = JSON.parse(Buffer.from(records[config]!).toString());
  change({ program, graph: program.graph_module.graph, weights: weights.config, records });
  // The largest integer of 64 bits, which JavaScript has no number for.
  const text = JSON.stringify(program).replaceAll('9223372036854776000', '9223372036854775807');
  if (records[model]) records[model] = Buffer.from(text);
  if (records[config]) records[config] = Buffer.from(JSON.stringify(weights));
  return archiveOf(records, options.compressed ? 9 : 0);
}

export const firstNode = (graph: Json, target: RegExp): Json =>
  graph.nodes.find((node: Json) => target.test(node.target));
export const argument = (node: Json, name: string): Json => node.inputs.find((each: Json) => each.name === name);
