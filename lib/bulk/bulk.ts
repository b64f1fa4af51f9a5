import { mkdir } from 'node:fs/promises';
import type { BatchRecord } from './batch-record';
import { checkQueue } from './chunk-queue';
import { type EngineOptions, runEmbedded } from './embedded-engine';
import { type BulkOptions, type CheckedWorkerOptions, checkBulkOptions, defaultWorkers } from './options';
import { ProgressMeter } from './progress';
import { runQueued } from './queue-engine';
import { storeError } from './result-store';
import type { RunRecord } from './run-record';
import { beginRun, submitChunks } from './submit';
import { WorkerPool } from './worker-pool';

/**
 * What came of a bulk run.
 *
 * @example
 * const complete = ({ inputs, written }: BulkResult): boolean => written === inputs;
 */
export interface BulkResult {
  /** Inputs in all. */
  inputs: number;
  /** Inputs whose results are there. */
  written: number;
  /** Inputs that are in `failed.jsonl`. */
  failed: number;
  /** The names of the files of results. */
  shards: string[];
  /** With `batchSize`: how results of inputs that were run together compare to those of single runs. */
  batches?: BatchRecord;
}

/**
 * Captures, or runs, any number of inputs on worker processes of this machine, or of as many as there are with `queue`. Each input
 * ends once in the results or, with the error, in `failed.jsonl`. Whatever ends the run, `resume` goes on where it was.
 *
 * @param options The model, its inputs, what is kept and where.
 * @returns How many inputs there are, are in the results, and failed.
 * @throws TorchError `ERR_INVALID_ARGUMENT` for options that aren't right; `ERR_TOO_MANY_FAILURES`; `ERR_NO_SPACE` and `ERR_RESULT_STORE` where results
 *   can't be kept; `ERR_WORKER_ENDED` where processes end before they run anything; `ERR_QUEUE`; `ERR_MISSING_PACKAGE`; as
 *   `loadModel` for a model that can't be loaded. An aborted run rejects with the signal's reason.
 *
 * @example
 * const { written, failed } = await bulk({ model: 'bert.pt2', inputs: 'data/*.safetensors', out: 'results', capture: { topK: 10 } });
 */
export async function bulk(options: BulkOptions): Promise<BulkResult> {
  const checked = await checkBulkOptions(options);
  if (checked.queue !== undefined) await checkQueue(checked.queue);
  const record = await beginRun(checked);
  if (checked.queue !== undefined) await submitChunks(record, checked.queue);
  return await runOn(record, checked);
}

/** Runs what is missing of a run, with the engine that the options ask for. */
export async function runOn(record: RunRecord, checked: CheckedWorkerOptions): Promise<BulkResult> {
  const { queue: url, stalledAfter } = checked;
  const meter = new ProgressMeter(record.plan.count, record.counts, checked.onProgress);
  try {
    await withPool(checked, record, meter, async (options) => {
      if (url === undefined) await runEmbedded(options);
      else await runQueued(options, { url, stalledAfter, meter });
    });
    return await finishRun(record);
  } catch (error) {
    await record.writeFailed().catch(() => {});
    throw error;
  } finally {
    meter.end();
  }
}

async function finishRun(record: RunRecord): Promise<BulkResult> {
  const { inputs, written = 0, failed = 0, shards = [], batches } = await record.finish();
  const names = shards.map(({ name }) => name);
  return { inputs: inputs.count, written, failed, shards: names, ...(batches && { batches }) };
}

async function makeScratch({ store }: RunRecord): Promise<void> {
  try {
    await mkdir(store.scratch, { recursive: true });
  } catch (error) {
    throw storeError(store.name, 'the run', error);
  }
}

/** Lends workers for a run to an engine. */
async function withPool(
  checked: CheckedWorkerOptions,
  record: RunRecord,
  meter: ProgressMeter,
  engine: (options: EngineOptions) => Promise<void>,
): Promise<void> {
  const { job } = record.manifest;
  const { workers, threads } = defaultWorkers(checked, job.model.size);
  const count = Math.min(workers, Math.max(1, record.manifest.chunks));
  const pool = new WorkerPool({
    job,
    workers: count,
    threads,
    scratch: record.store.scratch,
    // A queue knows of what others do as well.
    onProgress: (inputs, failed) => {
      if (checked.queue === undefined) meter.add(inputs, failed);
    },
  });
  try {
    checked.signal.throwIfAborted();
    record.checkFailures();
    await makeScratch(record);
    await engine({ record, pool, workers: count, shutdownLimit: checked.shutdownLimit, signal: checked.signal });
  } finally {
    await pool.close();
  }
}
