import { anySignal } from '../core/any-signal';
import { unlessAborted } from '../core/cancellable';
import { type Inputs, sourceOf } from '../core/inputs';
import { interruptible } from '../core/interruptible';
import { isThenable } from '../core/thenable';
import type { Unseen } from '../core/unseen';
import { integer, invalid, isCallable, optionalSignal, optionsObject, reading } from '../core/validate';
import type { Value } from '../core/value';
import type { Attention } from './attention';
import type { CaptureOptions } from './capture-options';

/**
 * How a stream of captures goes.
 *
 * @example
 * const options: StreamOptions = { ahead: 2, onProgress: ({ done, failed }) => console.log(done, failed) };
 */
export interface StreamOptions {
  /** How many runs, at least 0, may be under way or waiting to be taken beyond the one that the consumer looks at. Default 1. */
  ahead?: number;
  /** Called when an input is done, in order of the inputs; a promise is waited for. What it throws ends the stream. */
  onProgress?: (progress: { done: number; failed: number }) => unknown;
}

/**
 * Options of `captureMany`: those of each capture, and how the stream goes.
 *
 * @example
 * const options: CaptureManyOptions = { layers: [-1], topK: 8, ahead: 2 };
 */
export interface CaptureManyOptions<Output = Value> extends Omit<CaptureOptions<Output>, 'onAttention'>, StreamOptions {
  /**
   * As in `captureAttention`, with the index of the input that the attention belongs to. The runs then don't overlap: one
   * input's attentions have all been taken when the first of the next input comes.
   */
  onAttention?: (attention: Attention, index: number) => unknown;
}

/**
 * The result for one input of a stream: `error` says what it failed with. `index` counts the inputs from 0.
 *
 * @example
 * const failed = (result: CapturedInput): boolean => !('output' in result);
 */
export type CapturedInput<Output = Value, Each = Attention> =
  | { index: number; output: Output; attentions: Each[]; unseen: Unseen[]; error?: undefined }
  | { index: number; error: unknown };

/** The options that `captureMany` itself has to do with. */
type Own = Pick<CaptureManyOptions, keyof StreamOptions | 'onAttention' | 'signal'>;

type Capture<Input, Output, Options> = (
  input: Input,
  options: Omit<Options, keyof Own> & Pick<CaptureOptions, 'onAttention' | 'signal'>,
) => Promise<{ output: Output; attentions: Attention[]; unseen: Unseen[] }>;

/** See `CapturingModel.captureMany`: `capture` is told what is left of the options. */
export function captureMany<Input, Output, Options extends Own>(
  capture: Capture<Input, Output, Options>,
  inputs: Inputs<Input>,
  options: Options,
): AsyncGenerator<CapturedInput<Output>, void, undefined> {
  const left = new AbortController();
  return interruptible(results(capture, inputs, options, left), () => left.abort());
}

async function* results<Input, Output, Options extends Own>(
  capture: Capture<Input, Output, Options>,
  inputs: Inputs<Input>,
  options: Options,
  left: AbortController,
): AsyncGenerator<CapturedInput<Output>, void, undefined> {
  const {
    ahead = 1,
    onProgress,
    onAttention,
    signal: given,
    ...each
  } = reading('the options of captureMany', () => ({ ...optionsObject(options, 'the options of captureMany') }));
  integer(ahead, 'ahead', 0);
  if (onProgress !== undefined && !isCallable(onProgress)) throw invalid('a function', 'onProgress', onProgress);
  if (onAttention !== undefined && !isCallable(onAttention)) throw invalid('a function', 'onAttention', onAttention);
  const stop = optionalSignal(given);
  const source = sourceOf(inputs, 'inputs');
  const { signal, release } = anySignal([stop, left.signal]);

  let started = 0;
  let last: Promise<unknown> | undefined;
  let isReading = false;
  const run = async (index: number, before: typeof last): Promise<CapturedInput<Output> | undefined> => {
    isReading = true;
    const read = unlessAborted(source.next(), signal); // an input that can't be had ends the stream
    const { done, value } = await read.finally(() => {
      isReading = false;
    });
    if (done) return undefined;
    fill();
    // What takes the attentions is not to get those of two inputs in turns.
    if (onAttention) await before;
    const take = onAttention && ((attention: Attention) => onAttention(attention, index));
    try {
      return { index, ...(await capture(value, { ...each, signal, ...(take ? { onAttention: take } : {}) })) };
    } catch (error) {
      signal.throwIfAborted();
      return { index, error };
    }
  };

  const pending: Promise<CapturedInput<Output> | undefined>[] = [];
  let limit = 0; // of `pending`
  // Begins with the next input, which begins with the one behind it once it was read: how many there are isn't known.
  const fill = (): void => {
    if (isReading || source.ended || signal.aborted || pending.length >= limit) return;
    const next = run(started++, last);
    last = next.catch(() => {}); // thrown when its turn comes
    pending.push(next);
  };
  let done = 0;
  let failed = 0;
  try {
    while (true) {
      signal.throwIfAborted();
      limit = ahead + 1;
      fill();
      limit = ahead; // beside the one that is waited for
      const result = await pending.shift();
      if (!result) return;
      ++done;
      if ('error' in result) ++failed; // even where the reason is undefined
      const reported: unknown = onProgress?.({ done, failed });
      if (isThenable(reported)) await reported;
      fill(); // works on while the consumer looks at this one
      yield result;
    }
  } catch (error) {
    // Who left while this waited has not failed.
    if (!left.signal.aborted || error !== left.signal.reason) throw error;
  } finally {
    left.abort();
    const closed = source.close();
    await Promise.allSettled([closed, ...pending]);
    release();
    await closed;
  }
}
