import { invalid } from '../core/validate';
import { ChunkQueue, checkQueue } from './chunk-queue';
import { folderOf } from './folder-store';
import { type BulkOptions, type CheckedBulkOptions, checkBulkOptions } from './options';
import { planFiles, planTexts } from './plan';
import { RunRecord } from './run-record';

/**
 * Begins a bulk run on a queue, and leaves it to those who run `workBulk` with the same `out` and `queue`. With `resume`, chunks that
 * were given up are tried again.
 *
 * @param options Those of `bulk`; `queue` is needed.
 * @returns The inputs and chunks that there are, and how many chunks are still to be done.
 * @throws TorchError as `bulk`.
 *
 * @example
 * const { chunks } = await submitBulk({ model: '/shared/bert.pt2', inputs: '/shared/data/*.npz', out: '/shared/results', queue: 'redis://10.0.0.5' });
 */
export async function submitBulk(options: BulkOptions): Promise<{ inputs: number; chunks: number; missing: number }> {
  const checked = await checkBulkOptions(options);
  const { queue } = checked;
  if (queue === undefined) throw invalid("an address such as 'redis://127.0.0.1:6379'", 'queue', queue);
  await checkQueue(queue);
  const record = await beginRun(checked);
  await submitChunks(record, queue);
  const { chunks, inputs } = record.manifest;
  return { inputs: inputs.count, chunks, missing: [...record.missing()].length };
}

/** Finds the inputs, and begins their run or goes on with it. */
export async function beginRun({
  job,
  inputs,
  store,
  resume,
  maxFailures,
  signal,
}: CheckedBulkOptions): Promise<RunRecord> {
  const { source, chunkSize } = job;
  const plan =
    source.kind === 'files'
      ? await planFiles(inputs, folderOf(store), signal)
      : await planTexts(source, chunkSize, signal);
  return await RunRecord.begin(store, job, plan, { resume, maxFailures });
}

/** Adds what is to be done to the queue. */
export async function submitChunks(record: RunRecord, url: string): Promise<void> {
  const queue = await ChunkQueue.open(url, record.manifest.id);
  try {
    await queue.add(record.missing());
  } finally {
    await queue.close();
  }
}
