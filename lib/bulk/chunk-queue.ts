import type { Queue, Job as QueueJob, Worker } from 'bullmq';
import { TorchError } from '../core/errors';
import { optionalPackage } from '../core/optional-package';
import { reasonOf } from '../core/validate';

/** How long a first connection is waited for, in milliseconds: later ones are tried for as long as it takes. */
const CONNECT_TIMEOUT = 5000;
/** How often a chunk is tried before the queue gives it up, and after how many milliseconds for the second time. */
const ATTEMPTS = 5;
const FIRST_DELAY = 1000;
/** Workers that vanish with a chunk, before it is given up: the fault is rarely the chunk's. */
const MOST_STALLS = 100;
/** How many chunks are added at once. */
const AT_ONCE = 1000;

interface ChunkData {
  chunk: number;
}

/**
 * How many chunks of a queue are in which state.
 *
 * @example
 * const open = ({ waiting, active, delayed }: QueueCounts): number => waiting + active + delayed;
 */
export interface QueueCounts {
  /** That nobody has taken. */
  waiting: number;
  /** That a worker runs. */
  active: number;
  /** That failed, and wait for another try. */
  delayed: number;
  /** That were given up. */
  failed: number;
}

/** Thrown by what runs a chunk: it is to go to another worker, without counting as a try. */
export class GiveBack extends Error {}

/** The chunks of a run, as jobs of BullMQ: each under its number, so that none is there twice. */
export class ChunkQueue {
  readonly #bullmq = bullmq();
  readonly #queue: Queue<ChunkData>;
  #worker: Worker<ChunkData> | undefined;
  #reachable = true;

  private constructor(
    private readonly url: string,
    private readonly name: string,
  ) {
    this.#queue = new this.#bullmq.Queue(name, { connection: this.#connection });
    this.#watch(this.#queue);
  }

  /**
   * @param run The id of the run.
   * @throws TorchError `ERR_QUEUE` where nothing answers; `ERR_MISSING_PACKAGE`.
   */
  static async open(url: string, run: string): Promise<ChunkQueue> {
    await checkQueue(url);
    return new ChunkQueue(url, `libtorch-attention-${run}`);
  }

  /** Adds those of the chunks that aren't there; what was given up is tried anew. */
  async add(chunks: Iterable<number>): Promise<void> {
    await this.#queue.clean(0, 0, 'failed');
    let batch: number[] = [];
    const flush = async (): Promise<void> => {
      await this.#queue.addBulk(
        batch.map((chunk) => ({
          name: 'chunk',
          data: { chunk },
          opts: {
            jobId: `chunk-${chunk}`,
            attempts: ATTEMPTS,
            backoff: { type: 'exponential', delay: FIRST_DELAY, jitter: 0.5 },
            removeOnComplete: true,
          },
        })),
      );
      batch = [];
    };
    for (const chunk of chunks) if (batch.push(chunk) === AT_ONCE) await flush();
    if (batch.length > 0) await flush();
  }

  async counts(): Promise<QueueCounts> {
    const {
      waiting = 0,
      active = 0,
      delayed = 0,
      failed = 0,
      prioritized = 0,
    } = await this.#queue.getJobCounts('waiting', 'active', 'delayed', 'failed', 'prioritized');
    return { waiting: waiting + prioritized, active, delayed, failed };
  }

  /** Why chunks were given up, of some of them. */
  async failures(): Promise<string[]> {
    const jobs = await this.#queue.getJobs(['failed'], 0, 9);
    return jobs.map(({ data, failedReason }) => `chunk ${data.chunk}: ${failedReason}`);
  }

  /** Takes chunks, so many at once, until this is closed. */
  work(run: (chunk: number) => Promise<void>, concurrency: number, stalledAfter: number): void {
    const take = async (job: QueueJob<ChunkData>, token?: string): Promise<void> => {
      try {
        await run(job.data.chunk);
      } catch (error) {
        if (!(error instanceof GiveBack)) throw error;
        await job.moveToDelayed(Date.now(), token);
        throw new this.#bullmq.DelayedError();
      }
    };
    this.#worker = new this.#bullmq.Worker(this.name, take, {
      connection: this.#connection,
      concurrency,
      lockDuration: stalledAfter,
      stalledInterval: stalledAfter,
      maxStalledCount: MOST_STALLS,
    });
    this.#watch(this.#worker);
  }

  /** Takes no more chunks, and waits for those under way; unless it is forced. */
  async close(force = false): Promise<void> {
    await this.#worker?.close(force);
    await this.#queue.close();
  }

  /** The same once all is done: nothing of the queue stays in Redis. */
  async closeAndRemove(): Promise<void> {
    await this.#worker?.close();
    // Whoever else works on it sees in the store that all is done.
    await this.#queue.obliterate({ force: true }).catch(() => {});
    await this.#queue.close();
  }

  get #connection() {
    return { url: this.url, maxRetriesPerRequest: null };
  }

  /** An outage is said once: what is under way waits for its end. */
  #watch(emitter: { on(event: 'error', listener: (error: Error) => void): unknown }): void {
    emitter.on('error', (error) => {
      if (!/ECONN|closed|ETIMEDOUT|EPIPE/i.test(`${(error as NodeJS.ErrnoException).code} ${error.message}`)) return;
      if (this.#reachable) {
        this.#reachable = false;
        process.emitWarning(`The queue can't be reached, and is tried again: ${error.message || String(error)}`, {
          code: 'QUEUE_UNREACHABLE',
        });
        setTimeout(() => (this.#reachable = true), 60_000).unref();
      }
    });
  }
}

function bullmq(): typeof import('bullmq') {
  optionalPackage('ioredis', 'which BullMQ reaches Redis with');
  return optionalPackage<typeof import('bullmq')>('bullmq', 'which a queue is made with');
}

/**
 * Looks whether there is what a queue needs.
 *
 * @throws TorchError `ERR_QUEUE` where nothing answers; `ERR_MISSING_PACKAGE`.
 */
export async function checkQueue(url: string): Promise<void> {
  bullmq();
  const { default: Redis } = optionalPackage<typeof import('ioredis')>('ioredis', 'which BullMQ reaches Redis with');
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, connectTimeout: CONNECT_TIMEOUT });
  let reason: unknown;
  client.on('error', (error: Error) => (reason = error));
  try {
    await client.connect();
    await client.ping();
  } catch (error) {
    const safe = url.replace(/\/\/[^@/]*@/, '//…@');
    throw new TorchError('ERR_QUEUE', `Expected a Redis or Valkey at ${safe}: ${reasonOf(reason ?? error)}`, {
      cause: error,
    });
  } finally {
    client.disconnect();
  }
}
