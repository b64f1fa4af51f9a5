import { AsyncLocalStorage } from 'node:async_hooks';
import { type NativeHook, rememberFailure } from './binding';
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

/**
 * The function that the addon calls for a hook: (settle, module name, type, ...values). It settles with what the hook
 * returns, or with the number of what it threw.
 */
export function hookFunction(
  owner: HookOwner,
  hook: (module: HookedModule, ...values: never[]) => unknown,
): (settle: (failure: number, value?: unknown) => void, name: string, type: string, ...values: unknown[]) => void {
  return (settle, name, type, ...values) => {
    const finish = (result: unknown): void => {
      if (owner.disposed) throw new TorchError('ERR_DISPOSED', 'The model was disposed inside its own hook');
      settle(0, toNative(result));
    };
    const fail = (error: unknown): void => settle(rememberFailure(error));
    const inside = new Set(running.getStore()).add(owner);
    for (const callers of waiting.get(owner) ?? []) for (const caller of callers) inside.add(caller);
    running.run(inside, () => {
      try {
        const result = hook(Object.freeze({ name, type }), ...(values.map(fromNativeValue) as never[]));
        if (isThenable(result)) {
          result.then(finish).then(undefined, fail);
        } else {
          finish(result);
        }
      } catch (error) {
        fail(error);
      }
    });
  };
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
