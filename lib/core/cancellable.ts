import { binding, fromNative, isCancelled, type NativeCancellation } from './binding';
import type { RunLimits } from './run-limits';
import { integer, invalid, optionalSignal } from './validate';

/** What may end one call, for all native calls that it is made of: its limits hold for them together. */
export interface Stop {
  readonly signal: AbortSignal | undefined;
  readonly cancellation: NativeCancellation | undefined;
}

/** Checks the limits among some options. */
export function stopOf(options: { readonly [Name in keyof RunLimits]: unknown }): Stop {
  const signal = optionalSignal(options.signal);
  const { timeLimit, memoryLimit } = options;
  if (timeLimit !== undefined && (typeof timeLimit !== 'number' || !(timeLimit >= 0))) {
    throw invalid('a number of milliseconds of at least 0', 'timeLimit', timeLimit);
  }
  const time = timeLimit === Number.POSITIVE_INFINITY ? undefined : timeLimit;
  const memory =
    memoryLimit === undefined || memoryLimit === Number.POSITIVE_INFINITY
      ? undefined
      : integer(memoryLimit, 'memoryLimit', 0);
  if (!signal && time === undefined && memory === undefined) return { signal, cancellation: undefined };
  return { signal, cancellation: new (binding().NativeCancellation)(signal !== undefined, time, memory) };
}

/**
 * Awaits a native call that may be stopped: an aborted signal rejects at once with its reason, while the run winds down
 * on its own thread.
 */
export async function cancellable<Result>(
  { signal, cancellation }: Stop,
  call: (cancellation: NativeCancellation | undefined) => Promise<Result>,
): Promise<Result> {
  try {
    if (!signal) return await call(cancellation);
    signal.throwIfAborted();
    let abort = () => {};
    const aborted = new Promise<never>((_, reject) => {
      abort = () => {
        cancellation?.request();
        reject(signal.reason);
      };
      signal.addEventListener('abort', abort, { once: true });
    });
    try {
      return await Promise.race([call(cancellation), aborted]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  } catch (error) {
    throw reasonOfEnd(error, signal);
  }
}

/** The same for a native call that blocks: what it calls back into may abort the signal, nothing else can meanwhile. */
export function cancellableNow<Result>(
  { signal, cancellation }: Stop,
  call: (cancellation: NativeCancellation | undefined) => Result,
): Result {
  const abort = (): void => cancellation?.request();
  try {
    signal?.throwIfAborted();
    signal?.addEventListener('abort', abort, { once: true });
    return call(cancellation);
  } catch (error) {
    throw reasonOfEnd(error, signal);
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** What a native call failed with, as its caller is told. A reason is thrown as it is, also where it looks like an error of the addon's. */
function reasonOfEnd(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted && (error === signal.reason || isCancelled(error))) return signal.reason;
  return fromNative(error);
}

/** Awaits what a function of the caller returned, unless the signal comes first. */
export async function unlessAborted<Result>(
  given: Result | PromiseLike<Result>,
  signal: AbortSignal | undefined,
): Promise<Result> {
  if (!signal) return given;
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
  try {
    // The race also listens to what has lost already, so that its failure is no unhandled rejection.
    return await Promise.race([aborted, given]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
