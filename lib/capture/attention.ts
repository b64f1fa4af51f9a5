import type { NativeAttention } from '../core/binding';
import type { FloatingDType } from '../core/dtype';
import { type DType, fromHandle, type Tensor } from '../core/tensor';
import { floatWeights } from './weight-codes';

/**
 * What weights are: `'softmax'`: each row is a distribution over the keys. The others aren't: `'unnormalized'` weights are not
 * negative (a softmax that was scaled, masked or put together), `'signed'` ones may be, `'sigmoid'` and `'relu'` name the
 * function that made them of the scores.
 *
 * @example
 * const sumToOne = ({ kind }: Attention) => kind === ('softmax' satisfies AttentionKind);
 */
export type AttentionKind = 'softmax' | 'unnormalized' | 'signed' | 'sigmoid' | 'relu';

/**
 * The weights of one attention of one forward.
 *
 * @example
 * const { attentions: [first] } = await model.captureAttention([ids]);
 * if (first) console.log(first.name, first.operator, first.weights.shape);
 */
export interface Attention {
  /** Position in execution order among all attention calls of this forward. */
  index: number;
  /** Dotted name of the module that computed it; `''` where the checkpoint has no modules left (frozen). */
  name: string;
  /**
   * The operator observed: `'scaled_dot_product_attention'`, `'softmax'`, `'transformer_encoder_layer'` … Of attention that is
   * written out, the one that makes weights of the scores: `'sigmoid'`, `'exp'` …
   */
  operator: string;
  /** The operators between `operator` and the product with the values: `['dropout', 'mul']`; views aren't among them. */
  path: string[];
  /** What the weights are. */
  kind: AttentionKind;
  /**
   * Of the whole attention, whatever was selected of it, with all its dimensions: `[batch…, H, Q, K]`. Windows and groups count
   * as batch.
   */
  shape: number[];
  /**
   * False where the model doesn't tell batch from heads: the first of `shape` may be their product, or the one ahead of queries and
   * keys windows, groups or positions rather than heads.
   */
  headsKnown: boolean;
  /**
   * `[B, H, Q, K]`, all batch dimensions in B; `[B, Q, K]` with `averageHeads`; K is at most `topK`. A fused kernel's row without
   * any key is zero. With `dtype: { type: 'uint8' }` these are codes, which `decode` reads.
   */
  weights: Tensor<FloatingDType | 'uint8'>;
  /** With `dtype: { type: 'uint8' }`: the scale of the codes. */
  scale?: 'linear' | 'log';
  /** With `topK`: the key positions of `weights`, int64, of the same shape. */
  keys?: Tensor<'int64'>;
  /** Which heads these are (with `averageHeads`: the mean of). */
  heads: number[];
  /** Which query positions these are. */
  queries: number[];
  /**
   * With `scores`: the input of the softmax, scaled and with masks added (masked positions are -Infinity), the shape of the
   * weights. Undefined where the weights aren't the softmax of a single score matrix.
   */
  scores?: Tensor<FloatingDType>;
  /** With `logSumExp`: log Σ exp(scores) per row, `[B, H, Q]`; -Infinity if fully masked. Undefined where `scores` are. */
  logSumExp?: Tensor<FloatingDType>;
  /** With `statistics`: those requested. Undefined where the weights aren't a distribution. */
  statistics?: AttentionStatistics;
  /**
   * With `gradientOf`: d(scalar)/d(weights), the shape of the weights (with `averageHeads`: the mean over the heads), in float32
   * or, with `dtype: 'same'`, in the type of the weights.
   */
  gradient?: Tensor<FloatingDType>;
  /**
   * The weights as float32: what codes stand for, other types converted. Not among the properties that a copy
   * (`{ ...attention }`) takes along.
   *
   * @returns A new tensor, of the shape of the weights; where they are float32 already, it shares their memory.
   * @throws TorchError `ERR_DISPOSED` where the weights are.
   *
   * @example
   * const { attentions: [first] } = await model.captureAttention([ids], { dtype: { type: 'uint8', scale: 'log' } });
   * console.log(first?.weights.dtype, first?.decode().select(1, 0).toArray()); // 'uint8', the weights of head 0
   */
  decode(): Tensor<'float32'>;
}

/**
 * Statistics of the weights, in float32 (float64 if the weights are). With `averageHeads` they are those of the mean over
 * heads and have no dimension H; with `topK` they include all keys.
 *
 * @example
 * const { attentions } = await model.captureAttention([ids], { statistics: ['received'], weights: false });
 * for (const { statistics } of attentions) console.log(statistics?.received?.argmax(-1)); // the heavy hitter of each head
 */
export interface AttentionStatistics {
  /** `[B, H, K]`: the sum of the weights that each key receives from the captured query positions. */
  received?: Tensor<FloatingDType>;
  /** `[B, H, Q]`: the entropy of each row in nats, from 0 (one key) to log K (uniform). */
  entropy?: Tensor<FloatingDType>;
}

/**
 * An attention captured with `weights: false`.
 *
 * @example
 * const { attentions } = await model.captureAttention([ids], { logSumExp: true, weights: false });
 * const show = ({ name, logSumExp }: AttentionWithoutWeights) => console.log(name, logSumExp?.shape);
 * attentions.forEach(show);
 */
export type AttentionWithoutWeights = Omit<Attention, 'weights' | 'scale' | 'decode'>;

/**
 * Options of a capture with `weights: false`.
 *
 * @inline
 */
export type WithoutWeights<Options> = Omit<Options, 'weights' | 'onAttention'> & {
  weights: false;
  onAttention?: (attention: AttentionWithoutWeights) => unknown;
};

/**
 * An attention that a capture would record.
 *
 * @example
 * const sites: AttentionSite[] = await model.attentionSites([ids]);
 * const bytes = sites.reduce((sum, { shape }) => sum + 4 * shape.reduce((product, size) => product * size), 0);
 */
export interface AttentionSite
  extends Pick<Attention, 'index' | 'name' | 'operator' | 'path' | 'kind' | 'shape' | 'headsKnown'> {
  /** How many heads there are. */
  headCount: number;
  /** How many query positions there are. */
  queryCount: number;
  /** How many key positions there are. */
  keyCount: number;
  /** The type that the model computes it in. */
  dtype: DType;
  /** Where the model computes it: `'cpu'`, `'cuda:0'` … */
  device: string;
}

/** The tensors of an attention. */
export function tensorsOf(attention: AttentionWithoutWeights & { weights?: Tensor }): Tensor[] {
  const { weights, keys, scores, logSumExp, statistics, gradient } = attention;
  const all = [weights, keys, scores, logSumExp, statistics?.received, statistics?.entropy, gradient];
  return all.filter((tensor) => tensor !== undefined);
}

/** The tensors of an attention by what follows `attention.<index>` in their names, where it is written down. */
export function namedTensorsOf(attention: AttentionWithoutWeights & { weights?: Tensor }): [suffix: string, Tensor][] {
  const { weights, keys, scores, logSumExp, statistics } = attention;
  const named = {
    '': weights,
    '.keys': keys,
    '.scores': scores,
    '.logSumExp': logSumExp,
    '.received': statistics?.received,
    '.entropy': statistics?.entropy,
  };
  return Object.entries(named).filter((each): each is [string, Tensor] => each[1] !== undefined);
}

/** What an attention is, beside its tensors and its index. */
export function descriptionOf({
  name,
  operator,
  path,
  kind,
  heads,
  queries,
  shape,
  headsKnown,
  scale,
}: AttentionWithoutWeights & Pick<Partial<Attention>, 'scale'>): Omit<
  Attention,
  'index' | 'weights' | 'keys' | 'scores' | 'logSumExp' | 'statistics' | 'gradient' | 'decode'
> {
  return { name, operator, path, kind, heads, queries, shape, headsKnown, ...(scale && { scale }) };
}

function decode(this: Attention): Tensor<'float32'> {
  return floatWeights(this);
}

/** Gives an attention its method `decode`, which is hidden, so that attentions can be cloned and compared. */
export function decodable<Each extends object>(attention: Each): Each & Pick<Attention, 'decode'> {
  return Object.defineProperty(attention, 'decode', {
    value: decode,
    enumerable: false,
    configurable: true,
    writable: true,
  }) as Each & Pick<Attention, 'decode'>;
}

/** An attention of the addon as users get it; it lacks its weights where those weren't asked for. */
export function toAttention<Each>(
  given: NativeAttention<Each>,
  toTensor: (each: Each) => Tensor<FloatingDType>,
): Attention {
  const { index, name, operator, path, kind, shape, headsKnown, heads, queries, received, entropy } = given;
  const attention: AttentionWithoutWeights = { index, name, operator, path, kind, shape, headsKnown, heads, queries };
  if (given.scale !== undefined) Object.assign(attention, { scale: given.scale });
  for (const member of ['weights', 'keys', 'scores', 'logSumExp'] as const) {
    const tensor = given[member];
    if (tensor !== undefined) Object.assign(attention, { [member]: toTensor(tensor) });
  }
  if (received !== undefined || entropy !== undefined) {
    attention.statistics = {
      ...(received === undefined ? {} : { received: toTensor(received) }),
      ...(entropy === undefined ? {} : { entropy: toTensor(entropy) }),
    };
  }
  return (given.weights === undefined ? attention : decodable(attention)) as Attention;
}

export function fromNativeAttention(attention: NativeAttention): Attention {
  return toAttention(attention, fromHandle<FloatingDType>);
}

export function fromNativeSite(attention: NativeAttention): AttentionSite {
  const { index, name, operator, path, kind, shape, headsKnown, dtype, device } = attention;
  return {
    index,
    name,
    operator,
    path,
    kind,
    shape,
    headCount: shape.at(-3) as number,
    queryCount: shape.at(-2) as number,
    keyCount: shape.at(-1) as number,
    headsKnown,
    dtype: dtype as DType,
    device,
  };
}
