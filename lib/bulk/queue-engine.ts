import { rm } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { TorchError } from '../core/errors';
import { ChunkQueue, GiveBack } from './chunk-queue';
import { type EngineOptions, stopAfter } from './embedded-engine';
import { chunkOf } from './plan';
import type { ProgressMeter } from './progress';

/** How often it is looked whether all is done, in milliseconds. */
const LOOK_INTERVAL = 500;

export interface QueueOptions {
  url: string;
  stalledAfter: number;
  meter: ProgressMeter;
}

/**
 * Runs chunks that the queue gives out, beside others who do so, until all of the run are done. What the queue has lost, or was
 * never told of, is added: the store says what is done.
 *
 * @throws What ended it: the signal's reason; TorchError `ERR_QUEUE` where chunks were given up, `ERR_TOO_MANY_FAILURES`.
 */
export async function runQueued(
  { record, pool, workers, shutdownLimit, signal }: EngineOptions,
  { url, stalledAfter, meter }: QueueOptions,
): Promise<void> {
  await pool.start(); // a model that can't be loaded here is no reason to take a chunk
  const { plan, manifest } = record;
  const { chunkSize } = manifest.job;
  const queue = await ChunkQueue.open(url, manifest.id);
  let failure: { error: unknown } | undefined;
  let complete = false;
  const run = async (number: number): Promise<void> => {
    if (await record.wasDone(number)) return;
    if (failure || signal.aborted || record.hasTooManyFailures) throw new GiveBack();
    try {
      const chunk = chunkOf(plan, chunkSize, number);
      const result = await pool.run(chunk);
      // Another may have had it, while this one was taken for lost.
      if (await record.wasDone(number)) await Promise.all(result.shards.map(({ path }) => rm(path, { force: true })));
      else await record.commit(chunk, result);
      // Only then others' count: a listing of the store.
      if (result.failed.length > 0 && manifest.maxFailures !== undefined) await record.reconcile();
    } catch (error) {
      if (signal.aborted) throw new GiveBack();
      if (error instanceof TorchError && error.code === 'ERR_NO_SPACE') {
        failure ??= { error };
        throw new GiveBack();
      }
      throw error;
    }
  };
  const done = new AbortController();
  const limit = stopAfter(signal, shutdownLimit, () => pool.close(), done.signal);
  try {
    queue.work(run, workers, stalledAfter);
    while (!signal.aborted && !failure && !record.hasTooManyFailures) {
      const { waiting, active, delayed, failed } = await queue.counts();
      const open = waiting + active + delayed;
      if (open === 0) {
        await record.reconcile();
        const missing = [...record.missing()];
        complete = missing.length === 0;
        if (complete) break;
        if (failed > 0) throw await givenUp(queue, failed);
        await queue.add(missing);
      }
      const closed = Math.max(record.counts.chunks, manifest.chunks - open - failed);
      meter.set(Math.min(plan.count, closed * chunkSize), record.counts.failed);
      await wait(LOOK_INTERVAL, undefined, { signal }).catch(() => {});
    }
    if (complete) await queue.closeAndRemove();
    else await queue.close();
  } catch (error) {
    await queue.close(true).catch(() => {});
    throw error;
  } finally {
    done.abort();
    await limit;
  }
  signal.throwIfAborted();
  if (failure) throw failure.error;
  record.checkFailures();
  const { written, failed } = record.counts;
  meter.set(written + failed, failed);
}

async function givenUp(queue: ChunkQueue, count: number): Promise<TorchError> {
  const reasons = await queue.failures();
  return new TorchError(
    'ERR_QUEUE',
    `Expected all chunks to be done but ${count} were given up, each after several tries; --resume tries them again: ${reasons.join('; ')}`,
  );
}
