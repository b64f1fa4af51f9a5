import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { type ErrorCode, TorchError } from '../core/errors';
import { SLEEPING_THREADS } from '../libtorch/wait-policy';
import type { ChunkResult, ChunkTask, FromWorker, Job, ToWorker } from './job';

const SCRIPT = join(__dirname, '..', '..', 'dist', 'bulk', 'worker.js');

/** A worker process that ended by itself, whatever ended it. */
export class WorkerEnded extends Error {
  constructor(
    readonly how: string,
    /** The input that it had begun, in a careful run. */
    readonly during: { index: number; input: string } | undefined,
  ) {
    super(`The worker process ended: ${how}`);
  }
}

/** A process with the model of a job, which runs one chunk at a time. */
export class WorkerProcess {
  readonly #ended: Promise<void>;
  #hasEnded = false;
  #during: { index: number; input: string } | undefined;
  #waiting: { resolve(result: ChunkResult | undefined): void; reject(error: Error): void } | undefined;
  /** Of what is under way: told of progress. */
  #onProgress: ((inputs: number, failed: number) => void) | undefined;

  private constructor(private readonly child: ChildProcess) {
    this.#ended = new Promise((resolve) => {
      const end = (how: string): void => {
        if (this.#hasEnded) return;
        this.#hasEnded = true;
        this.#settle()?.reject(new WorkerEnded(how, this.#during));
        resolve();
      };
      child.on('exit', (code, signal) => end(signal ?? `exit code ${code}`));
      child.on('error', (error) => end(error.message));
    });
    child.on('message', (message) => this.#take(message as FromWorker));
  }

  /**
   * Starts a process, which loads the model.
   *
   * @param onStarted Told of it before it has.
   * @throws TorchError where the job can't be done with it; WorkerEnded.
   */
  static async start(job: Job, threads: number, onStarted: (worker: WorkerProcess) => void): Promise<WorkerProcess> {
    const env = { ...SLEEPING_THREADS, ...process.env };
    const child = fork(SCRIPT, [], { execArgv: [], env, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const worker = new WorkerProcess(child);
    onStarted(worker);
    try {
      await worker.#ask({ type: 'load', job, threads });
    } catch (error) {
      await worker.end();
      throw error;
    }
    return worker;
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** @throws TorchError where the chunk can't be run; WorkerEnded. */
  async run(task: ChunkTask, onProgress: (inputs: number, failed: number) => void): Promise<ChunkResult> {
    this.#during = undefined;
    this.#onProgress = onProgress;
    return (await this.#ask({ type: 'run', ...task })) as ChunkResult;
  }

  /** Ends the process, whatever it does. */
  async end(): Promise<void> {
    if (!this.#hasEnded) this.child.kill('SIGKILL');
    await this.#ended;
  }

  #ask(message: ToWorker): Promise<ChunkResult | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#hasEnded) return reject(new WorkerEnded('it had ended before', undefined));
      this.#waiting = { resolve, reject };
      // One that can't be sent to ends, which is heard elsewhere.
      this.child.send(message, () => {});
    });
  }

  #settle() {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }

  #take(message: FromWorker): void {
    if (message.type === 'begin') this.#during = message;
    else if (message.type === 'progress') this.#onProgress?.(message.inputs, message.failed);
    else if (message.type === 'failed') {
      const { code, message: text } = message.error;
      this.#settle()?.reject(new TorchError(code as ErrorCode, text));
    } else this.#settle()?.resolve(message.type === 'done' ? message.result : undefined);
  }
}
