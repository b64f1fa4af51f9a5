import { invalid, reading } from './validate';

/**
 * What `for await` goes through.
 *
 * @inline
 */
export type Inputs<Input> = AsyncIterable<Input> | Iterable<Input | PromiseLike<Input>>;

/** The inputs of a stream, as `for await` takes them. */
export interface Source<Item> {
  readonly ended: boolean;
  next(): Promise<IteratorResult<Item, unknown>>;
  /** Tells the iterator that no more is wanted, and awaits what it does about that unless it still waits for an item. */
  close(): Promise<void>;
}

/** The same as going through what was given, with what is no iterable and no iterator refused by a code. */
export async function* itemsOf<Item>(inputs: Inputs<Item>, what: string): AsyncGenerator<Item, void, undefined> {
  const source = sourceOf(inputs, what);
  try {
    while (true) {
      const { done, value } = await source.next();
      if (done) return;
      yield value;
    }
  } finally {
    await source.close();
  }
}

/** The iterator of what was given, with what is none refused by a code. */
export function sourceOf<Item>(inputs: Inputs<Item>, what: string): Source<Item> {
  const given = inputs as Partial<AsyncIterable<Item> & Iterable<Item>> | null | undefined;
  const { asynchronous, iterator } = reading(what, () => {
    const begin = given?.[Symbol.asyncIterator] ?? given?.[Symbol.iterator];
    if (typeof begin !== 'function') throw invalid('an iterable or async iterable', what, inputs);
    const made: unknown = Reflect.apply(begin, inputs, []);
    if (typeof (made as Partial<Iterator<Item>> | null | undefined)?.next !== 'function')
      throw invalid('an iterable or async iterable', what, inputs);
    const asynchronous = begin === given?.[Symbol.asyncIterator];
    return { asynchronous, iterator: made as AsyncIterator<Item> | Iterator<Item | PromiseLike<Item>> };
  });
  let waiting = 0;
  const source = {
    ended: false,
    async next(): Promise<IteratorResult<Item, unknown>> {
      ++waiting;
      let result: IteratorResult<Item | PromiseLike<Item>, unknown>;
      try {
        result = await iterator.next();
      } catch (error) {
        source.ended = true;
        throw error;
      } finally {
        --waiting;
      }
      if (result === null || typeof result !== 'object') throw invalid('the result of an iterator', what, result);
      if (result.done) source.ended = true;
      // `for await` awaits the items of what is no async iterable.
      if (asynchronous || result.done) return result as IteratorResult<Item, unknown>;
      return { done: false, value: await result.value };
    },
    async close(): Promise<void> {
      if (source.ended) return;
      source.ended = true;
      const closed = iterator.return?.();
      // A generator that waits for its next item would get to this only when it has that.
      if (waiting === 0) await closed;
      else Promise.resolve(closed).catch(() => {});
    },
  };
  return source;
}
