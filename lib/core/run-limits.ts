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
