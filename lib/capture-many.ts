import type { Attention, CaptureOptions } from './attention';
import { integer, invalid, optionsObject } from './validate';
import type { Value } from './value';

/** How a stream of captures goes. */
export interface StreamOptions {
  /** How many runs may be under way or waiting to be taken beyond the one that the consumer looks at. Default 1. */
  ahead?: number;
  /** Called when an input is done, in order of the inputs. */
  onProgress?: (progress: { done: number; failed: number }) => void;
}

/** Options of `captureMany`: those of each capture, and how the stream goes. */
export interface CaptureManyOptions extends CaptureOptions, StreamOptions {}

/** The result for one input of a stream: `error` says what it failed with. */
export type CapturedInput<Output = Value> =
  | { index: number; output: Output; attentions: Attention[]; error?: undefined }
  | { index: number; error: unknown };

/** See `CapturingModel.captureMany`: `capture` is told what is left of the options. */
export async function* captureMany<Input, Output, Options extends { signal?: AbortSignal }>(
  capture: (
    input: Input,
    options: Omit<Options, keyof StreamOptions> & { signal: AbortSignal },
  ) => Promise<{ output: Output; attentions: Attention[] }>,
  inputs: AsyncIterable<Input> | Iterable<Input>,
  options: Options & StreamOptions,
): AsyncGenerator<CapturedInput<Output>, void, undefined> {
  const { ahead = 1, onProgress, ...each } = optionsObject(options, 'the options of captureMany');
  integer(ahead, 'ahead', 0);
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw invalid('a function', 'onProgress', onProgress);
  const source = iteratorOf(inputs);
  const left = new AbortController();
  const signal = each.signal ? AbortSignal.any([each.signal, left.signal]) : left.signal;

  let started = 0;
  let ended = false;
  const run = async (index: number): Promise<CapturedInput<Output> | undefined> => {
    const { done, value } = await source.next(); // an input that can't be had ends the stream
    if (done) {
      ended = true;
      return undefined;
    }
    try {
      return { index, ...(await capture(value, { ...each, signal })) };
    } catch (error) {
      signal.throwIfAborted();
      return { index, error };
    }
  };

  const pending: Promise<CapturedInput<Output> | undefined>[] = [];
  const fill = (count: number): void => {
    while (!ended && pending.length < count) {
      const next = run(started++);
      next.catch(() => {}); // thrown when its turn comes
      pending.push(next);
    }
  };
  let done = 0;
  let failed = 0;
  try {
    while (true) {
      fill(ahead + 1);
      const next = pending.shift();
      const result = await next;
      if (!result) return;
      ++done;
      if ('error' in result && result.error !== undefined) ++failed;
      onProgress?.({ done, failed });
      fill(ahead); // works on while the consumer looks at this one
      yield result;
    }
  } finally {
    left.abort();
    await Promise.allSettled(pending);
    await source.return?.();
  }
}

function iteratorOf<Item>(inputs: AsyncIterable<Item> | Iterable<Item>): AsyncIterator<Item> | Iterator<Item> {
  const given = inputs as Partial<AsyncIterable<Item> & Iterable<Item>> | null | undefined;
  if (typeof given?.[Symbol.asyncIterator] === 'function')
    return (inputs as AsyncIterable<Item>)[Symbol.asyncIterator]();
  if (typeof given?.[Symbol.iterator] === 'function') return (inputs as Iterable<Item>)[Symbol.iterator]();
  throw invalid('an iterable or async iterable', 'inputs', inputs);
}
