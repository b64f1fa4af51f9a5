/** What may come later. */
export type Awaitable<Result> = Result | PromiseLike<Result>;

/** Whether a value is to be awaited: a promise, or anything else with a `then`. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return value !== null && typeof value === 'object' && typeof (value as { then?: unknown }).then === 'function';
}
