/** A signal made of others, until it is released. */
export interface AnySignal {
  readonly signal: AbortSignal;
  /** Stops listening to the others, which may live on for long. */
  release(): void;
}

/**
 * Returns a signal that aborts with the first of some signals, with its reason. Node's `AbortSignal.any` refers to its sources
 * weakly: one made of `AbortSignal.timeout()` that nobody else holds is collected together with its timer, and never aborts.
 */
export function anySignal(sources: readonly (AbortSignal | undefined)[]): AnySignal {
  const controller = new AbortController();
  const listeners: (() => void)[] = [];
  const release = (): void => {
    for (const remove of listeners.splice(0)) remove();
  };
  for (const source of sources) {
    if (!source) continue;
    if (source.aborted) {
      controller.abort(source.reason);
      break;
    }
    const abort = (): void => {
      controller.abort(source.reason);
      release();
    };
    source.addEventListener('abort', abort, { once: true });
    listeners.push(() => source.removeEventListener('abort', abort));
  }
  if (controller.signal.aborted) release();
  return { signal: controller.signal, release };
}
