/**
 * How far a bulk run is.
 *
 * @example
 * const say = ({ done, inputs, rate }: BulkProgress): void => console.log(`${done} of ${inputs}, ${rate.toFixed(1)} a second`);
 */
export interface BulkProgress {
  /** Inputs in all. */
  inputs: number;
  /** Inputs that are done, those that failed and those of earlier runs among them. */
  done: number;
  /** Inputs that failed. */
  failed: number;
  /** Inputs a second, of the last half minute. */
  rate: number;
  /** Seconds that the rest takes at that rate; undefined where nothing says how fast it goes. */
  secondsLeft?: number;
}

/** What the rate is measured over, in milliseconds, and how often. */
const WINDOW = 30_000;
const INTERVAL = 500;

/** Counts inputs, and tells at intervals how far they are. */
export class ProgressMeter {
  #done: number;
  #failed: number;
  readonly #samples: { time: number; done: number }[] = [];
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly inputs: number,
    before: { written: number; failed: number },
    private readonly report: ((progress: BulkProgress) => void) | undefined,
  ) {
    this.#done = before.written + before.failed;
    this.#failed = before.failed;
    this.#sample();
    if (report) this.#timer = setInterval(() => report(this.now()), INTERVAL).unref();
  }

  /** So many more are done; fewer, where work was lost and is done again. */
  add(inputs: number, failed: number): void {
    this.#done += inputs;
    this.#failed += failed;
  }

  /** What is done as a store has it, where others work on it as well. */
  set(done: number, failed: number): void {
    this.#done = done;
    this.#failed = failed;
  }

  now(): BulkProgress {
    this.#sample();
    const [first, last] = [this.#samples[0], this.#samples.at(-1)] as [
      { time: number; done: number },
      { time: number; done: number },
    ];
    const seconds = (last.time - first.time) / 1000;
    const rate = seconds > 0 ? Math.max(0, last.done - first.done) / seconds : 0;
    const left = this.inputs - this.#done;
    return {
      inputs: this.inputs,
      done: this.#done,
      failed: this.#failed,
      rate,
      ...(rate > 0 && { secondsLeft: left / rate }),
    };
  }

  end(): void {
    clearInterval(this.#timer);
    this.report?.(this.now());
  }

  #sample(): void {
    const time = performance.now();
    this.#samples.push({ time, done: this.#done });
    while (this.#samples.length > 2 && (this.#samples[1] as { time: number }).time < time - WINDOW)
      this.#samples.shift();
  }
}
