import { TorchError } from '../core/errors';
import { type DType, handleOf, type Tensor } from '../core/tensor';
import { optionalBoolean } from '../core/validate';
import type { Named } from './module';

/** How long a sequence is; `batch` is absent for one without a batch. */
export interface Sequence {
  batch: number | undefined;
  length: number;
}

/** The type of all parameters, and so of inputs and of masks that are added. */
const TYPE: DType = 'float32';

function list(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** Checks that `value` is a tensor that can be read. */
function live(value: unknown, what: string): Tensor {
  handleOf(value, what);
  return value as Tensor;
}

/** Checks that `value` is a tensor of sequences, `[B, T, size]` (`[T, B, size]` without `batchFirst`) or `[T, size]`. */
export function sequence(value: unknown, what: string, size: number, batchFirst: boolean): Sequence {
  const { shape, dtype } = live(value, what);
  if ((shape.length !== 2 && shape.length !== 3) || shape.at(-1) !== size || dtype !== TYPE) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a ${TYPE} tensor of shape ${batchFirst ? '[B, T' : '[T, B'}, ${size}] or [T, ${size}] for ${what} ` +
        `but received ${dtype} ${list(shape)}`,
    );
  }
  if (shape.length === 2) return { batch: undefined, length: shape[0] as number };
  const [first, second] = shape as [number, number];
  return batchFirst ? { batch: first, length: second } : { batch: second, length: first };
}

/** Checks that two sequences have the same batch. */
export function sameBatch(a: Sequence, what: string, b: Sequence, other: string): void {
  if (a.batch !== b.batch) {
    const shown = ({ batch }: Sequence): string => (batch === undefined ? 'none' : String(batch));
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected the batch of ${what} (${shown(a)}) for ${other} but received ${shown(b)}`,
    );
  }
}

function mask(value: unknown, what: string, shapes: number[][], meaning: string): Tensor | undefined {
  if (value === undefined || value === null) return undefined;
  const tensor = live(value, what);
  const fits = shapes.some(
    (shape) => shape.length === tensor.shape.length && shape.every((n, i) => n === tensor.shape[i]),
  );
  if (!fits || (tensor.dtype !== 'bool' && tensor.dtype !== TYPE)) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a tensor of shape ${shapes.map(list).join(' or ')} (${meaning}), bool (true: not attended to) or ` +
        `${TYPE} (added to the scores), for ${what} but received ${tensor.dtype} ${list(tensor.shape)}`,
    );
  }
  return tensor;
}

/** The arguments of a forward that one of its attentions takes, by their names there. */
export interface AttentionNames {
  /** Of queries by keys: absent, `[T, S]`, or one for each head. */
  mask: string;
  /** Of keys: absent or `[B, S]`; `[S]` without a batch. */
  padding: string;
  /** Says that the mask is causal. */
  causal: string;
}

/** All names of some attentions' arguments. */
export function namesOf(...attentions: AttentionNames[]): string[] {
  return attentions.flatMap(({ mask, padding, causal }) => [mask, padding, causal]);
}

/** Checks the masks and the flag of one attention. */
export function attentionArguments(
  given: Record<string, unknown>,
  names: AttentionNames,
  queries: Sequence,
  keys: Sequence,
  heads: number,
): Named {
  const shapes = [
    [queries.length, keys.length],
    [(queries.batch ?? 1) * heads, queries.length, keys.length],
  ];
  const batched = queries.batch !== undefined;
  const attnMask = mask(
    given[names.mask],
    names.mask,
    shapes,
    batched ? '[T, S] or [B·H, T, S]' : '[T, S] or [H, T, S]',
  );
  const padding = mask(
    given[names.padding],
    names.padding,
    [keys.batch === undefined ? [keys.length] : [keys.batch, keys.length]],
    batched ? '[B, S]' : '[S]',
  );
  const causal = optionalBoolean(given[names.causal] ?? undefined, names.causal);
  if (causal && !attnMask) {
    // Python refuses this too, except where a fused kernel runs: there it silently attends to everything.
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${names.mask} beside ${names.causal}: true, which only says that this mask is causal, but received none`,
    );
  }
  return { [names.mask]: attnMask, [names.padding]: padding, [names.causal]: causal };
}
