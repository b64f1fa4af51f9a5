import { TorchError } from '../core/errors';
import { interruptible } from '../core/interruptible';
import type { Unseen } from '../core/unseen';
import type { Value } from '../core/value';
import { type Attention, type AttentionWithoutWeights, tensorsOf } from './attention';

type Run<Output, Each> = (
  onAttention: (attention: Each) => Promise<void> | undefined,
  stop: AbortSignal,
) => Promise<{ output: Output; unseen: Unseen[] }>;

/**
 * The attentions of one run, one at a time: the model waits until the next one is asked for. The run begins with the loop,
 * or for its `output` alone.
 *
 * An attention that the loop has done with stays in memory until the garbage collector finds it: dispose its `weights` (and
 * `keys`, and what else was asked for) where that matters.
 *
 * @example
 * const capture: AttentionStream = model.captureAttentionStream([ids]);
 * for await (const { index, weights } of capture) console.log(index, weights.shape);
 * console.log(await capture.output);
 */
export class AttentionStream<Output = Value, Each extends AttentionWithoutWeights = Attention>
  implements AsyncIterable<Each>
{
  readonly #output: Promise<Output>;
  readonly #unseen: Promise<Unseen[]>;
  readonly #stop = new AbortController();
  #begin = () => {};
  #started = false;
  #taken = false;
  /** Nobody looks at the attentions. */
  #dropping = false;
  /** Set by the side that waits for the other. */
  #resume: (() => void) | undefined;
  #arrived: (() => void) | undefined;
  #next: Each | undefined;
  #over = false;

  /** @internal Streams are made by `captureAttentionStream`. */
  constructor(run: Run<Output, Each>) {
    const result = new Promise<{ output: Output; unseen: Unseen[] }>((resolve) => {
      this.#begin = () => {
        if (this.#started) return;
        this.#started = true;
        resolve(
          run((attention) => this.#offer(attention), this.#stop.signal).finally(() => {
            this.#over = true;
            this.#arrived?.();
            this.#resume?.();
          }),
        );
      };
    });
    this.#output = result.then(({ output }) => output);
    this.#unseen = result.then(({ unseen }) => unseen);
    // The loop throws it; nobody has to ask for these as well.
    for (const each of [this.#output, this.#unseen]) each.catch(() => {});
  }

  /**
   * What the model returns, once it has. Rejects where the run fails or the loop was left early.
   *
   * Where no loop has begun by the next turn of the event loop, the model runs for its output alone: the attentions are
   * dropped, and the stream can't be gone through any more.
   *
   * @throws TorchError as `captureAttention`.
   *
   * @example
   * for await (const { weights } of stream) weights.dispose();
   * const output = await stream.output;
   */
  get output(): Promise<Output> {
    if (!this.#started) {
      setImmediate(() => {
        if (this.#started) return;
        this.#dropping = true;
        this.#begin();
      });
    }
    return this.#output;
  }

  /**
   * What looked like attention and could not be recorded, once the run is over: with `output`, and as that.
   *
   * @example
   * for await (const { weights } of stream) weights.dispose();
   * for (const { name, reason } of await stream.unseen) console.warn(name, reason);
   */
  get unseen(): Promise<Unseen[]> {
    void this.output;
    return this.#unseen;
  }

  #offer(attention: Each): Promise<void> | undefined {
    // One that was on its way when the run was aborted comes after the end: nobody would ever take it.
    if (this.#dropping || this.#over || this.#stop.signal.aborted) {
      for (const tensor of tensorsOf(attention)) tensor.dispose();
      return undefined;
    }
    this.#next = attention;
    this.#arrived?.();
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  /**
   * Goes through the attentions, once.
   *
   * @returns The iterator that a `for await` loop goes through.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where that was done before, or the model runs for its output alone; what
   *   `captureAttention` rejects with.
   *
   * @example
   * for await (const { name } of stream) {
   *   if (name.includes('layer.0')) break; // stops the run
   * }
   */
  [Symbol.asyncIterator](): AsyncGenerator<Each, void, undefined> {
    this.#checkNotDropping();
    if (this.#taken) throw goneThrough('one that a loop has gone through');
    this.#taken = true;
    return interruptible(this.#attentions(), () => this.#leave());
  }

  #checkNotDropping(): void {
    if (this.#dropping) throw goneThrough('one that runs for its output alone, which was asked for before the loop');
  }

  async *#attentions(): AsyncGenerator<Each, void, undefined> {
    this.#checkNotDropping();
    this.#begin();
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
      await this.#output;
    } catch (error) {
      // Who left while this waited has not failed.
      if (!this.#stop.signal.aborted || error !== this.#stop.signal.reason) throw error;
    } finally {
      this.#leave();
    }
  }

  /** Ends a run that isn't over; one that has not begun ends as if it had. */
  #leave(): void {
    if (this.#over || this.#dropping) return;
    this.#stop.abort();
    this.#begin();
    this.#resume?.();
  }
}

function goneThrough(received: string): TorchError {
  return new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected an AttentionStream that nothing has gone through yet but received ${received}; captureAttentionStream makes another`,
  );
}
