/**
 * An async generator that can be ended while it waits: its own `return` and `throw` would wait for that as well, for good
 * where nothing comes. `leave` is called before them and has to end the waiting.
 */
export function interruptible<Item>(
  generator: AsyncGenerator<Item, void, undefined>,
  leave: () => void,
): AsyncGenerator<Item, void, undefined> {
  const { return: end, throw: fail } = generator;
  generator.return = (value) => {
    leave();
    return end.call(generator, value);
  };
  generator.throw = (error) => {
    leave();
    return fail.call(generator, error);
  };
  return generator;
}
