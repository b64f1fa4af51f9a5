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
