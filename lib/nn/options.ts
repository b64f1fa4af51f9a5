import { TorchError } from '../core/errors';
import { mostMemory } from '../core/memory';
import { options as checkOptions, integer, invalid, optionalBoolean, optionalChoice } from '../core/validate';

/**
 * Options of encoder and decoder layers, PyTorch's in camelCase.
 *
 * @example
 * const options: nn.TransformerLayerOptions = { dModel: 512, nhead: 8, activation: 'gelu', batchFirst: true };
 */
export interface TransformerLayerOptions {
  /** Features of inputs and outputs, at least 1; the heads have to divide it. */
  dModel: number;
  /** Heads of each attention, at least 1. */
  nhead: number;
  /** Features inside the feed-forward block, at least 1. Default 2048. */
  dimFeedforward?: number;
  /** Probability of dropout in training mode, from 0 to 1. Default 0.1. */
  dropout?: number;
  /** The activation in the feed-forward block. Default `'relu'`. */
  activation?: 'relu' | 'gelu';
  /** Added to the variance in normalizations, from 0 to below 1. Default 1e-5. */
  layerNormEps?: number;
  /** Inputs are `[B, T, E]` instead of `[T, B, E]`. Default false. */
  batchFirst?: boolean;
  /** Normalizations come before the blocks instead of after them. Default false. */
  normFirst?: boolean;
  /** Whether linear layers and normalizations have biases. Default true. */
  bias?: boolean;
}

export type CheckedLayerOptions = Required<TransformerLayerOptions>;

export const LAYER_OPTIONS = [
  'dModel',
  'nhead',
  'dimFeedforward',
  'dropout',
  'activation',
  'layerNormEps',
  'batchFirst',
  'normFirst',
  'bias',
] as const;

/** Checks a probability; default `otherwise`. */
export function probability(value: unknown, what: string, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (typeof value !== 'number' || !(value >= 0 && value <= 1)) throw invalid('a number from 0 to 1', what, value);
  return value;
}

/** Checks the epsilon of a normalization; default 1e-5. */
export function epsilon(value: unknown, what: string): number {
  if (value === undefined) return 1e-5;
  if (typeof value !== 'number' || !(value >= 0 && value < 1)) throw invalid('a number from 0 to below 1', what, value);
  return value;
}

/** Checks that the heads divide the features. */
export function checkHeads(size: number, sizeName: string, heads: number, headsName: string): void {
  if (size % heads === 0) return;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected a divisor of ${sizeName} (${size}) for ${headsName} but received ${heads}`,
  );
}

/** Checks the options of a layer and fills in the defaults. */
export function layerOptions(given: TransformerLayerOptions): CheckedLayerOptions {
  const dModel = integer(given.dModel, 'dModel', 1);
  const nhead = integer(given.nhead, 'nhead', 1);
  checkHeads(dModel, 'dModel', nhead, 'nhead');
  return {
    dModel,
    nhead,
    dimFeedforward: integer(given.dimFeedforward ?? 2048, 'dimFeedforward', 1),
    dropout: probability(given.dropout, 'dropout', 0.1),
    activation: optionalChoice(given.activation, ['relu', 'gelu'], 'activation') ?? 'relu',
    layerNormEps: epsilon(given.layerNormEps, 'layerNormEps'),
    batchFirst: optionalBoolean(given.batchFirst, 'batchFirst') ?? false,
    normFirst: optionalBoolean(given.normFirst, 'normFirst') ?? false,
    bias: optionalBoolean(given.bias, 'bias') ?? true,
  };
}

/** Refuses a module with more parameters than this machine can hold: it would be ended before it could say so. */
export function checkMemory(parameters: number, sizes: Record<string, number>): void {
  const limit = mostMemory();
  const bytes = parameters * Float32Array.BYTES_PER_ELEMENT;
  if (bytes <= limit) return;
  const gigabytes = (count: number): string => `${(count / 1e9).toFixed(1)} GB`;
  const given = Object.entries(sizes).map(([name, size]) => `${name} ${size}`);
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected sizes whose parameters fit into ${gigabytes(limit)}, the memory of this machine, but received ` +
      `${given.join(', ')}, which take ${gigabytes(bytes)}`,
  );
}

/** Refuses more layers, or larger ones, than this machine can hold. */
export function checkLayers(
  { dModel, dimFeedforward }: CheckedLayerOptions,
  layers: { encoder?: number; decoder?: number },
  sizes: Record<string, number> = {},
): void {
  const attention = 4 * dModel * dModel;
  const feedForward = 2 * dModel * dimFeedforward;
  const parameters =
    (layers.encoder ?? 0) * (attention + feedForward) + (layers.decoder ?? 0) * (2 * attention + feedForward);
  checkMemory(parameters, { dModel, dimFeedforward, ...sizes });
}

/** Checks the options of a layer by itself. */
export function singleLayer(options: TransformerLayerOptions, kind: 'encoder' | 'decoder'): CheckedLayerOptions {
  const name = kind === 'encoder' ? 'TransformerEncoderLayer' : 'TransformerDecoderLayer';
  const layer = layerOptions(checkOptions(options, LAYER_OPTIONS, `the options of ${name}`));
  checkLayers(layer, { [kind]: 1 });
  return layer;
}
