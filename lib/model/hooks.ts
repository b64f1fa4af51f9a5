import { AsyncLocalStorage } from 'node:async_hooks';
import { type InspectOptions, inspect } from 'node:util';
import { binding, type NativeCallback, type NativeHook } from '../core/binding';
import { TorchError } from '../core/errors';
import type { Tensor } from '../core/tensor';
import { invalid } from '../core/validate';
import { fromNativeValue, toNative, type Value } from '../core/value';

/**
 * A module as hooks see it.
 *
 * @example
 * const note = (module: HookedModule) => console.log(module.name, module.type);
 * model.registerForwardHook('encoder', note);
 */
export interface HookedModule {
  /** Dotted name; `''` for the model itself. */
  readonly name: string;
  /** Class name. */
  readonly type: string;
}

/** What a hook returns that keeps everything: a function without a return statement has the type void. */
// biome-ignore lint/suspicious/noConfusingVoidType: void is what such functions are inferred to return
type Nothing = undefined | void;

/** What may come later. */
export type Awaitable<Result> = Result | PromiseLike<Result>;

/** The only input, where there is one; any where nobody knows how many there are. */
type OnlyOf<Input extends readonly unknown[]> = Input extends readonly [infer Only]
  ? Only
  : number extends Input['length']
    ? Input[number]
    : never;

/**
 * Called before a module with its inputs. An array replaces them all, any other value replaces the only one; nothing
 * (undefined or null) keeps them. What is thrown ends the run with `ERR_HOOK_FAILED`, as its `cause`.
 *
 * @example
 * const double: ForwardPreHook<[Tensor]> = (module, [x]) => x.mul(2);
 * model.registerForwardPreHook('encoder', double);
 */
export type ForwardPreHook<Input extends readonly unknown[] = Value[]> = (
  module: HookedModule,
  input: Input,
) => Awaitable<Input | OnlyOf<Input> | Nothing>;

/**
 * Called after a module with its inputs and its output. A value replaces the output; nothing (undefined or null) keeps it.
 * What is thrown ends the run with `ERR_HOOK_FAILED`, as its `cause`.
 *
 * @example
 * const silence: ForwardHook<[Tensor], Tensor> = (module, [x], output) => output.mul(0);
 * model.registerForwardHook('encoder', silence);
 */
export type ForwardHook<Input extends readonly unknown[] = Value[], Output = Value> = (
  module: HookedModule,
  input: Input,
  output: Output,
) => Awaitable<Output | Nothing>;

/**
 * Called in a backward pass when the gradients of a module's inputs are known; null stands where there is none. An array
 * replaces the input gradients, a tensor the only one; nothing keeps them. What is thrown ends the backward pass with
 * `ERR_HOOK_FAILED`, as its `cause`.
 *
 * @example
 * const clip: FullBackwardHook = (module, gradInput) => gradInput.map((each) => each?.mul(0.5) ?? null);
 * model.registerFullBackwardHook('encoder', clip);
 */
export type FullBackwardHook = (
  module: HookedModule,
  gradInput: (Tensor | null)[],
  gradOutput: (Tensor | null)[],
) => Awaitable<(Tensor | null)[] | Tensor | Nothing>;

/** Where a hook stands: before a module, after it, or in the backward pass. */
export type HookKind = 'pre' | 'forward' | 'backward';

/** What hooks need of the model that they sit on. */
export interface HookOwner {
  /** The model and all models that it is made of: their hooks fire in its runs, and it is locked together with them. */
  readonly members: ReadonlySet<HookOwner>;
}

/** One call of a hook: its model waits until it is over. */
interface HookCall {
  readonly owner: HookOwner;
  over: boolean;
  /** Whether the hook has disposed its model. */
  disposed: boolean;
}

/** The call of a hook that the current code was begun in, however asynchronously. */
const currentHookCall = new AsyncLocalStorage<HookCall>();

/**
 * The call of a hook that the current code is in. What a hook merely began (a timer, a task that it doesn't wait for) is in
 * it only as long as the hook itself isn't over.
 */
function enclosingHook(): HookCall | undefined {
  const call = currentHookCall.getStore();
  return call?.over ? undefined : call;
}

/** Whether the current code is in a hook of some model, which then waits for it. */
export const isInsideHook = (): boolean => enclosingHook() !== undefined;

/** Notes that the current code disposes a model: a hook that does so to its own ends the run. */
export function noteDisposed(model: HookOwner): void {
  const hook = enclosingHook();
  if (hook?.owner === model) hook.disposed = true;
}

/** What is done with a model: a run, or a change of its parameters, which comes after the runs in flight. */
type Operation = 'run' | 'change';

/** What is in flight, and the hook that waits for it, or may: whether a hook waits for what it begins can't be told. */
const inFlight = new Set<{
  readonly operation: Operation;
  readonly model: HookOwner;
  readonly caller: HookCall | undefined;
}>();

/**
 * Calls of hooks that haven't settled yet, by the model that they sit on: each a promise of their end. What a hook returned is
 * not kept here: once nobody can settle it any more, the run that waits for it has to be told.
 */
const pending = new Map<HookOwner, Set<Promise<void>>>();
const unsettled = new FinalizationRegistry<() => void>((over) => over());

function notePending(owner: HookOwner, promise: Promise<unknown>): void {
  const calls = pending.get(owner) ?? new Set();
  let settled = () => {};
  const end = new Promise<void>((resolve) => {
    settled = resolve;
  });
  pending.set(owner, calls.add(end));
  const over = (): void => {
    settled();
    calls.delete(end);
    if (calls.size === 0 && pending.get(owner) === calls) pending.delete(owner);
  };
  promise.then(over, over);
  unsettled.register(promise, over);
}

/** Does something with a model, so that its hooks know which other hooks wait for them. */
export async function waitedForByHooks<Result>(
  operation: Operation,
  model: HookOwner,
  call: () => Promise<Result>,
): Promise<Result> {
  const entry = { operation, model, caller: enclosingHook() };
  inFlight.add(entry);
  try {
    return await call();
  } finally {
    inFlight.delete(entry);
  }
}

function share(one: HookOwner, other: HookOwner): boolean {
  for (const member of one.members) if (other.members.has(member)) return true;
  return false;
}

/**
 * Whether something done with a model can't end before a hook on `owner` is over: a run comes to that hook itself, a change
 * waits for the run that the hook is in. The addon doesn't tell which one that is: where several are in flight, a hook
 * counts as being in all of them.
 */
function waitsFor(operation: Operation, model: HookOwner, owner: HookOwner): boolean {
  if (operation === 'run') return model.members.has(owner);
  if (share(model, owner)) return true;
  for (const { operation: other, model: running } of inFlight) {
    if (other === 'run' && running.members.has(owner) && share(model, running)) return true;
  }
  return false;
}

/** The calls of hooks that wait for the current code: the one around it, those that wait for what that is in, and so on. */
function waitingHooks(): Set<HookCall> {
  const around = enclosingHook();
  const waiting = new Set(around && [around]);
  for (const { owner } of waiting) {
    for (const { operation, model, caller } of inFlight) {
      if (caller && !caller.over && waitsFor(operation, model, owner)) waiting.add(caller);
    }
  }
  return waiting;
}

/** Refuses to do something with a model that would wait for the hook that waits for it. */
export function checkNotInOwnHook(operation: Operation, model: HookOwner): void {
  for (const { owner } of waitingHooks()) {
    if (!waitsFor(operation, model, owner)) continue;
    const where = owner === model ? 'one of its own hooks' : 'a hook of a model that has parts in common with it';
    throw new TorchError(
      'ERR_MODEL_RUN',
      `Expected a model that is not waiting for this very code, but it was called from inside ${where}: ` +
        (operation === 'run'
          ? 'use the values that the hook received, or run the model before or after'
          : 'change its parameters before or after the run'),
    );
  }
}

/**
 * The function that the addon calls where a model waits for one of ours.
 *
 * A hook is called in the middle of a model's run, whose data has pushed this code out of the processor's caches: the less
 * there is to execute, the better.
 */
export function waitedFor(owner: HookOwner, call: (...values: Value[]) => unknown): NativeCallback {
  const answer = (hook: HookCall, result: unknown): [0, unknown] | undefined => {
    hook.over = true;
    if (hook.disposed) throw new TorchError('ERR_DISPOSED', 'The model was disposed inside its own hook');
    return result === undefined || result === null ? undefined : [0, toNative(result, "the hook's result")];
  };
  return (...values) => {
    const hook: HookCall = { owner, over: false, disposed: false };
    try {
      for (let i = 0; i < values.length; ++i) values[i] = fromNativeValue(values[i]);
      const result = currentHookCall.run(hook, call, ...(values as Value[]));
      if (isThenable(result)) {
        // Any thenable will do, whatever its `then` returns; what it begins belongs to the hook as well.
        const promise = currentHookCall.run(hook, () => Promise.resolve(result));
        notePending(owner, promise);
        return (settle) => {
          promise
            .then((value) => answer(hook, value))
            .then(
              (value) => settle(0, value?.[1]),
              (error) => {
                hook.over = true;
                settle({ thrown: error });
              },
            );
        };
      }
      return answer(hook, result);
    } catch (error) {
      hook.over = true;
      return [{ thrown: error }];
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

/** Whether a value is to be awaited: a promise, or anything else with a `then`. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return value !== null && typeof value === 'object' && typeof (value as { then?: unknown }).then === 'function';
}

/** Awaits the calls of hooks on a model that are under way, also those whose run doesn't wait any more. False where there are none. */
export async function hooksOver(model: HookOwner): Promise<boolean> {
  const calls = [...pending].filter(([owner]) => model.members.has(owner)).flatMap(([, promises]) => [...promises]);
  await Promise.all(calls);
  return calls.length > 0;
}

/**
 * A registered hook. It stays until it is removed, or its model is disposed; a handle that is collected removes nothing.
 *
 * @example
 * using handle = model.registerForwardHook('encoder', (module, input, output) => console.log(module.type, output));
 * await model.forward([ids]);
 * console.log(handle.calls);
 */
export class RemovableHandle {
  readonly #native: NativeHook;
  readonly #kind: HookKind;
  readonly #path: string;
  #remove: (() => void) | undefined;

  private constructor(native: NativeHook, kind: HookKind, path: string, remove: () => void) {
    if (!(native instanceof binding().NativeHook)) {
      throw invalid('what a model made (see registerForwardHook)', 'the hook of a RemovableHandle', native);
    }
    this.#native = native;
    this.#kind = kind;
    this.#path = path;
    this.#remove = remove;
  }

  /** @internal The handle of a hook on the module at `path`; `remove` takes it off. */
  static of(native: NativeHook, kind: HookKind, path: string, remove: () => void): RemovableHandle {
    return new RemovableHandle(native, kind, path, remove);
  }

  /**
   * How often the hook has fired, in all runs since it was registered. It stays as it is when the hook is removed.
   *
   * @example
   * const handle = model.registerForwardPreHook('encoder', () => {});
   * await model.forward([ids]);
   * if (handle.calls === 0) console.log('the run did not come to the encoder');
   */
  get calls(): number {
    return this.#native.calls();
  }

  /**
   * Removes the hook at once, also for runs under way, also from inside itself. May be called twice.
   *
   * @example
   * const handle = model.registerForwardHook('encoder', (_module, _input, output) => {
   *   handle.remove(); // the first call only
   *   console.log(output);
   * });
   */
  remove(): void {
    this.#remove?.();
    this.#remove = undefined;
  }

  /**
   * What `using` calls: `remove()`.
   *
   * @example
   * using handle = model.registerForwardHook('encoder', () => {});
   */
  [Symbol.dispose](): void {
    this.remove();
  }

  /** @internal What `console.log` and `util.inspect` show of it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    if (depth < 0) return '[RemovableHandle]';
    const { calls } = this;
    const description = { kind: this.#kind, path: this.#path, calls, removed: this.#remove === undefined };
    return `RemovableHandle ${inspect(description, options)}`;
  }
}
