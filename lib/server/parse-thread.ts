import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, TorchError } from '../core/errors';
import type { InferRequest } from './infer-request';
import { RequestError } from './request-error';

const SCRIPT = join(__dirname, '..', '..', 'dist', 'server', 'parse-worker.js');

const MIB = 2 ** 20;
/** What the thread takes by itself, in bytes. */
const OWN_HEAP = 32 * MIB;
/** By how much larger than its JSON a body may be as objects of JavaScript: numbers are up to eleven times, `{},{},…` twenty. */
const GROWTH = 24;

/** What the thread is given, and what it gives back. */
export interface ParseTask {
  number: number;
  body: Uint8Array;
  headerLength: string | undefined;
}
export type Parsed = { number: number } & (
  | { request: InferRequest }
  | { error: { code: ErrorCode | undefined; message: string } }
);

interface Waiting {
  timer: NodeJS.Timeout;
  resolve(request: InferRequest): void;
  reject(error: unknown): void;
}

/** A thread that parses bodies of requests, one after the other. */
export class ParseThread {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  /** What ended it. */
  #error: unknown;

  /**
   * @param bodyLimit Bytes that a body may have.
   * @param timeLimit Milliseconds that one may take, waiting for others included.
   * @param ended Called when it has ended, by whatever it was.
   */
  constructor(
    bodyLimit: number,
    private readonly timeLimit: number,
    ended: () => void,
  ) {
    const maxOldGenerationSizeMb = Math.ceil((OWN_HEAP + GROWTH * bodyLimit) / MIB);
    this.#worker = new Worker(SCRIPT, { resourceLimits: { maxOldGenerationSizeMb } });
    this.#worker.unref();
    this.#worker.on('message', (parsed: Parsed) => this.#settle(parsed));
    this.#worker.on('error', (error) => {
      this.#error ??= error;
    });
    this.#worker.on('exit', () => {
      ended();
      this.#refuseAll();
    });
  }

  get idle(): boolean {
    return this.#waiting.size === 0;
  }

  /** @throws TorchError `ERR_INVALID_ARGUMENT` for a body that is no request; RequestError where the thread ends. */
  async parse(body: Uint8Array, headerLength: string | undefined): Promise<InferRequest> {
    if (this.#error !== undefined) throw endedError();
    return await new Promise((resolve, reject) => {
      const number = this.#next++;
      const timer = setTimeout(() => this.#giveUp(number), this.timeLimit);
      this.#waiting.set(number, { resolve, reject, timer });
      // A part of a larger buffer belongs to others as well.
      const own = body.length === body.buffer.byteLength ? body : Uint8Array.from(body);
      this.#worker.postMessage({ number, body: own, headerLength } satisfies ParseTask, [own.buffer as ArrayBuffer]);
    });
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #take(number: number): Waiting | undefined {
    const waiting = this.#waiting.get(number);
    this.#waiting.delete(number);
    clearTimeout(waiting?.timer);
    return waiting;
  }

  #giveUp(number: number): void {
    const [first] = this.#waiting.keys();
    const message = `Expected a body that is parsed within ${this.timeLimit} ms but received one that takes longer`;
    this.#take(number)?.reject(new TorchError('ERR_TIME_LIMIT', message));
    if (number !== first) return;
    // What it is at can't be stopped without the thread, and not at once: a second one beside it would take as much memory.
    this.#error ??= endedError();
    void this.end();
  }

  #settle(parsed: Parsed): void {
    const waiting = this.#take(parsed.number);
    if ('request' in parsed) {
      waiting?.resolve(parsed.request);
    } else {
      const { code, message } = parsed.error;
      waiting?.reject(code === undefined ? new Error(message) : new TorchError(code, message));
    }
  }

  #refuseAll(): void {
    // The first is the one that it was at.
    const [first, ...others] = [...this.#waiting.keys()].map((number) => this.#take(number));
    const message = 'Expected a body of tensors but received one that takes too much memory to be parsed';
    const isFull = (this.#error as NodeJS.ErrnoException | undefined)?.code === 'ERR_WORKER_OUT_OF_MEMORY';
    first?.reject(isFull ? new RequestError('ERR_TOO_LARGE', message) : (this.#error ?? endedError()));
    for (const other of others) other?.reject(endedError());
  }
}

function endedError(): RequestError {
  return new RequestError('ERR_NOT_READY', 'Expected a thread that parses bodies but it has ended', 1);
}
