import { options as checkOptions } from '../core/validate';
import { ChunkQueue, type QueueCounts } from './chunk-queue';
import { type BulkWorkerOptions, checkWorkerOptions } from './options';
import { RunRecord } from './run-record';

/**
 * How far a run is, as its store has it.
 *
 * @example
 * const left = ({ chunks, chunksDone }: BulkStatus): number => chunks - chunksDone;
 */
export interface BulkStatus {
  /** Whether all is done. */
  state: 'running' | 'done';
  /** Inputs in all. */
  inputs: number;
  /** Inputs whose results are there. */
  written: number;
  /** Inputs that failed. */
  failed: number;
  /** Chunks in all. */
  chunks: number;
  /** Chunks that are done. */
  chunksDone: number;
  /** When it was begun, as ISO 8601 has it. */
  begun: string;
  /** With `queue`: chunks that wait, that somebody runs, that wait for another try, and that were given up. */
  queue?: QueueCounts;
}

/**
 * Looks how far a run is, without touching it.
 *
 * @param options Where the run is.
 * @returns What is done and what is left.
 * @throws TorchError `ERR_INVALID_ARGUMENT` where there is none; `ERR_QUEUE` where nothing answers.
 *
 * @example
 * const { state, chunksDone, chunks } = await bulkStatus({ out: 'results' });
 */
export async function bulkStatus(options: Pick<BulkWorkerOptions, 'out' | 'queue'>): Promise<BulkStatus> {
  const { store, queue: url } = checkWorkerOptions(
    checkOptions(options, ['out', 'queue'], 'the options of bulkStatus') as BulkWorkerOptions,
  );
  const { manifest, counts } = await RunRecord.open(store);
  const { state, inputs, chunks, id, begun } = manifest;
  const { written, failed, chunks: chunksDone } = counts;
  const status: BulkStatus = { state, inputs: inputs.count, written, failed, chunks, chunksDone, begun };
  if (url === undefined) return status;
  const queue = await ChunkQueue.open(url, id);
  try {
    return { ...status, queue: await queue.counts() };
  } finally {
    await queue.close();
  }
}
