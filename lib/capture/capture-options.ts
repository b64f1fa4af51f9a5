import { isRegExp } from 'node:util/types';
import type { NativeCaptureOptions } from '../core/binding';
import { TorchError } from '../core/errors';
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
import { type Stop, stopOf } from '../model/cancellable';
import { RUN_LIMITS, type RunLimits } from '../model/run-options';
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
  /** Where the weights end up. Default `'cpu'`. */
  device?: 'cpu' | 'same';
  /** Their element type. Default `'float32'`. */
  dtype?: 'float32' | 'same';
  /** Refuses a capture that would hold more bytes of weights, before they are allocated (`ERR_CAPTURE_TOO_LARGE`). */
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

/** A layer as the addon selects it: a position, or the names of modules that exist. */
function selector(layer: unknown, moduleNames: readonly string[]): LayerSelector {
  if (typeof layer === 'number') return { label: String(integer(layer, 'an element of layers')), position: layer };
  let received: string | RegExp;
  let names: string[];
  if (typeof layer === 'string') {
    received = layer;
    names = moduleNames.includes(layer) ? [layer] : [];
  } else if (isRegExp(layer)) {
    const pattern = new RegExp(layer.source, layer.flags.replace(/[gy]/g, '')); // without state between tests
    received = pattern;
    names = moduleNames.filter((name) => pattern.test(name));
  } else {
    throw invalid('module names, regular expressions or positions', 'an element of layers', layer);
  }
  if (names.length === 0) throw unknownModule(received, moduleNames, 'attentions can be selected by position');
  return { label: labelOf(received), names };
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

function callable(value: unknown, what: string, told: NativeCaptureOptions): NativeCaptureOptions {
  if (!isCallable(value)) throw invalid('a function', what, value);
  return told;
}

/** What the addon is told of each option that is given, once it is checked. The addon has the same table (node/captures). */
const READERS = {
  layers: (value, moduleNames) => ({ layers: layers(value, moduleNames) }),
  heads: (value) => ({ heads: indices(value, 'heads') }),
  queries: (value) => ({ queries: queries(value) }),
  averageHeads: (value) => ({ averageHeads: optionalBoolean(value, 'averageHeads') ?? false }),
  topK: (value) => ({ topK: integer(value, 'topK', 1) }),
  device: (value) => ({ sameDevice: optionalChoice(value, ['cpu', 'same'], 'device') === 'same' }),
  dtype: (value) => ({ sameDtype: optionalChoice(value, ['float32', 'same'], 'dtype') === 'same' }),
  maxBytes: (value) => (value === Number.POSITIVE_INFINITY ? {} : { maxBytes: integer(value, 'maxBytes', 0) }),
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
  return { capture, stop: stopOf(options) };
}
