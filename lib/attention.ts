import { isRegExp } from 'node:util/types';
import type { NativeAttention, NativeCaptureOptions } from './binding';
import { RUN_LIMITS, type RunLimits, type Stop, stopOf } from './cancellable';
import { TorchError } from './errors';
import { type DType, fromHandle, type Tensor } from './tensor';
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
  shown,
} from './validate';
import type { Value } from './value';

/** What a capture records, and how; `Output` is what the model returns. */
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

/** The weights of one attention of one forward. */
export interface Attention {
  /** Position in execution order among all attention calls of this forward. */
  index: number;
  /** Dotted name of the module that computed it; `''` where the checkpoint has no modules left (frozen). */
  name: string;
  /** The operator observed: `'scaled_dot_product_attention'`, `'softmax'`, `'transformer_encoder_layer'` … */
  operator: string;
  /** `[B, H, Q, K]` of the whole attention, whatever was selected of it. */
  shape: [number, number, number, number];
  /** `[B, H, Q, K]`; `[B, Q, K]` with `averageHeads`; K is at most `topK`. A fused kernel's row without any key is zero. */
  weights: Tensor;
  /** With `topK`: the key positions of `weights`, int64, of the same shape. */
  keys?: Tensor;
  /** Which heads these are (with `averageHeads`: the mean of). */
  heads: number[];
  /** Which query positions these are. */
  queries: number[];
  /** With `gradientOf`: d(scalar)/d(weights), the shape of the weights (with `averageHeads`: the mean over the heads). */
  gradient?: Tensor;
}

/** An attention that a capture would record. */
export interface AttentionSite {
  index: number;
  name: string;
  operator: string;
  /** `[B, H, Q, K]` */
  shape: [number, number, number, number];
  heads: number;
  queries: number;
  keys: number;
  /** The type that the model computes it in. */
  dtype: DType;
  device: string;
}

/** The options of a capture that are the same for all models. */
export const CAPTURE_OPTIONS: readonly string[] = [
  'layers',
  'heads',
  'queries',
  'averageHeads',
  'topK',
  'device',
  'dtype',
  'maxBytes',
  'onAttention',
  'gradientOf',
  ...RUN_LIMITS,
];

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

/** Checks the options of a capture, whose names are known by now, and puts them as the addon takes them. */
export function toNativeCapture(
  options: CaptureOptions<never>,
  moduleNames: () => readonly string[],
): { capture: NativeCaptureOptions; stop: Stop } {
  const capture: NativeCaptureOptions = {};
  if (options.layers !== undefined) {
    const names = moduleNames();
    capture.layers = elements(options.layers, 'an array', 'layers', (layer) => selector(layer, names), MAX_LAYERS);
    if (capture.layers.length === 0)
      throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected at least one element in layers but received none');
  }
  if (options.heads !== undefined) capture.heads = indices(options.heads, 'heads');
  if (options.queries !== undefined) {
    if (reading('queries', () => Array.isArray(options.queries))) {
      capture.queries = indices(options.queries, 'queries');
    } else {
      const range = options.queries as { start?: unknown; end?: unknown } | null;
      if (range === null || typeof range !== 'object')
        throw invalid('an array of integers or { start, end }', 'queries', range);
      const given = checkOptions(range, ['start', 'end'], 'queries');
      const start = integer(given.start, 'queries.start', 0);
      const end = integer(given.end, 'queries.end', 0);
      if (end <= start) throw invalid(`an integer greater than start (${start})`, 'queries.end', end);
      capture.queries = { start, end };
    }
  }
  capture.averageHeads = optionalBoolean(options.averageHeads, 'averageHeads') ?? false;
  if (options.topK !== undefined) capture.topK = integer(options.topK, 'topK', 1);
  if (options.onAttention !== undefined) {
    if (!isCallable(options.onAttention)) throw invalid('a function', 'onAttention', options.onAttention);
    if (options.gradientOf !== undefined) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        'Expected onAttention or gradientOf but received both: gradients exist only once all attentions do',
      );
    }
  }
  capture.sameDevice = optionalChoice(options.device, ['cpu', 'same'], 'device') === 'same';
  capture.sameDtype = optionalChoice(options.dtype, ['float32', 'same'], 'dtype') === 'same';
  if (options.maxBytes !== undefined) {
    if (options.maxBytes !== Number.POSITIVE_INFINITY) capture.maxBytes = integer(options.maxBytes, 'maxBytes', 0);
  }
  if (options.gradientOf !== undefined) {
    if (!isCallable(options.gradientOf)) throw invalid('a function', 'gradientOf', options.gradientOf);
    capture.gradients = true;
  }
  return { capture, stop: stopOf(options) };
}

export function fromNativeAttention(attention: NativeAttention): Attention {
  const { index, name, operator, shape, heads, queries, weights, keys } = attention;
  if (!weights) throw new Error(`the addon gave no weights for attention ${shown(index)}`);
  return {
    index,
    name,
    operator,
    shape,
    weights: fromHandle(weights),
    heads,
    queries,
    ...(keys ? { keys: fromHandle(keys) } : {}),
  };
}

export function fromNativeSite(attention: NativeAttention): AttentionSite {
  const { index, name, operator, shape, dtype, device } = attention;
  return {
    index,
    name,
    operator,
    shape,
    heads: shape[1],
    queries: shape[2],
    keys: shape[3],
    dtype: dtype as DType,
    device: device ?? 'cpu',
  };
}
