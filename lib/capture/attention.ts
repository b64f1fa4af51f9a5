import type { NativeAttention } from '../core/binding';
import { type DType, fromHandle, type Tensor } from '../core/tensor';
import { shown } from '../core/validate';

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

/**
 * An attention that a capture would record.
 *
 * @example
 * const sites: AttentionSite[] = await model.attentionSites([ids]);
 * const bytes = sites.reduce((sum, { shape }) => sum + 4 * shape.reduce((product, size) => product * size), 0);
 */
export interface AttentionSite {
  /** As that of the `Attention`: its position in execution order. */
  index: number;
  /** As that of the `Attention`: the dotted name of its module. */
  name: string;
  /** As that of the `Attention`: the operator observed. */
  operator: string;
  /** `[B, H, Q, K]` */
  shape: [number, number, number, number];
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
    headCount: shape[1],
    queryCount: shape[2],
    keyCount: shape[3],
    dtype: dtype as DType,
    device: device ?? 'cpu',
  };
}
