import type { CapturingModel } from '../capture/capturing-model';
import { type NativeHook, native } from '../core/binding';
import { TorchError } from '../core/errors';
import type { Tensor } from '../core/tensor';
import { type Awaitable, isThenable } from '../core/thenable';
import { elements, invalid, isCallable, reading, shown } from '../core/validate';
import { fromNativeValue, type Value } from '../core/value';
import { type AtPath, HookableModel, type HookInputOf, type HookOutputOf } from './hookable-model';
import type { FullBackwardHook, HookedModule, HookKind, HookRecord } from './hooks';
import type { RemovableHandle } from './removable-handle';

/**
 * What maps the inputs and the output of a module to what is stored of them.
 *
 * @inline
 */
type ForwardRecorder<Input, Output> = (
  module: HookedModule,
  input: Input,
  output: Output,
) => Awaitable<[Value[], Value]>;

/**
 * What maps the inputs of a module to what is stored of them.
 *
 * @inline
 */
type ForwardPreRecorder<Input> = (module: HookedModule, input: Input) => Awaitable<Value[]>;

interface Entry {
  readonly kind: HookKind;
  readonly path: string;
  readonly handle: RemovableHandle;
  /** What is recorded natively; read when asked for. */
  readonly native: NativeHook | undefined;
  /** What a function of the caller's has mapped. */
  mapped: HookRecord | undefined;
  /** The last reading, and the number of calls it belongs to. */
  read: { calls: number; record: HookRecord } | undefined;
}

function tuple(result: unknown, length: number, what: string): unknown[] {
  const expected = `an array of ${length} values to store`;
  const values = elements(result, expected, what, (value) => value);
  if (values.length !== length) throw invalid(expected, what, result);
  return values;
}

/**
 * Records what passes the modules of a model under unique names.
 *
 * Without `fn`, values stay native: nothing crosses to JavaScript during a run, and tensors become typed arrays only
 * where they are read. With `fn`, what it returns is stored.
 *
 * @example
 * const hooked = new HookedModel(model);
 * hooked.setForwardHook('first', 'encoder.layer.0');
 * await model.forward([ids]);
 * console.log(hooked.hooks.get('first')?.output);
 */
export class HookedModel<Hooked extends CapturingModel = CapturingModel> {
  /**
   * The model whose modules are recorded.
   *
   * @example
   * await new HookedModel(model).model.forward([ids]);
   */
  readonly model: Hooked;
  readonly #entries = new Map<string, Entry>();

  /**
   * @param model A `ScriptModule`, an `ExportedProgram` or a module of `nn`.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for what is no model.
   */
  constructor(model: Hooked) {
    const isHookable = reading(
      'model',
      () =>
        HookableModel.is(model) ||
        (!((model as unknown) instanceof HookableModel) &&
          typeof (model as Partial<CapturingModel> | null)?.addHook === 'function'),
    );
    if (!isHookable) throw invalid('a ScriptModule, an ExportedProgram or a module of nn', 'model', model);
    this.model = model;
  }

  /**
   * The records by name, as they are now; names whose hooks haven't fired yet are left out.
   *
   * @throws TorchError `ERR_MODEL_RUN` for a value that is too deep or too large to be had in JavaScript.
   *
   * @example
   * const { hooks } = new HookedModel(model);
   * for (const [name, { input }] of hooks) console.log(name, input.length);
   */
  get hooks(): ReadonlyMap<string, HookRecord> {
    const records = new Map<string, HookRecord>();
    for (const [name, entry] of this.#entries) {
      const record = this.#record(entry);
      if (record) records.set(name, record);
    }
    return records;
  }

  /**
   * Records input and output of the module at `path`.
   *
   * @param name Under which it is recorded; each is used once.
   * @param path The dotted name of a module, as `modules()` lists it; `''` is the model itself.
   * @param fn Gets (module, input, output) and returns `[input, output]` as they are to be stored.
   * @returns What takes the hook off; the record stays until `delHook`.
   * @throws TorchError `ERR_HOOK_NAME_IN_USE`, `ERR_UNKNOWN_MODULE`, `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * const hooked = new HookedModel(model);
   * hooked.setForwardHook('mean', 'encoder', (_module, [x]: [Tensor], output: Tensor) => [[x], output.mean(1)]);
   */
  setForwardHook<Input extends Value[] = Value[], Output extends Value = Value, Path extends string = string>(
    name: string,
    path: Path,
    fn?: AtPath<Path, ForwardRecorder<HookInputOf<Hooked>, HookOutputOf<Hooked>>, ForwardRecorder<Input, Output>>,
  ): RemovableHandle {
    return this.#set(name, 'forward', path, fn, (entry, result) => {
      const [input, output] = tuple(result, 2, `the result of forward hook '${name}'`);
      entry.mapped = { input: input as Value[], output: output as Value };
    });
  }

  /**
   * Records the input of the module at `path`.
   *
   * @param name Under which it is recorded; each is used once.
   * @param path The dotted name of a module, as `modules()` lists it; `''` is the model itself.
   * @param fn Gets (module, input) and returns the input as it is to be stored.
   * @returns What takes the hook off; the record stays until `delHook`.
   * @throws TorchError as `setForwardHook`.
   *
   * @example
   * const hooked = new HookedModel(model);
   * hooked.setForwardPreHook('tokens', 'encoder', (_module, [x]: [Tensor]) => [x.narrow(1, 0, 1)]);
   */
  setForwardPreHook<Input extends Value[] = Value[], Path extends string = string>(
    name: string,
    path: Path,
    fn?: AtPath<Path, ForwardPreRecorder<HookInputOf<Hooked>>, ForwardPreRecorder<Input>>,
  ): RemovableHandle {
    return this.#set(name, 'pre', path, fn, (entry, result) => {
      if (!Array.isArray(result))
        throw invalid('an array to store', `the result of forward pre-hook '${name}'`, result);
      entry.mapped = { input: result };
    });
  }

  /**
   * Records the gradients of the inputs and outputs of the module at `path`, from runs with `{ grad: true }`.
   *
   * @param name Under which it is recorded; each is used once.
   * @param path The dotted name of a module, as `modules()` lists it; `''` is the model itself.
   * @param fn Gets (module, gradInput, gradOutput) and returns `[gradInput, gradOutput]` as they are to be stored; this
   *   gradInput also goes on in the backward pass.
   * @returns What takes the hook off; the record stays until `delHook`.
   * @throws TorchError as `setForwardHook`.
   *
   * @example
   * const hooked = new HookedModel(model);
   * hooked.setBackwardHook('gradients', 'encoder');
   * await ((await model.forward([ids], { grad: true })) as Tensor).sum().backward();
   * const gradients = hooked.hooks.get('gradients')?.input as (Tensor | null)[];
   */
  setBackwardHook(
    name: string,
    path: string,
    fn?: (...args: Parameters<FullBackwardHook>) => Awaitable<[(Tensor | null)[], (Tensor | null)[]]>,
  ): RemovableHandle {
    return this.#set(name, 'backward', path, fn, (entry, result) => {
      const [input, output] = tuple(result, 2, `the result of backward hook '${name}'`);
      entry.mapped = { input: input as Value[], output: output as Value[] };
      return input;
    });
  }

  /**
   * Removes a hook and what it recorded.
   *
   * @param name Of a record that was set.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for a name that isn't in use.
   *
   * @example
   * const hooked = new HookedModel(model);
   * hooked.setForwardHook('first', 'encoder');
   * hooked.delHook('first');
   */
  delHook(name: string): void {
    const entry = this.#entries.get(name);
    if (!entry) {
      const names = [...this.#entries.keys()].map((each) => `'${each}'`).join(', ');
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected the name of a hook (${names || 'there is none'}) but received ${shown(name)}`,
      );
    }
    entry.handle.remove();
    this.#entries.delete(name);
  }

  #set(
    name: string,
    kind: HookKind,
    path: string,
    fn: unknown,
    store: (entry: Entry, result: unknown) => unknown,
  ): RemovableHandle {
    if (typeof name !== 'string' || name === '') throw invalid('a string of at least one character', 'name', name);
    if (fn !== undefined && !isCallable(fn)) throw invalid('a function', 'fn', fn);
    if (this.#entries.has(name)) {
      throw new TorchError('ERR_HOOK_NAME_IN_USE', `Expected a name that no hook has yet but received '${name}'`);
    }
    let entry: Entry | undefined;
    const hook =
      fn &&
      ((module: HookedModule, ...values: never[]): unknown => {
        const keep = (result: unknown): unknown => entry && store(entry, result);
        const result = (fn as (...values: unknown[]) => unknown)(module, ...values);
        return isThenable(result) ? Promise.resolve(result).then(keep) : keep(result);
      });
    const { handle, native: recorder } = this.model.addHook(kind, path, hook);
    entry = { kind, path, handle, native: fn ? undefined : recorder, mapped: undefined, read: undefined };
    this.#entries.set(name, entry);
    return handle;
  }

  #record(entry: Entry): HookRecord | undefined {
    if (!entry.native) return entry.mapped;
    const { native: recorder } = entry;
    const calls = recorder.calls();
    if (entry.read?.calls === calls) return entry.read.record;
    const raw = native(() => recorder.record());
    if (!raw) return undefined;
    const output = raw.output && (fromNativeValue(raw.output) as Value[]);
    const record = this.model.recordOf(entry.kind, entry.path, fromNativeValue(raw.input) as Value[], output);
    entry.read = { calls, record };
    return record;
  }
}
