import { isRegExp } from 'node:util/types';
import type { NativeCaptureOptions } from '../core/binding';
import { type Stop, stopOf } from '../core/cancellable';
import { TorchError } from '../core/errors';
import { RUN_LIMITS, type RunLimits } from '../core/run-limits';
import type { Tensor } from '../core/tensor';
import {
  options as checkOptions,
  elements,
  integer,
  invalid,
  isCallable,
  isPlainObject,
  optionalBoolean,
  optionalChoice,
  reading,
  shortened,
} from '../core/validate';
import type { Value } from '../core/value';
import type { Attention } from './attention';

/**
 * What a capture records, and how; `Output` is what the model returns.
 *
 * @example
 * const options: CaptureOptions = { layers: [-1, /cross_attn$/], heads: [0], queries: { start: 0, end: 16 }, topK: 8 };
 */
export interface CaptureOptions<Output = Value> extends RunLimits {
  /**
   * Which attentions: names of modules (each with everything below it), regular expressions on those names, positions in
   * execution order (negative from the end). Default: all.
   */
  layers?: readonly (string | RegExp | number)[];
  /** Heads, counted from 0. Default: all. */
  heads?: readonly number[];
  /** Query positions, counted from 0; `end` is excluded. Default: all. */
  queries?: readonly number[] | { start: number; end: number };
  /** Mean over the heads: weights of shape `[B, Q, K]`. Default false. */
  averageHeads?: boolean;
  /**
   * Per query row only the K largest weights, largest first, and their key positions; equal weights by position. Where
   * there are fewer keys, all of them. The whole matrix is never held. Default: all, in order of position.
   */
  topK?: number;
  /**
   * Whether to return the weights. If false, and only `statistics` or `logSumExp` are requested, the matrix is never
   * allocated. Default true.
   */
  weights?: boolean;
  /**
   * Also return the scores before the softmax, with masks added. Behind a fused kernel they are computed beside it. Default
   * false.
   */
  scores?: boolean;
  /** Also return log Σ exp(scores) of each row. Default false. */
  logSumExp?: boolean;
  /**
   * Also return statistics, computed without the matrix: the weight that each key `'received'`, summed over query positions,
   * and the `'entropy'` of each row. Default: none.
   */
  statistics?: readonly ('received' | 'entropy')[];
  /**
   * Whether the output is bit-identical to `forward`'s. If false, `scaled_dot_product_attention` and its weights are computed
   * together on the CPU, each score once: faster, the weights are the same bits, and the output is as exact as that of libtorch's
   * fused kernel, in another order of sums (the two differ by about 1e-6 of the largest element). Only where all heads and queries
   * are captured, in float32, without dropout and gradients, of more than five queries; all other attentions stay bit-identical.
   * Default true.
   */
  exact?: boolean;
  /** Where the tensors end up. Default `'cpu'`. */
  device?: 'cpu' | 'same';
  /**
   * The element type of weights and scores, which are written in it at once. Sums of them (`logSumExp`, `statistics`) and
   * gradients are float32, or, with `'same'`, what the model computes in. Default `'float32'`.
   *
   * - `'same'`: the type that the model computes in.
   * - `'float16'`: half the bytes. Rounded to nearest, ties to even: within 2⁻¹¹ = 0.05 % of weights from 2⁻¹⁴ on, within 2⁻²⁵ of
   *   smaller ones. Scores beyond 65,504 are infinite.
   * - `{ type: 'uint8', scale }`: a quarter of the bytes, as codes that `Attention.decode` reads. For weights from 0 to 1: kinds
   *   `'signed'` and `'relu'`, and attentions with any other weight, are refused. Not with `scores`.
   *   `scale: 'linear'`: code / 255; at most 1/510 = 0.002 off. NaN is refused.
   *   `scale: 'log'`: zero is 0, NaN is 255, others are 2^(24 · (code - 254) / 253), which is within 3.4 % of weights from 2⁻²⁴ on;
   *   smaller ones become 2⁻²⁴ = 6e-8.
   */
  dtype?: 'float32' | 'same' | 'float16' | { type: 'uint8'; scale: 'linear' | 'log' };
  /** Refuses a capture that would hold more bytes, before they are allocated (`ERR_CAPTURE_TOO_LARGE`). */
  maxBytes?: number;
  /**
   * A scalar of the output: each attention also gets d(scalar)/d(weights). The model then runs with gradients and without
   * fused encoder layers, so that the last bits of the output may differ. Default: none.
   */
  gradientOf?: (output: Output) => Tensor | Promise<Tensor>;
  /**
   * Takes each attention as soon as it exists; `attentions` of the result is then empty. The model waits until what this
   * returns is settled, so that the run itself holds no more than one. Those that were taken stay in memory until the
   * garbage collector finds them: dispose `weights` (and `keys`) of each where that matters.
   */
  onAttention?: (attention: Attention) => unknown;
}

function indices(value: unknown, what: string): number[] {
  const list = elements(value, 'an array of integers', what, (each) => integer(each, `an element of ${what}`, 0));
  if (list.length === 0)
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected at least one element in ${what} but received none`);
  if (new Set(list).size !== list.length) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected each element of ${what} once but received [${list.join(', ')}]`,
    );
  }
  return list;
}

function labelOf(layer: string | RegExp): string {
  return typeof layer === 'string' ? `'${shortened(layer)}'` : shortened(String(layer));
}

/**
 * The error for a module name, or a pattern, that fits none of a checkpoint's modules; with advice for one that has none.
 */
export function unknownModule(
  received: string | RegExp,
  moduleNames: readonly string[],
  insteadWhereFrozen: string,
): TorchError {
  const label = labelOf(received);
  const known = moduleNames.filter((name) => name !== '');
  if (known.length === 0) {
    return new TorchError(
      'ERR_UNKNOWN_MODULE',
      `Expected no module name, since this checkpoint has none left (it is frozen), but received ${label}; ${insteadWhereFrozen}`,
    );
  }
  const listed = known.slice(0, 12).join(', ');
  return new TorchError(
    'ERR_UNKNOWN_MODULE',
    `Expected the name of a module of this checkpoint but received ${label}; it has ${listed}${known.length > 12 ? `, … (${known.length} in all, see modules())` : ''}`,
  );
}

/** The most selectors of one capture, each of which is compared with all names of modules. */
const MAX_LAYERS = 2 ** 16;

type LayerSelector = NonNullable<NativeCaptureOptions['layers']>[number];

/**
 * The names of the modules that a name or a pattern fits, at least one. Undefined for what is neither.
 *
 * @param insteadWhereFrozen What can be done with a checkpoint that has no names left.
 */
export function modulesNamed(
  given: unknown,
  moduleNames: readonly string[],
  insteadWhereFrozen: string,
): { label: string; names: string[] } | undefined {
  let received: string | RegExp;
  let names: string[];
  if (typeof given === 'string') {
    received = given;
    names = moduleNames.includes(given) ? [given] : [];
  } else if (isRegExp(given)) {
    const pattern = new RegExp(given.source, given.flags.replace(/[gy]/g, '')); // without state between tests
    received = pattern;
    names = moduleNames.filter((name) => pattern.test(name));
  } else {
    return undefined;
  }
  if (names.length === 0) throw unknownModule(received, moduleNames, insteadWhereFrozen);
  return { label: labelOf(received), names };
}

/** A layer as the addon selects it: a position, or the names of modules that exist. */
function selector(layer: unknown, moduleNames: readonly string[]): LayerSelector {
  if (typeof layer === 'number') return { label: String(integer(layer, 'an element of layers')), position: layer };
  const named = modulesNamed(layer, moduleNames, 'attentions can be selected by position');
  if (!named) throw invalid('module names, regular expressions or positions', 'an element of layers', layer);
  return named;
}

function layers(value: unknown, moduleNames: () => readonly string[]): LayerSelector[] {
  const names = moduleNames();
  const selectors = elements(value, 'an array', 'layers', (layer) => selector(layer, names), MAX_LAYERS);
  if (selectors.length === 0)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected at least one element in layers but received none');
  return selectors;
}

function queries(value: unknown): number[] | { start: number; end: number } {
  if (reading('queries', () => Array.isArray(value))) return indices(value, 'queries');
  if (value === null || typeof value !== 'object')
    throw invalid('an array of integers or { start, end }', 'queries', value);
  const given = checkOptions(value as { start?: unknown; end?: unknown }, ['start', 'end'], 'queries');
  const start = integer(given.start, 'queries.start', 0);
  const end = integer(given.end, 'queries.end', 0);
  if (end <= start) throw invalid(`an integer greater than start (${start})`, 'queries.end', end);
  return { start, end };
}

function statistics(value: unknown): ('received' | 'entropy')[] {
  const what = 'an element of statistics';
  return elements(value, 'an array', 'statistics', (each) => {
    const name = optionalChoice(each, ['received', 'entropy'], what);
    if (name === undefined) throw invalid("'received' or 'entropy'", what, each);
    return name;
  });
}

function callable(value: unknown, what: string, told: NativeCaptureOptions): NativeCaptureOptions {
  if (!isCallable(value)) throw invalid('a function', what, value);
  return told;
}

/** A type of weights as the addon names it. */
function dtype(value: unknown): NonNullable<NativeCaptureOptions['dtype']> {
  const names = ['float32', 'same', 'float16'] as const;
  const name = names.find((each) => each === value);
  if (name !== undefined) return name;
  if (!isPlainObject(value)) {
    throw invalid("'float32', 'same', 'float16' or { type: 'uint8', scale: 'linear' | 'log' }", 'dtype', value);
  }
  const given = checkOptions(value as { type?: unknown; scale?: unknown }, ['type', 'scale'], 'dtype');
  if (given.type !== 'uint8') throw invalid("'uint8'", 'dtype.type', given.type);
  const scale = optionalChoice(given.scale, ['linear', 'log'], 'dtype.scale');
  if (scale === undefined) throw invalid("'linear' or 'log'", 'dtype.scale', scale);
  return scale;
}

/** Of options that all captures have: where what is captured ends up, and how much of it there may be. */
export const RESULT_READERS = {
  device: (value: unknown) => ({ sameDevice: optionalChoice(value, ['cpu', 'same'], 'device') === 'same' }),
  maxBytes: (value: unknown) => (value === Number.POSITIVE_INFINITY ? {} : { maxBytes: integer(value, 'maxBytes', 0) }),
};

/** What the addon is told of each option that is given, once it is checked. The addon has the same table (node/captures). */
const READERS = {
  layers: (value, moduleNames) => ({ layers: layers(value, moduleNames) }),
  heads: (value) => ({ heads: indices(value, 'heads') }),
  queries: (value) => ({ queries: queries(value) }),
  averageHeads: (value) => ({ averageHeads: optionalBoolean(value, 'averageHeads') ?? false }),
  weights: (value) => ({ weights: optionalBoolean(value, 'weights') ?? true }),
  scores: (value) => ({ scores: optionalBoolean(value, 'scores') ?? false }),
  logSumExp: (value) => ({ logSumExp: optionalBoolean(value, 'logSumExp') ?? false }),
  statistics: (value) => ({ statistics: statistics(value) }),
  topK: (value) => ({ topK: integer(value, 'topK', 1) }),
  exact: (value) => ({ exact: optionalBoolean(value, 'exact') ?? true }),
  ...RESULT_READERS,
  dtype: (value) => ({ dtype: dtype(value) }),
  // The function itself is put in place by the model, whose hooks it is like.
  onAttention: (value) => callable(value, 'onAttention', {}),
  gradientOf: (value) => callable(value, 'gradientOf', { gradients: true }),
} satisfies Record<
  Exclude<keyof CaptureOptions, keyof RunLimits>,
  (value: unknown, moduleNames: () => readonly string[]) => NativeCaptureOptions
>;

/** The options of a capture that are the same for all models. */
export const CAPTURE_OPTIONS: readonly string[] = [...Object.keys(READERS), ...RUN_LIMITS];

/** Checks the options of a capture, whose names are known by now, and puts them as the addon takes them. */
export function toNativeCapture(
  options: CaptureOptions<never>,
  moduleNames: () => readonly string[],
): { capture: NativeCaptureOptions; stop: Stop } {
  const capture: NativeCaptureOptions = {};
  for (const [name, read] of Object.entries(READERS)) {
    const value = options[name as keyof typeof READERS];
    if (value !== undefined) Object.assign(capture, read(value, moduleNames));
  }
  if (options.onAttention !== undefined && options.gradientOf !== undefined) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      'Expected onAttention or gradientOf but received both: gradients exist only once all attentions do',
    );
  }
  const { weights, scores, logSumExp, statistics: sums, topK, gradients } = capture;
  if (weights === false && !scores && !logSumExp && !sums?.length && topK === undefined && !gradients) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      'Expected scores, logSumExp, statistics, topK or gradientOf beside weights: false but received none of them; ' +
        'attentionSites tells what there is',
    );
  }
  if (capture.dtype === 'linear' || capture.dtype === 'log') {
    if (scores) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        "Expected dtype 'float32', 'float16' or 'same' with scores, which no scale of codes covers, but received { type: 'uint8' }",
      );
    }
    if (weights === false) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        "Expected weights with dtype { type: 'uint8' }, which is about nothing else, but received weights: false",
      );
    }
  }
  return { capture, stop: stopOf(options) };
}
