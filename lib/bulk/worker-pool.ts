import { randomBytes } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { TorchError } from '../core/errors';
import type { Chunk, ChunkResult, FailedInput, Job } from './job';
import { WorkerEnded, WorkerProcess } from './worker-process';

/** How often a process may end at the same input, run alone, before that is held to be the input's doing. */
const MOST_DEATHS = 2;
/** How often in a row processes may end before they run anything. */
const MOST_FAILED_STARTS = 3;

export interface PoolOptions {
  job: Job;
  workers: number;
  /** Of each worker. */
  threads: number;
  scratch: string;
  onProgress(inputs: number, failed: number): void;
}

/** Worker processes of this machine, which share nothing: one that ends is replaced, and what it ran is run again. */
export class WorkerPool {
  readonly #free: (WorkerProcess | undefined)[];
  readonly #waiting: ((slot: WorkerProcess | undefined) => void)[] = [];
  readonly #processes = new Set<WorkerProcess>();
  /** What scratch files of this pool begin with. */
  readonly #prefix = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`;
  #tasks = 0;
  #failedStarts = 0;
  #closed = false;

  constructor(private readonly options: PoolOptions) {
    this.#free = new Array<undefined>(options.workers).fill(undefined);
  }

  /** Starts a worker, so that a model that can't be loaded is known before anything is run. */
  async start(): Promise<void> {
    let slot = await this.#take();
    try {
      slot = await this.#ready(slot);
    } finally {
      this.#give(slot);
    }
  }

  /**
   * Runs a chunk on a worker that is free, or will be.
   *
   * @throws TorchError where it can't be run at all, or the pool was closed.
   */
  async run(chunk: Chunk): Promise<ChunkResult> {
    let slot = await this.#take();
    const excluded: FailedInput[] = [];
    const deaths = new Map<number, number>();
    let careful = false;
    let unexplained = 0;
    try {
      for (;;) {
        const scratch = join(this.options.scratch, `${this.#prefix}-${++this.#tasks}`);
        let counted = { inputs: 0, failed: 0 };
        try {
          slot = await this.#ready(slot);
          const result = await slot.run({ chunk, scratch, careful, excluded }, (inputs, failed) => {
            counted = { inputs: counted.inputs + inputs, failed: counted.failed + failed };
            this.options.onProgress(inputs, failed);
          });
          this.#failedStarts = 0;
          return result;
        } catch (error) {
          this.options.onProgress(-counted.inputs, -counted.failed);
          await this.#removeScratch(scratch);
          if (!(error instanceof WorkerEnded) || this.#closed) throw error;
          const { during, how } = error;
          if (during) {
            const count = (deaths.get(during.index) ?? 0) + 1;
            deaths.set(during.index, count);
            if (count >= MOST_DEATHS) excluded.push({ ...described(during, how), index: during.index });
          } else if (careful && ++unexplained >= MOST_FAILED_STARTS) {
            throw new TorchError(
              'ERR_WORKER_ENDED',
              `Expected worker processes that read inputs ${chunk.first} to ${chunk.first + chunk.count - 1} but they end before they have (${how}): smaller chunks take less memory`,
              { cause: error },
            );
          }
          careful = true;
        }
      }
    } finally {
      this.#give(slot);
    }
  }

  /** The processes that there are. */
  get pids(): number[] {
    return [...this.#processes].flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
  }

  /** Ends all processes; what they run fails. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#processes].map((process) => process.end()));
    await this.#removeScratch(join(this.options.scratch, this.#prefix));
  }

  async #ready(slot: WorkerProcess | undefined): Promise<WorkerProcess> {
    if (slot && !slot.hasEnded) return slot;
    if (slot) this.#processes.delete(slot);
    for (;;) {
      if (this.#closed) throw new TorchError('ERR_DISPOSED', 'Expected workers but they were ended');
      try {
        const started = await WorkerProcess.start(this.options.job, this.options.threads, (process) =>
          this.#processes.add(process),
        );
        return started;
      } catch (error) {
        if (!(error instanceof WorkerEnded) || this.#closed) throw error;
        if (++this.#failedStarts >= MOST_FAILED_STARTS) {
          throw new TorchError(
            'ERR_WORKER_ENDED',
            `Expected worker processes that load ${this.options.job.model.path} but they end before they have (${error.how}): is there enough memory for ${this.options.workers} of them?`,
            { cause: error },
          );
        }
      }
    }
  }

  #take(): Promise<WorkerProcess | undefined> {
    if (this.#free.length > 0) return Promise.resolve(this.#free.pop());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #give(slot: WorkerProcess | undefined): void {
    const next = this.#waiting.shift();
    if (next) next(slot);
    else this.#free.push(slot);
  }

  /** Removes what a process that ended had begun to write. */
  async #removeScratch(prefix: string): Promise<void> {
    const folder = dirname(prefix);
    const names = await readdir(folder).catch(() => []);
    const begun = names.filter((name) => name.startsWith(`${basename(prefix)}-`));
    await Promise.all(begun.map((name) => rm(join(folder, name), { force: true })));
  }
}

function described({ input }: { input: string }, how: string): Omit<FailedInput, 'index'> {
  const message = `Expected a process that runs ${input} but it ended (${how}), each of ${MOST_DEATHS + 1} times`;
  return { input, code: 'ERR_WORKER_ENDED', message };
}
