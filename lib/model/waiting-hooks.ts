import { AsyncLocalStorage } from 'node:async_hooks';
import { TorchError } from '../core/errors';

// Which hooks run, and what waits for them: code in a hook must not wait for the run that waits for it.

/** What hooks need of the model that they sit on. */
export interface HookOwner {
  /** The model and all models that it is made of: their hooks fire in its runs, and it is locked together with them. */
  readonly members: ReadonlySet<HookOwner>;
}

/** One call of a hook: its model waits until it is over. */
export interface HookCall {
  readonly owner: HookOwner;
  over: boolean;
  /** Whether the hook has disposed its model. */
  disposed: boolean;
}

/** The call of a hook that the current code was begun in, however asynchronously. */
export const currentHookCall = new AsyncLocalStorage<HookCall>();

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

/** What is done with a model: a run, a change of its parameters, which comes after the runs in flight, or waiting for the end of all. */
type Operation = 'run' | 'change' | 'wait';

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

/** Notes that a hook on `owner` is under way until `promise` settles. */
export function notePending(owner: HookOwner, promise: Promise<unknown>): void {
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

/** How many runs block the current thread: the last of them in a hook of the one before it, and so on. */
let blocking = 0;

/** Whether hooks that are called now are called by a run that can't wait for what they promise. */
export const isBlocking = (): boolean => blocking > 0;

/** Runs a model on the current thread, so that its hooks know which other hooks wait for them. */
export function blockingHooks<Result>(model: HookOwner, call: () => Result): Result {
  for (const { operation, model: changing } of inFlight) {
    if (operation !== 'change' || !share(model, changing)) continue;
    throw new TorchError(
      'ERR_MODEL_RUN',
      'Expected a model whose parameters stay as they are but its parameters are being moved or loaded, which needs the ' +
        'event loop that a run of forwardSync blocks: await that before',
    );
  }
  const entry = { operation: 'run', model, caller: enclosingHook() } as const;
  inFlight.add(entry);
  blocking++;
  try {
    return call();
  } finally {
    blocking--;
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
          : operation === 'change'
            ? 'change its parameters before or after the run'
            : 'wait for it outside of the hook'),
    );
  }
}

/** Awaits the calls of hooks on a model that are under way, also those whose run doesn't wait any more. False where there are none. */
export async function hooksOver(model: HookOwner): Promise<boolean> {
  const calls = [...pending].filter(([owner]) => model.members.has(owner)).flatMap(([, promises]) => [...promises]);
  await Promise.all(calls);
  return calls.length > 0;
}
