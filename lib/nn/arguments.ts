import { TorchError } from '../errors';
import { type DType, Tensor } from '../tensor';
import { invalid, optionalBoolean } from '../validate';

/** How long a sequence is, and of what; `batch` is absent for one without a batch. */
export interface Sequence {
  batch: number | undefined;
  length: number;
  dtype: DType;
}

const FLOATING: readonly DType[] = ['float32', 'float64', 'float16', 'bfloat16'];

function list(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** Checks that `value` is a tensor of sequences, `[B, T, size]` (`[T, B, size]` without `batchFirst`) or `[T, size]`. */
export function sequence(value: unknown, what: string, size: number, batchFirst: boolean): Sequence {
  if (!(value instanceof Tensor)) throw invalid('a Tensor', what, value);
  const { shape, dtype } = value;
  if ((shape.length !== 2 && shape.length !== 3) || shape.at(-1) !== size || !FLOATING.includes(dtype)) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a floating-point tensor of shape ${batchFirst ? '[B, T' : '[T, B'}, ${size}] or [T, ${size}] for ${what} ` +
        `but received ${dtype} ${list(shape)}`,
    );
  }
  if (shape.length === 2) return { batch: undefined, length: shape[0] as number, dtype };
  const [first, second] = shape as [number, number];
  return batchFirst ? { batch: first, length: second, dtype } : { batch: second, length: first, dtype };
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

function mask(value: unknown, what: string, shapes: number[][], meaning: string, dtype: DType): Tensor | undefined {
  if (value === undefined || value === null) return undefined;
  if (!(value instanceof Tensor)) throw invalid('a Tensor', what, value);
  const fits = shapes.some(
    (shape) => shape.length === value.shape.length && shape.every((n, i) => n === value.shape[i]),
  );
  if (!fits || (value.dtype !== 'bool' && value.dtype !== dtype)) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a tensor of shape ${shapes.map(list).join(' or ')} (${meaning}), bool (true: not attended to) or ` +
        `${dtype} (added to the scores), for ${what} but received ${value.dtype} ${list(value.shape)}`,
    );
  }
  return value;
}

/** Checks a mask of queries by keys: absent, `[T, S]`, or one for each head. */
export function attentionMask(
  value: unknown,
  what: string,
  queries: Sequence,
  keys: Sequence,
  heads: number,
): Tensor | undefined {
  const { length } = queries;
  const shapes = [
    [length, keys.length],
    [(queries.batch ?? 1) * heads, length, keys.length],
  ];
  return mask(
    value,
    what,
    shapes,
    queries.batch === undefined ? '[T, S] or [H, T, S]' : '[T, S] or [B·H, T, S]',
    queries.dtype,
  );
}

/** Checks a mask of keys: absent or `[B, S]`; `[S]` without a batch. */
export function paddingMask(value: unknown, what: string, keys: Sequence): Tensor | undefined {
  const shape = keys.batch === undefined ? [keys.length] : [keys.batch, keys.length];
  return mask(value, what, [shape], keys.batch === undefined ? '[S]' : '[B, S]', keys.dtype);
}

/** Checks a flag that says that a mask is causal, which needs that mask. */
export function causalFlag(
  value: unknown,
  what: string,
  itsMask: Tensor | undefined,
  maskName: string,
): boolean | undefined {
  const flag = optionalBoolean(value, what);
  if (flag && !itsMask) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${maskName} beside ${what}: true, which only says that this mask is causal, but received none`,
    );
  }
  return flag;
}
