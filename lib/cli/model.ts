import type { Command } from 'commander';
import { isDType, isQuantized } from '../core/dtype';
import { TorchError } from '../core/errors';
import type { Entry } from '../formats/entry';
import type { LoadOptions, RunLimits, Tensor, Value } from '../index';
import { type CommandModel, commandModel } from './command-model';
import type { Parameter } from './inputs';
import { loadPackage } from './package';
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
  use: (model: CommandModel) => Promise<Result>,
): Promise<Result> {
  const { loadModel } = loadPackage();
  const model = await loadModel(path, {
    ...(device && { device }),
    ...(untrusted && { untrusted }),
    ...(verify && { verify }),
    ...(timeLimit !== undefined && { timeLimit }),
  });
  try {
    return await use(commandModel(model));
  } finally {
    model.dispose();
  }
}

/** The value that a parameter takes from a tensor of a file: a number where it is one, else a tensor. */
export function toValue(entry: Entry | null, parameter: Parameter | undefined, device: string | undefined): Value {
  if (!entry) return null;
  const { dtype, shape, data } = entry;
  const scalar = /^(?:Optional\[)?(int|float|bool|number)\]?$/.exec(parameter?.type ?? '')?.[1];
  if (!scalar) return loadPackage().Tensor.from(data, { dtype, shape, ...(device ? { device } : {}) });
  if (data.length !== 1 || /^b?float16$/.test(dtype)) {
    const received = `${dtype} [${shape.join(', ')}]`;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a single ${scalar} for '${parameter?.name}' but received ${received}`,
    );
  }
  return scalar === 'bool' ? Number(data[0]) !== 0 : Number(data[0]);
}

/**
 * A tensor as the entry of a `.safetensors` file. Of types that the format or tensors here lack: the numbers that quantized
 * elements stand for, complex128 as pairs of float64 in one more dimension, others as float32.
 */
export function toEntry(name: string, tensor: Tensor): Entry {
  const { dtype } = tensor;
  if (isQuantized(dtype)) return toEntry(name, tensor.dequantize());
  if (!isDType(dtype)) return toEntry(name, tensor.to({ dtype: 'float32' }));
  const data = tensor.toTypedArray() as Entry['data'];
  if (dtype === 'complex128') return { name, dtype: 'float64', shape: [...tensor.shape, 2], data };
  return { name, dtype, shape: [...tensor.shape], data };
}

/** Says on a terminal what takes a while; quiet where the output goes to a file or another program. */
export function progress(message: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${message}\n`);
}
