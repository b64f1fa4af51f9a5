import { type InspectOptions, inspect } from 'node:util';
import { binding, type NativeHook } from '../core/binding';
import { invalid } from '../core/validate';
import type { HookKind } from './hooks';

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
  readonly #kind: HookKind | 'node';
  readonly #path: string;
  #remove: (() => void) | undefined;

  private constructor(native: NativeHook, kind: HookKind | 'node', path: string, remove: () => void) {
    if (!(native instanceof binding().NativeHook)) {
      throw invalid('what registerForwardHook and its like make', 'the hook of a RemovableHandle', native);
    }
    this.#native = native;
    this.#kind = kind;
    this.#path = path;
    this.#remove = remove;
  }

  /** @internal The handle of a hook on the module at `path`; `remove` takes it off. */
  static of(native: NativeHook, kind: HookKind | 'node', path: string, remove: () => void): RemovableHandle {
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
   * @throws Nothing.
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
   * @throws Nothing.
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
