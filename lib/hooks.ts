import { AsyncLocalStorage } from 'node:async_hooks';
import { type NativeCallback, type NativeHook, rememberFailure } from './binding';
import { TorchError } from './errors';
import type { Tensor } from './tensor';
import { fromNativeValue, toNative, type Value } from './value';

/** A module as hooks see it. */
export interface HookedModule {
  /** Dotted name; `''` for the model itself. */
  readonly name: string;
  /** Class name. */
  readonly type: string;
}

/** What a hook returns that keeps everything: a function without a return statement has the type void. */
// biome-ignore lint/suspicious/noConfusingVoidType: void is what such functions are inferred to return
type Nothing = undefined | void;

type Awaitable<Result> = Result | Promise<Result>;

/**
 * Called ahead of a module with its inputs. An array replaces them all, any other value replaces the only one; nothing
 * (undefined or null) keeps them.
 */
export type ForwardPreHook = (module: HookedModule, input: Value[]) => Awaitable<Value[] | Value | Nothing>;

/** Called behind a module with its inputs and its output. A value replaces the output; nothing keeps it. */
export type ForwardHook = (module: HookedModule, input: Value[], output: Value) => Awaitable<Value | Nothing>;

/**
 * Called in a backward pass when the gradients of a module's inputs are known; null stands where there is none. An array
 * replaces the input gradients, a tensor the only one; nothing keeps them.
 */
export type FullBackwardHook = (
  module: HookedModule,
  gradInput: (Tensor | null)[],
  gradOutput: (Tensor | null)[],
) => Awaitable<(Tensor | null)[] | Tensor | Nothing>;

/** Where a hook stands: ahead of a module, behind it, or in the backward pass. */
export type HookKind = 'pre' | 'forward' | 'backward';

/** What hooks need of the model that they sit on. */
export interface HookOwner {
  readonly disposed: boolean;
}

/** The models whose hooks the current code is in, however asynchronously: running one of them again would never end. */
const running = new AsyncLocalStorage<ReadonlySet<HookOwner>>();

/** Whether the current code is in a hook of some model, which then waits for it. */
export const isInsideHook = (): boolean => running.getStore() !== undefined;

/**
 * For each model, the sets of models whose hooks wait for a run of it right now. The addon doesn't tell which run a hook
 * belongs to: where several are under way, a hook counts as being inside all of them.
 */
const waiting = new WeakMap<HookOwner, Set<ReadonlySet<HookOwner>>>();

/** Runs a model, so that its hooks know which other hooks wait for it. */
export async function runWaitedFor<Result>(owner: HookOwner, run: () => Promise<Result>): Promise<Result> {
  const inside = running.getStore();
  if (!inside) return run();
  const callers = new Set(inside);
  const all = waiting.get(owner) ?? new Set();
  waiting.set(owner, all.add(callers));
  try {
    return await run();
  } finally {
    all.delete(callers);
  }
}

/** Refuses to run a model from inside one of its own hooks. */
export function checkNotInOwnHook(owner: HookOwner): void {
  if (running.getStore()?.has(owner)) {
    throw new TorchError(
      'ERR_MODEL_RUN',
      'Expected a model that is not waiting for this very code, but it was called from inside one of its own hooks: ' +
        'use the values that the hook received, or run the model before or after',
    );
  }
}

/** The models whose hooks code is in that a hook of this one calls: itself, and those that wait for its runs. */
function insideHookOf(owner: HookOwner, alone: ReadonlySet<HookOwner>): ReadonlySet<HookOwner> {
  const outer = running.getStore();
  const callers = waiting.get(owner);
  if (!outer && !callers?.size) return alone;
  const inside = new Set(outer).add(owner);
  for (const each of callers ?? []) for (const caller of each) inside.add(caller);
  return inside;
}

/**
 * The function that the addon calls where a model waits for one of ours.
 *
 * A hook is called in the middle of a model's run, whose data has pushed this code out of the processor's caches: the less
 * there is to execute, the better.
 */
export function waitedFor(owner: HookOwner, call: (...values: Value[]) => unknown): NativeCallback {
  const alone = new Set([owner]);
  const answer = (result: unknown): [number, unknown] | undefined => {
    if (owner.disposed) throw new TorchError('ERR_DISPOSED', 'The model was disposed inside its own hook');
    return result === undefined || result === null ? undefined : [0, toNative(result)];
  };
  return (...values) => {
    try {
      for (let i = 0; i < values.length; ++i) values[i] = fromNativeValue(values[i]);
      const result = running.run(insideHookOf(owner, alone), call, ...(values as Value[]));
      if (!isThenable(result)) return answer(result);
      return (settle) => {
        result.then(answer).then(
          (value) => settle(0, value?.[1]),
          (error) => settle(rememberFailure(error)),
        );
      };
    } catch (error) {
      return [rememberFailure(error)];
    }
  };
}

/**
 * What the addon calls for a hook. In a scope of its own: the addon keeps this function until its hook is collected, so
 * that nothing in its scope may refer to that.
 */
export function hookCallback(
  owner: HookOwner,
  kind: HookKind,
  module: HookedModule,
  hook: (module: HookedModule, ...values: never[]) => unknown,
): NativeCallback {
  const count = kind === 'pre' ? 1 : 2;
  return waitedFor(owner, (...values) => {
    // In runs of a larger model that this one is a part of, the module has that model's name for it.
    const place = values.length > count ? Object.freeze({ name: values.pop() as string, type: module.type }) : module;
    return hook(place, ...(values as never[]));
  });
}

function isThenable(value: unknown): value is Promise<unknown> {
  return value !== null && typeof value === 'object' && typeof (value as { then?: unknown }).then === 'function';
}

/** A registered hook. */
export class RemovableHandle {
  readonly #native: NativeHook;
  #remove: (() => void) | undefined;

  /** @internal */
  constructor(native: NativeHook, remove: () => void) {
    this.#native = native;
    this.#remove = remove;
  }

  /** How often the hook has fired. */
  get calls(): number {
    return this.#native.calls();
  }

  /** Removes the hook at once, also for runs under way, also from inside itself. May be called twice. */
  remove(): void {
    this.#remove?.();
    this.#remove = undefined;
  }

  [Symbol.dispose](): void {
    this.remove();
  }
}
