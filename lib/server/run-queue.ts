import { RequestError } from './request-error';

interface Waiting {
  start(): void;
}

/** Runs of one model: so many at once, so many that wait, and all others are refused. */
export class RunQueue {
  #running = 0;
  #admitted = 0;
  readonly #waiting = new Set<Waiting>();
  /** How long a run takes, in milliseconds, the last ones counting most. */
  #duration = 0;

  constructor(
    private readonly concurrency: number,
    private readonly maxQueue: number,
    private readonly maxAdmitted = concurrency + maxQueue,
  ) {}

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Seconds until what waits now is done, as far as the last runs tell. */
  get #retryAfter(): number {
    return Math.max(1, Math.ceil((this.#duration * (this.#waiting.size + 1)) / this.concurrency / 1000));
  }

  /**
   * Runs a task when its turn has come.
   *
   * @throws RequestError `ERR_OVERLOADED` where too many wait already; the signal's reason where it is aborted meanwhile.
   */
  async run<Result>(task: () => Promise<Result>, signal: AbortSignal): Promise<Result> {
    signal.throwIfAborted();
    if (this.#running >= this.concurrency || this.#waiting.size > 0) await this.#turn(signal);
    else ++this.#running;
    const started = performance.now();
    try {
      return await task();
    } finally {
      const duration = performance.now() - started;
      this.#duration = this.#duration === 0 ? duration : 0.8 * this.#duration + 0.2 * duration;
      --this.#running;
      this.#startNext();
    }
  }

  /**
   * Takes a place for a request that comes in, until the function that it returns is called, so that requests which are still
   * being read, and their bodies, are no more than can wait.
   *
   * @throws RequestError `ERR_OVERLOADED`.
   */
  admit(): () => void {
    if (this.#admitted >= this.maxAdmitted) throw this.#overloaded();
    ++this.#admitted;
    return () => {
      --this.#admitted;
    };
  }

  #overloaded(): RequestError {
    return new RequestError(
      'ERR_OVERLOADED',
      `Expected at most ${this.maxQueue} requests that wait for this model but received another`,
      this.#retryAfter,
    );
  }

  #turn(signal: AbortSignal): Promise<void> {
    if (this.#waiting.size >= this.maxQueue) throw this.#overloaded();
    return new Promise((resolve, reject) => {
      const waiting = {
        start: (): void => {
          signal.removeEventListener('abort', abort);
          ++this.#running;
          resolve();
        },
      };
      const abort = (): void => {
        this.#waiting.delete(waiting);
        reject(signal.reason);
      };
      signal.addEventListener('abort', abort, { once: true });
      this.#waiting.add(waiting);
    });
  }

  #startNext(): void {
    for (const next of this.#waiting) {
      if (this.#running >= this.concurrency) return;
      this.#waiting.delete(next);
      next.start();
    }
  }
}
