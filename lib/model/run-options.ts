/**
 * What ends a run early.
 *
 * @example
 * const limits: RunLimits = { signal: AbortSignal.timeout(5000), timeLimit: 1000, memoryLimit: 2 ** 30 };
 * const { attentions } = await model.captureAttention([ids], limits);
 */
export interface RunLimits {
  /** Rejects the call with the signal's reason at once; the run stops at the next operator, or round of a loop. */
  signal?: AbortSignal;
  /**
   * Milliseconds, at least 0, from the start of execution (waiting for its turn doesn't count) after which the run is stopped
   * at the next operator, or round of a loop, and the call rejects with `ERR_TIME_LIMIT`. Default: none.
   */
  timeLimit?: number;
  /**
   * Bytes of tensors on the CPU that the run may hold at once, its results and what it computes on the way; parameters and
   * inputs don't count. An operator that asks for more ends the run before it gets them: the call rejects with
   * `ERR_MEMORY_LIMIT`. Default: none.
   */
  memoryLimit?: number;
}

/** Names of the options of `RunLimits`. */
export const RUN_LIMITS = ['signal', 'timeLimit', 'memoryLimit'] as const;

/**
 * Options of every forward.
 *
 * @example
 * const options: RunOptions = { grad: true, timeLimit: 1000 };
 * const loss = (await model.forward([ids], options)) as Tensor;
 */
export interface RunOptions extends RunLimits {
  /** Records what `backward` needs. Such a run takes more memory and time. Default false. */
  grad?: boolean;
}

/** Limits that hold where a call names none. `Infinity` in the call lifts one. */
export type DefaultLimits = Pick<RunLimits, 'timeLimit' | 'memoryLimit'>;

/** What runs, and the load, of a model from an untrusted source may take: a minute each, and 4 GiB a run. */
export const UNTRUSTED_LIMITS: Required<DefaultLimits> = { timeLimit: 60_000, memoryLimit: 4 * 1024 ** 3 };

/** Options with the limits that they leave out. */
export function withDefaults<Options extends object>(options: Options, defaults: DefaultLimits): Options & RunLimits {
  const limited: Options & RunLimits = { ...options };
  if (limited.timeLimit === undefined && defaults.timeLimit !== undefined) limited.timeLimit = defaults.timeLimit;
  if (limited.memoryLimit === undefined && defaults.memoryLimit !== undefined) {
    limited.memoryLimit = defaults.memoryLimit;
  }
  return limited;
}
