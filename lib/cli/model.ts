import type { Command } from 'commander';
import type { LoadOptions, RunLimits } from '../index';
import { type FlatModel, flatModel } from '../io/flat-model';
import { loadPackage } from '../io/package';
import { parseBytes, parseDuration, unlessNone } from './selection';

/** The options of every command that loads a model. */
export type ModelOptions = Pick<LoadOptions, 'device' | 'untrusted' | 'verify' | 'timeLimit'> &
  Pick<RunLimits, 'memoryLimit'>;

/** Adds the options that say how a model is loaded, and what its runs may take. */
export function addModelOptions(command: Command): Command {
  return command
    .option('--device <device>', "where the model runs: 'cpu', 'cuda', 'cuda:1'")
    .option('--untrusted', 'refuse a checkpoint that could do more than compute, before anything of it runs')
    .option('--verify', 'refuse a checkpoint whose bytes differ from the checksums in it')
    .option('--time-limit <time>', 'end the load, and each run, after 500ms, 30s, 5min', unlessNone(parseDuration))
    .option('--memory-limit <size>', 'end a run that would hold more tensors than 500MB, 2GiB', unlessNone(parseBytes));
}

/** What each run of the model may take. */
export function limitsOf({ timeLimit, memoryLimit }: ModelOptions): RunLimits {
  return { ...(timeLimit !== undefined && { timeLimit }), ...(memoryLimit !== undefined && { memoryLimit }) };
}

/** Loads a model of any kind, lends it to `use`, and gives it back. */
export async function withModel<Result>(
  path: string,
  { device, untrusted, verify, timeLimit }: ModelOptions,
  use: (model: FlatModel) => Promise<Result>,
): Promise<Result> {
  const { loadModel } = loadPackage();
  const model = await loadModel(path, {
    ...(device && { device }),
    ...(untrusted && { untrusted }),
    ...(verify && { verify }),
    ...(timeLimit !== undefined && { timeLimit }),
  });
  try {
    return await use(flatModel(model));
  } finally {
    model.dispose();
  }
}

/** Says on a terminal what takes a while; quiet where the output goes to a file or another program. */
export function progress(message: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${message}\n`);
}
