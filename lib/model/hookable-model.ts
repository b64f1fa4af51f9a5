import { type InspectOptions, inspect } from 'node:util';
import { unknownModule } from '../capture/capture-options';
import {
  fromNative,
  type NativeCallback,
  type NativeCancellation,
  type NativeHook,
  type NativeModel,
  native,
} from '../core/binding';
import { cancellable, type Stop } from '../core/cancellable';
import { type Device, fromHandle, type Tensor } from '../core/tensor';
import { invalid, isCallable } from '../core/validate';
import type { Value } from '../core/value';
import { hookCallback } from './hook-callback';
import type { ForwardHook, ForwardPreHook, FullBackwardHook, HookedModule, HookKind, HookRecord } from './hooks';
import { RemovableHandle } from './removable-handle';
import {
  blockingHooks,
  checkNotInOwnHook,
  type HookOwner,
  hooksOver,
  noteDisposed,
  waitedForByHooks,
} from './waiting-hooks';

/** Names what follows, which only the compiler sees. */
declare const hookTypes: unique symbol;

/** What a hook on the module at `Path` gets: on the model itself what is known of that, elsewhere what the hook says. */
export type AtPath<Path extends string, Root, Below> = [Path] extends [''] ? Root : Below;

/** What hooks on a model itself get as its inputs. */
export type HookInputOf<Hooked> = Hooked extends { readonly [hookTypes]?: readonly [infer Input, unknown] }
  ? Input extends readonly unknown[]
    ? Input
    : Value[]
  : Value[];

/** What hooks on a model itself get as its output. */
export type HookOutputOf<Hooked> = Hooked extends { readonly [hookTypes]?: readonly [unknown, infer Output] }
  ? Output
  : Value;

/** The inputs of a model as hooks on the model itself get them. */
export type HookInputs<Inputs extends readonly unknown[]> = { -readonly [Position in keyof Inputs]: Inputs[Position] };

/** The most hooks that a warning names. */
const MOST_UNFIRED_NAMED = 5;

/**
 * What every model has: modules, parameters, hooks, a device and an end. `HookInput` and `HookOutput` are what hooks on the
 * model itself get.
 */
export abstract class HookableModel<HookInput extends readonly unknown[] = Value[], HookOutput = Value> {
  /** @hidden */
  declare readonly [hookTypes]?: readonly [HookInput, HookOutput];
  /** @internal */
  protected readonly native: NativeModel;
  #disposed = false;
  /** Registered hooks that no run is known to have come to yet. */
  readonly #unfiredHooks = new Map<NativeHook, { kind: HookKind | 'node'; path: string }>();

  /** @internal */
  readonly members: ReadonlySet<HookOwner>;
  /** @internal Makes a model equal to itself alone, and has `structuredClone` refuse it. */
  readonly identity = Symbol('model');

  /** @internal `parts`: the models that this one shares with others, each of which may be used by itself. */
  protected constructor(handle: NativeModel, parts: readonly HookOwner[] = []) {
    if (typeof (handle as Partial<NativeModel> | null | undefined)?.addHook !== 'function') {
      throw invalid(
        'what the addon made (models are loaded, or made by the classes of nn)',
        'the handle of a model',
        handle,
      );
    }
    this.native = handle;
    this.members = new Set([this, ...parts.flatMap(({ members }) => [...members])]);
  }

  /** @internal Whether a value is a model: by what it is, not by its prototype. */
  static is(value: unknown): value is HookableModel {
    return typeof value === 'object' && value !== null && #disposed in value;
  }

  /** @internal The model in whose runs a hook on the module at `path` fires: this one, or one of its parts. */
  hookOwner(_path: string): HookOwner {
    return this;
  }

  /**
   * Names and types of all modules, as Python's `named_modules()` gives them: in its order, `''` being the model itself; a
   * module with several names stands under the first. Returns at once, also while the model runs.
   *
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * for (const { name, type } of model.modules()) console.log(name || '(the model)', type);
   */
  modules(): { name: string; type: string }[] {
    return native(() => this.native.modules());
  }

  /**
   * All parameters by dotted name, as Python's `named_parameters()`. The tensors are the model's own: they change when it does.
   * Returns at once, without a copy.
   *
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * for (const { name, tensor } of model.namedParameters()) console.log(name, tensor.shape);
   */
  namedParameters(): { name: string; tensor: Tensor }[] {
    return native(() => this.native.parameters()).map(({ name, tensor }) => ({ name, tensor: fromHandle(tensor) }));
  }

  /**
   * Parameters and buffers by name, as Python's `state_dict()`: those of a module with several names under each of them. The
   * tensors are the model's own: they change when it does. Returns at once, without a copy.
   *
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * const state = model.stateDict();
   * console.log(Object.keys(state).length, state['encoder.layer.0.output.weight']?.shape);
   */
  stateDict(): Record<string, Tensor> {
    const state = native(() => this.native.stateDict());
    return Object.fromEntries(state.map(({ name, tensor }) => [name, fromHandle(tensor)]));
  }

  /**
   * Calls `hook` before the module at `path`, each time that it is called, in every run that begins from now on.
   *
   * Hooks run on the event loop while the model waits, in the order they were registered; they may be async. In
   * TorchScript `input` has one element for each parameter of the module's forward, defaults included; modules of `nn`
   * have their tensors there, not what has a name. Where a hook sits below a layer that has a fused fast path (`nn.TransformerEncoderLayer`), that
   * layer takes its normal path, as in Python: results then differ in the last bits.
   *
   * @param path Dotted name as in `modules()`; `''` for the model itself.
   * In TypeScript a hook on the model itself (`''`) gets what the model is typed with; others say what they get.
   *
   * Of a program of `torch.export` see `ExportedProgram.modules`, which says which modules take hooks.
   *
   * @throws TorchError `ERR_UNKNOWN_MODULE`, `ERR_NOT_HOOKABLE`, `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`. A hook that doesn't fire in a run is
   *   reported once, in one process warning for all of a run (`HOOK_NOT_FIRED`); see also `RemovableHandle.calls`. What a hook throws, or returns
   *   that is no value of the module's, ends the run with `ERR_HOOK_FAILED`.
   *
   * @example
   * const handle = model.registerForwardPreHook('encoder.layer.0.output', (_module, [x]: [Tensor]) => x.mul(2));
   * await model.forward([ids]);
   * handle.remove();
   */
  registerForwardPreHook<Input extends Value[] = Value[], Path extends string = string>(
    path: Path,
    hook: AtPath<Path, ForwardPreHook<HookInput>, ForwardPreHook<Input>>,
  ): RemovableHandle {
    return this.#register('pre', path, hook);
  }

  /**
   * Calls `hook` after the module at `path` with its inputs and output; otherwise as `registerForwardPreHook`.
   *
   * @throws TorchError as `registerForwardPreHook`.
   *
   * @example
   * const norms: number[] = [];
   * model.registerForwardHook('encoder', (_module, _input, output: Tensor) => {
   *   norms.push(Number(output.mul(output).sum().item()));
   * });
   * await model.forward([ids]);
   * console.log(norms.length); // 1
   */
  registerForwardHook<Input extends Value[] = Value[], Output extends Value = Value, Path extends string = string>(
    path: Path,
    hook: AtPath<Path, ForwardHook<HookInput, HookOutput>, ForwardHook<Input, Output>>,
  ): RemovableHandle {
    return this.#register('forward', path, hook);
  }

  /**
   * Calls `hook` in backward passes, once for each call of the module at `path` in a run with `{ grad: true }`, when the
   * gradients of its inputs are known; otherwise as `registerForwardPreHook`.
   *
   * @throws TorchError as `registerForwardPreHook`; what the hook throws ends the backward pass.
   *
   * @example
   * model.registerFullBackwardHook('encoder', (_module, gradInput) => gradInput.map((each) => each?.mul(0.5) ?? null));
   * const output = (await model.forward([ids], { grad: true })) as Tensor;
   * await output.sum().backward();
   */
  registerFullBackwardHook(path: string, hook: FullBackwardHook): RemovableHandle {
    return this.#register('backward', path, hook);
  }

  #register(kind: HookKind, path: string, hook: unknown): RemovableHandle {
    if (!isCallable(hook)) throw invalid('a function', 'hook', hook);
    return this.addHook(kind, path, hook as (module: HookedModule, ...values: never[]) => unknown).handle;
  }

  /** @internal Puts a hook on a module: a function, or a native recorder where there is none. */
  addHook(
    kind: HookKind,
    path: string,
    hook: ((module: HookedModule, ...values: never[]) => unknown) | undefined,
  ): { handle: RemovableHandle; native: NativeHook } {
    if (typeof path !== 'string') throw invalid('the dotted name of a module', 'path', path);
    const modules = this.modules();
    const module = modules.find(({ name }) => name === path);
    if (!module) {
      throw unknownModule(
        path,
        modules.map(({ name }) => name),
        "hooks can sit on the model itself (''), and files be hooked as they were before freezing",
      );
    }
    Object.freeze(module);
    return this.putHook(kind, path, path, hook && hookCallback(this.hookOwner(path), kind, module, hook));
  }

  /** @internal Puts a hook at a place, which the addon may have another name for. */
  protected putHook(
    kind: HookKind | 'node',
    path: string,
    place: string,
    callback: NativeCallback | undefined,
  ): { handle: RemovableHandle; native: NativeHook } {
    const hook = native((addon) => {
      const created = new addon.NativeHook(kind, callback, path);
      this.native.addHook(place, created);
      return created;
    });
    this.#unfiredHooks.set(hook, { kind, path });
    const remove = (): void => {
      this.#unfiredHooks.delete(hook);
      native(() => this.native.removeHook(place, hook));
    };
    return { handle: RemovableHandle.of(hook, kind, path, remove), native: hook };
  }

  /** @internal What was recorded of a module's last call, as hooks on it get it. */
  recordOf(kind: HookKind, _path: string, input: Value[], output: Value[] | undefined): HookRecord {
    if (!output) return { input };
    return { input, output: kind === 'backward' ? output : (output[0] ?? null) };
  }

  /**
   * Whether `dispose` was called.
   *
   * @example
   * if (!model.disposed) model.dispose();
   */
  get disposed(): boolean {
    return this.#disposed;
  }

  /** @internal Awaits a run of the model and looks whether it reached the hooks. */
  protected async withHooks<Result>(grad: boolean, run: () => Promise<Result>): Promise<Result> {
    checkNotInOwnHook('run', this);
    const expected = [...this.#unfiredHooks.keys()];
    const result = await run();
    this.#reportUnfired(expected, grad);
    return result;
  }

  /** @internal The same with a run that blocks. */
  protected withHooksNow<Result>(grad: boolean, run: () => Result): Result {
    checkNotInOwnHook('run', this);
    const expected = [...this.#unfiredHooks.keys()];
    const result = blockingHooks(this, run);
    this.#reportUnfired(expected, grad);
    return result;
  }

  /** Warns, once for each hook and in one warning for a run, of those that it should have reached and didn't. */
  #reportUnfired(expected: NativeHook[], grad: boolean): void {
    const unfired: string[] = [];
    for (const hook of expected) {
      const place = this.#unfiredHooks.get(hook);
      if (!place) continue;
      const { kind, path } = place;
      // A run without gradients says nothing about a backward hook.
      if (kind === 'backward' && !grad) continue;
      this.#unfiredHooks.delete(hook);
      if (hook.reached()) continue;
      if (kind === 'node') {
        process.emitWarning(
          `The hook on node '${path}' did not fire in this run: the graph that it is in was not run in it`,
          { code: 'HOOK_NOT_FIRED' },
        );
        continue;
      }
      unfired.push(`${kind === 'pre' ? 'forward pre-' : `${kind} `}hook on '${path}'`);
    }
    if (unfired.length === 0) return;
    const [first, ...others] = unfired;
    const more = others.slice(0, MOST_UNFIRED_NAMED - 1);
    const rest = others.length - more.length;
    const list = [first, ...more].join(', ') + (rest > 0 ? ` and ${rest} more` : '');
    process.emitWarning(
      `The ${list} ${others.length > 0 ? 'do not fire in this run: their modules were' : 'does not fire in this run: its module was'} not called in it` +
        `${unfired.some((each) => each.startsWith('backward')) ? ', or not with gradients' : ''} (a parent may use ` +
        'the parameters directly or take another path, or the method runs without them)',
      { code: 'HOOK_NOT_FIRED' },
    );
  }

  /**
   * Moves the parameters to another device, after the runs under way; those that begin meanwhile wait.
   *
   * @throws TorchError `ERR_DEVICE_UNAVAILABLE`, `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`; `ERR_MODEL_RUN` inside a hook that a
   *   run of the model waits for.
   *
   * @example
   * const [, gpu] = devices();
   * if (gpu) await model.to(gpu);
   */
  async to(device: Device): Promise<void> {
    if (typeof device !== 'string') throw invalid('the name of a device', 'device', device);
    await this.change(() => this.native.to(device));
  }

  /** @internal Awaits a change of the parameters. */
  protected async change(call: () => Promise<void>): Promise<void> {
    checkNotInOwnHook('change', this);
    try {
      await waitedForByHooks('change', this, call);
    } catch (error) {
      throw fromNative(error);
    }
  }

  /**
   * Resolves when nothing of this model runs any more: no run, capture or change that was begun, also one that was aborted,
   * nothing that it left running, and none of its hooks. Memory that inputs were lent by `copy: false` can then be used
   * again. Of what begins meanwhile it may wait for some. Works on a disposed model, too.
   *
   * @throws TorchError `ERR_MODEL_RUN` inside one of the model's own hooks, which would wait for itself.
   *
   * @example
   * const input = new BigInt64Array(new SharedArrayBuffer(8 * 4));
   * const signal = AbortSignal.timeout(1000);
   * try {
   *   await model.captureAttention([Tensor.from(input, { shape: [1, 4], copy: false })], { signal });
   * } finally {
   *   await model.settled(); // also after an abort
   *   input.fill(0n); // nothing reads it any more
   * }
   */
  async settled(): Promise<void> {
    checkNotInOwnHook('wait', this);
    await waitedForByHooks('wait', this, async () => {
      do {
        await this.native.settled();
      } while (await hooksOver(this));
    });
  }

  /**
   * Frees the model once the runs under way are over. May be called twice; every other use then throws `ERR_DISPOSED`.
   * Tensors of the model's that are still held stay valid.
   *
   * @example
   * model.dispose();
   * await model.settled();
   */
  dispose(): void {
    noteDisposed(this);
    this.#disposed = true;
    this.native.dispose();
  }

  /**
   * What `using` calls: `dispose()`.
   *
   * @example
   * using loaded = await ScriptModule.load('model.pt');
   */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal Awaits a run of the model that may be stopped. */
  protected cancellable<Result>(
    stop: Stop,
    call: (cancellation: NativeCancellation | undefined) => Promise<Result>,
  ): Promise<Result> {
    return waitedForByHooks('run', this, () => cancellable(stop, call));
  }

  /** @internal */
  protected moduleNames(): string[] {
    return this.modules().map(({ name }) => name);
  }

  /** What is shown of it; null once it is disposed. */
  #described(): { type: string | undefined; modules: number; parameters: number; device?: string } | null {
    if (this.#disposed) return null;
    const modules = this.modules();
    const parameters = this.namedParameters();
    const device = parameters[0]?.tensor.device;
    for (const { tensor } of parameters) tensor.dispose();
    const description = { type: modules[0]?.type, modules: modules.length, parameters: parameters.length };
    return device === undefined ? description : { ...description, device };
  }

  /**
   * What `JSON.stringify` writes of it, for logs: what `console.log` shows, null once it is disposed.
   *
   * @example
   * console.log(JSON.stringify({ model })); // {"model":{"type":"BertModel","modules":228,"parameters":199,"device":"cpu"}}
   */
  toJSON(): object | null {
    return this.#described();
  }

  /** @internal What `console.log` and `util.inspect` show of it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    const { name } = this.constructor;
    if (depth < 0) return `[${name}]`;
    const description = this.#described();
    return description ? `${name} ${inspect(description, options)}` : `${name} { (disposed) }`;
  }
}
