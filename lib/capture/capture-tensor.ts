import type { NativeTensorCapture, NativeTensorCaptureOptions } from '../core/binding';
import { type Stop, stopOf } from '../core/cancellable';
import { TorchError } from '../core/errors';
import { adopt } from '../core/realm';
import { RUN_LIMITS, type RunLimits } from '../core/run-limits';
import { fromHandle, type Tensor } from '../core/tensor';
import { options as checkOptions, integer, invalid, optionalChoice, optionalString, shortened } from '../core/validate';
import { modulesNamed, RESULT_READERS } from './capture-options';

/**
 * Selects the values that `captureTensor` returns. Whatever is left out selects all.
 *
 * @example
 * const selector: TensorSelector = { module: 'encoder.layer.0.attention.self', operator: 'softmax', occurrence: 0 };
 * const { tensors } = await model.captureTensor(selector, [ids]);
 */
export interface TensorSelector {
  /**
   * The module whose own code calls the operator: its exact dotted name (`''` is the model itself), or a regular expression.
   * Calls by submodules belong to the submodules.
   */
  module?: string | RegExp;
  /**
   * The operator that computes the value, without its overload: `'linear'`, `'softmax'`, `'add_'`. Operators of other
   * libraries include the namespace: `'torchvision::nms'`.
   */
  operator?: string;
  /** Index of the call among the calls of that operator by that module in this forward, from 0. Default: all. */
  occurrence?: number;
}

/**
 * Options of `captureTensor`.
 *
 * @example
 * const options: TensorCaptureOptions = { dtype: 'same', maxBytes: 2 ** 28, timeLimit: 1000 };
 * const { tensors } = await model.captureTensor({ operator: 'layer_norm' }, [ids], options);
 */
export interface TensorCaptureOptions extends RunLimits {
  /** The device of the results. Default `'cpu'`. */
  device?: 'cpu' | 'same';
  /** The dtype of floating-point values; integers and booleans aren't converted. Default `'float32'`. */
  dtype?: 'float32' | 'same';
  /** Limit of the size of the results in bytes, checked before they are allocated (`ERR_CAPTURE_TOO_LARGE`). */
  maxBytes?: number;
}

/**
 * A value computed by an operator.
 *
 * @example
 * const { tensors } = await model.captureTensor({ operator: 'layer_norm' }, [ids]);
 * for (const { name, occurrence, output, tensor } of tensors) console.log(name, occurrence, output, tensor.shape);
 */
export interface CapturedTensor {
  /** Dotted name of the module that called the operator; `''` for the model itself, and in frozen checkpoints. */
  name: string;
  /** The operator, without its overload. */
  operator: string;
  /** Index of the call among the calls of that operator by that module, from 0. */
  occurrence: number;
  /** Index among the tensors that the operator returned: 0 unless it has several outputs, or returns a list. */
  output: number;
  /** A copy of the value, made when it was computed. */
  tensor: Tensor;
}

const READERS = {
  ...RESULT_READERS,
  dtype: (value: unknown) => ({ sameDtype: optionalChoice(value, ['float32', 'same'], 'dtype') === 'same' }),
};

/** The options of `captureTensor` that are the same for all models. */
export const TENSOR_CAPTURE_OPTIONS: readonly string[] = [...Object.keys(READERS), ...RUN_LIMITS];

/** Checks a selector and the options beside it, whose names are known by now, and puts them as the addon takes them. */
export function toNativeTensorCapture(
  selector: unknown,
  options: TensorCaptureOptions,
  moduleNames: () => readonly string[],
): { capture: NativeTensorCaptureOptions; stop: Stop } {
  if (selector === undefined) throw invalid('{ module, operator, occurrence }', 'selector', selector);
  const { module, operator, occurrence } = checkOptions(
    selector as { module?: unknown; operator?: unknown; occurrence?: unknown },
    ['module', 'operator', 'occurrence'],
    'selector',
  );
  const capture: NativeTensorCaptureOptions = {};
  if (module !== undefined) {
    const named = modulesNamed(module, moduleNames(), 'values can be selected by operator and occurrence');
    if (!named) throw invalid('a module name or a regular expression', 'selector.module', module);
    capture.modules = named.names;
  }
  if (operator !== undefined) capture.operator = operatorName(operator);
  if (occurrence !== undefined) capture.occurrence = integer(occurrence, 'selector.occurrence', 0);
  for (const [name, read] of Object.entries(READERS)) {
    const value = options[name as keyof typeof READERS];
    if (value !== undefined) Object.assign(capture, read(value));
  }
  return { capture, stop: stopOf(options) };
}

/** An operator's name as captures show it: `aten::` is left out. */
function operatorName(value: unknown): string {
  const name = (optionalString(value, 'selector.operator') as string).replace(/^aten::/, '');
  if (name === '' || name.includes('.')) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected the name of an operator without its overload, like 'softmax', for selector.operator but received '${shortened(String(value))}'`,
    );
  }
  return name;
}

/** What a capture of the addon gave, as users get it. */
export function fromNativeTensorCapture<Output>(
  { output, tensors }: NativeTensorCapture,
  convert: (output: unknown) => Output,
): { output: Output; tensors: CapturedTensor[] } {
  return {
    output: convert(output),
    tensors: adopt(tensors).map((each) => ({ ...each, tensor: fromHandle(each.tensor) })),
  };
}
