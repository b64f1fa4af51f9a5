import type { Attention } from '../capture/attention';
import { attentionRelevance, attentionRollout } from '../capture/relevance';
import { floatWeights } from '../capture/weight-codes';
import { releaseMemory } from '../core/runtime';
import { elementCount } from '../core/shape';
import type { Tensor } from '../core/tensor';
import type { ViewAttention } from './prepare';

/** Elements of an attention from which on its memory is given back to the system: less is had again sooner than it is missed. */
const LARGE = 2 ** 26;

/** Self-attentions of one sequence, in order. */
interface Layers {
  part: 'encoder' | 'decoder';
  /** Means over the heads. */
  means: Tensor[];
  /** Those whose gradients are there. */
  graded: Attention[];
}

export interface DerivedOptions {
  /** Whether attention rollout is wanted. */
  rollout: boolean;
  /** Whether tensors are to be disposed when the page has them: those of a stream, which nobody else holds. */
  dispose: boolean;
}

/**
 * Attentions as they come, each followed by its gradient where it has one; after the last, rollout where it is wanted,
 * and relevance where all gradients are there. What lets rollout be computed, the mean over the heads of each layer, is
 * held until the end, as are weights with gradients.
 */
export async function* withDerived(
  attentions: Iterable<Attention> | AsyncIterable<Attention>,
  { rollout, dispose }: DerivedOptions,
): AsyncGenerator<ViewAttention> {
  const sequences = new Map<string, Layers>();
  const own: Tensor[] = [];
  try {
    for await (const attention of attentions) {
      const { scale, ...rest } = attention;
      const { weights, keys, gradient } = rest;
      const layers = isWholeSelfAttention(attention) ? layersOf(sequences, attention) : undefined;
      if (rollout && layers) {
        const floats = scale ? floatWeights(attention) : weights.reshape(weights.shape);
        const mean = weights.shape.length === 4 ? floats.mean(1) : floats;
        if (mean !== floats) floats.dispose();
        own.push(mean);
        layers.means.push(mean);
      }
      const isLarge = dispose && elementCount(weights.shape) >= LARGE;
      // What waits for the run's next results would lie beside what the page takes meanwhile.
      if (isLarge) releaseMemory();
      yield attention;
      if (gradient) {
        yield { ...rest, operator: 'gradient', kind: 'derived', weights: gradient };
        if (layers && weights.shape.length === 4) layers.graded.push(attention);
      }
      if (!dispose) continue;
      keys?.dispose();
      if (gradient) {
        own.push(weights, gradient);
        continue;
      }
      weights.dispose();
      if (isLarge) releaseMemory();
    }
    for (const { part, means, graded } of sequences.values()) {
      const of = sequences.size > 1 ? ` of the ${part}` : '';
      if (means.length > 1) {
        const weights = attentionRollout(means);
        own.push(weights);
        yield derived(`rollout${of}`, 'attentionRollout', weights);
      }
      if (graded.length > 1) {
        const weights = attentionRelevance(graded);
        own.push(weights);
        yield derived(`relevance${of}`, 'attentionRelevance', weights);
      }
    }
  } finally {
    for (const tensor of own) tensor.dispose();
  }
}

/** Whether rows and columns are all positions of one sequence, so that layers can be multiplied. */
function isWholeSelfAttention({ name, weights, keys, queries, shape }: Attention): boolean {
  const [rows, columns] = weights.shape.slice(-2);
  const whole = rows === columns && !keys && queries.every((query, row) => query === row);
  return (
    whole && (shape === undefined || shape[2] === rows) && !/cross|multihead_attn$|encoder_attn|EncDec/i.test(name)
  );
}

/** The layers that an attention belongs to: an encoder's are no decoder's, and lengths don't change from layer to layer. */
function layersOf(sequences: Map<string, Layers>, { name, weights }: Attention): Layers {
  const part = /decoder/i.test(name) ? 'decoder' : 'encoder';
  const key = `${part} ${[weights.shape[0], weights.shape.at(-1)].join(' × ')}`;
  const layers = sequences.get(key) ?? { part, means: [], graded: [] };
  sequences.set(key, layers);
  return layers;
}

function derived(name: string, operator: string, weights: Tensor): ViewAttention {
  const rows = weights.shape.at(-2) as number;
  return { name, operator, kind: 'derived', weights, heads: [0], queries: Array.from({ length: rows }, (_, i) => i) };
}
