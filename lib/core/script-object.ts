import { binding, type NativeScriptObject, native } from './binding';
import { invalid } from './validate';

/**
 * A value of a model that JavaScript has no form for: an object of a TorchScript class, a complex number. It can be kept
 * and given back to the model that it is of, unchanged: as what a hook returns, or as an input. Made by models only.
 *
 * @example
 * const state = await model.forward([ids], { method: 'start' });
 * if (state instanceof ScriptObject) await model.forward([ids, state], { method: 'step' });
 */
export class ScriptObject {
  readonly #native: NativeScriptObject;
  /** @internal Makes it equal to itself alone, and has `structuredClone` refuse it. */
  readonly identity = Symbol('ScriptObject');
  /**
   * Its type by the name that TorchScript has for it: `'__torch__.ImageList'`, `'complex'`.
   *
   * @example
   * const output = await model.forward([ids]);
   * if (output instanceof ScriptObject) console.log(output.type);
   */
  readonly type: string;

  private constructor(handle: NativeScriptObject) {
    if (!isObjectHandle(handle)) throw invalid('what a model gives', 'the handle of a ScriptObject', handle);
    this.#native = handle;
    this.type = native(() => handle.type());
    Object.freeze(this);
  }

  /** @internal The object that the addon gave, as users get it. */
  static of(handle: NativeScriptObject): ScriptObject {
    return new ScriptObject(handle);
  }

  /** @internal Whether a value is one: by what it is, not by its prototype. */
  static is(value: unknown): value is ScriptObject {
    return typeof value === 'object' && value !== null && #native in value;
  }

  /** @internal */
  static handle(object: ScriptObject): NativeScriptObject {
    return object.#native;
  }
}

/** Whether a value that the addon gave is one without a form in JavaScript. */
export function isObjectHandle(value: unknown): value is NativeScriptObject {
  return value instanceof binding().NativeScriptObject;
}
