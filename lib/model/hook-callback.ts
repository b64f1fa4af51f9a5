import type { NativeCallback } from '../core/binding';
import { TorchError } from '../core/errors';
import { isThenable } from '../core/thenable';
import { fromNativeValue, toNative, type Value } from '../core/value';
import type { HookedModule, HookedNode, HookKind, NodeHook } from './hooks';
import { currentHookCall, type HookCall, type HookOwner, isBlocking, notePending } from './waiting-hooks';

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
        if (isBlocking()) {
          throw new TorchError(
            'ERR_HOOK_FAILED',
            'Expected a result, since forwardSync blocks the event loop that a promise needs, but received a promise: use forward',
          );
        }
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

/** What the addon calls for a hook on a node, in a scope of its own as `hookCallback`. */
export function nodeCallback<Output extends Value>(
  owner: HookOwner,
  node: HookedNode,
  hook: NodeHook<Output>,
): NativeCallback {
  return waitedFor(owner, (_inputs, output) => hook(node, output as Output));
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
