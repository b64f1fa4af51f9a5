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
  /** Where the tensors end up. Default `'cpu'`. */
  device?: 'cpu' | 'same';
  /** The element type of weights and scores. Default `'float32'`. */
  dtype?: 'float32' | 'same';
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

/** Of options that all captures have: where what is captured ends up, as what, and how much of it there may be. */
export const RESULT_READERS = {
  device: (value: unknown) => ({ sameDevice: optionalChoice(value, ['cpu', 'same'], 'device') === 'same' }),
  dtype: (value: unknown) => ({ sameDtype: optionalChoice(value, ['float32', 'same'], 'dtype') === 'same' }),
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
  ...RESULT_READERS,
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
  return { capture, stop: stopOf(options) };
}
