import type { RunLimits } from '../core/run-limits';

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
