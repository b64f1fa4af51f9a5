import { binding, fromNative, isCancelled, type NativeCancellation } from './binding';

/**
 * Awaits a native call that may be stopped: an aborted signal rejects at once with its reason, while the run winds down
 * on its own thread.
 */
export async function cancellable<Result>(
  signal: AbortSignal | undefined,
  call: (cancellation: NativeCancellation | undefined) => Promise<Result>,
): Promise<Result> {
  try {
    if (!signal) return await call(undefined);
    signal.throwIfAborted();
    const cancellation = new (binding().NativeCancellation)();
    let abort = () => {};
    const aborted = new Promise<never>((_, reject) => {
      abort = () => {
        cancellation.request();
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
    if (signal && isCancelled(error)) throw signal.reason;
    throw fromNative(error);
  }
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
