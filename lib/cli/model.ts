import { TorchError } from '../core/errors';
import type { Entry } from '../formats/entry';
import type { ScriptModule, Tensor, Value } from '../index';
import type { Parameter } from './inputs';
import { loadPackage } from './package';

/** Loads a checkpoint, lends it to `use`, and gives it back. */
export async function withModel<Result>(
  path: string,
  device: string | undefined,
  use: (model: ScriptModule) => Promise<Result>,
): Promise<Result> {
  const { ScriptModule } = loadPackage();
  const model = await ScriptModule.load(path, device ? { device } : {});
  try {
    return await use(model);
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

/** A tensor as the entry of a file. */
export function toEntry(name: string, tensor: Tensor): Entry {
  return { name, dtype: tensor.dtype, shape: [...tensor.shape], data: tensor.toTypedArray() as Entry['data'] };
}

/** Says on a terminal what takes a while; quiet where the output goes to a file or another program. */
export function progress(message: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${message}\n`);
}
