import { setTimeout as wait } from 'node:timers/promises';
import { chunkOf } from './plan';
import type { RunRecord } from './run-record';
import type { WorkerPool } from './worker-pool';

/** What both engines are given. */
export interface EngineOptions {
  record: RunRecord;
  pool: WorkerPool;
  workers: number;
  /** Milliseconds that chunks under way have to end in when the signal asks for it. */
  shutdownLimit: number;
  signal: AbortSignal;
}

/**
 * Runs all chunks that aren't done on the workers of this machine. While one's results are kept, its worker runs the next.
 *
 * @throws What ended it: the signal's reason, once what is under way is done, or the first error that isn't an input's.
 */
export async function runEmbedded({ record, pool, workers, shutdownLimit, signal }: EngineOptions): Promise<void> {
  const { plan, manifest } = record;
  const { chunkSize } = manifest.job;
  const missing = record.missing();
  let failure: { error: unknown } | undefined;
  const lane = async (): Promise<void> => {
    let kept: Promise<void> = Promise.resolve();
    try {
      for (;;) {
        if (signal.aborted || failure || record.hasTooManyFailures) break;
        const { done, value: number } = missing.next();
        if (done) break;
        const chunk = chunkOf(plan, chunkSize, number);
        const result = await pool.run(chunk);
        await kept;
        kept = record.commit(chunk, result);
        kept.catch(() => {}); // thrown when its turn comes
      }
      await kept;
    } catch (error) {
      failure ??= { error };
    }
  };
  const done = new AbortController();
  const limit = stopAfter(signal, shutdownLimit, () => pool.close(), done.signal);
  try {
    await Promise.all(Array.from({ length: workers }, lane));
  } finally {
    done.abort();
    await limit;
  }
  signal.throwIfAborted();
  if (failure) throw failure.error;
  record.checkFailures();
}

/** Stops what is under way when it has had its time since the signal, unless it was done before. */
export async function stopAfter(
  signal: AbortSignal,
  shutdownLimit: number,
  stop: () => Promise<void>,
  done: AbortSignal,
): Promise<void> {
  try {
    if (!signal.aborted) {
      await new Promise<void>((resolve, reject) => {
        signal.addEventListener('abort', () => resolve(), { once: true, signal: done });
        done.addEventListener('abort', () => reject(new Error('done')), { once: true });
      });
    }
    await wait(shutdownLimit, undefined, { signal: done });
  } catch {
    return;
  }
  await stop();
}
