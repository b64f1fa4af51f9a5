import { isDType, isQuantized } from '../core/dtype';
import { TorchError } from '../core/errors';
import type { Entry } from '../formats/entry';
import type { Tensor, Value } from '../index';
import { loadPackage } from './package';
import type { Parameter } from './parameters';

/** The type of a parameter that is a number or a boolean; undefined for one that is a tensor. */
export function scalarType(parameter: Parameter | undefined): string | undefined {
  return /^(?:Optional\[)?(int|float|bool|number)\]?$/.exec(parameter?.type ?? '')?.[1];
}

/** The value that a parameter takes from a tensor of a file: a number where it is one, else a tensor. */
export function toValue(entry: Entry | null, parameter: Parameter | undefined, device: string | undefined): Value {
  if (!entry) return null;
  const { dtype, shape, data } = entry;
  const scalar = scalarType(parameter);
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
