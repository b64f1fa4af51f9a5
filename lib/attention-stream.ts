import type { Attention } from './attention';
import type { Value } from './value';

type Run<Output> = (
  onAttention: (attention: Attention) => Promise<void>,
  signal: AbortSignal,
) => Promise<{ output: Output }>;

/** The attentions of one run, one at a time: the model waits until the next one is asked for. */
export class AttentionStream<Output = Value> implements AsyncIterable<Attention> {
  /** What the model returns, once it has. Rejects where the run fails or the loop was left early. */
  readonly output: Promise<Output>;
  readonly #stop = new AbortController();
  #started = false;
  /** Set by the side that waits for the other. */
  #resume: (() => void) | undefined;
  #arrived: (() => void) | undefined;
  #next: Attention | undefined;
  #over = false;

  constructor(run: Run<Output>, signal: AbortSignal | undefined) {
    const stop = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    this.output = run((attention) => this.#offer(attention), stop)
      .then(({ output }) => output)
      .finally(() => {
        this.#over = true;
        this.#arrived?.();
      });
    this.output.catch(() => {}); // the loop throws it; nobody has to ask for the output as well
  }

  #offer(attention: Attention): Promise<void> {
    this.#next = attention;
    this.#arrived?.();
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Attention, void, undefined> {
    if (this.#started) throw new Error('An AttentionStream can be gone through once');
    this.#started = true;
    try {
      while (true) {
        if (!this.#next && !this.#over) {
          await new Promise<void>((resolve) => {
            this.#arrived = resolve;
          });
        }
        const attention = this.#next;
        if (!attention) break;
        this.#next = undefined;
        yield attention;
        this.#resume?.();
      }
      await this.output;
    } finally {
      if (!this.#over) {
        this.#stop.abort();
        this.#resume?.();
      }
    }
  }
}
