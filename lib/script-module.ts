import {
  type Attention,
  type AttentionSite,
  type CaptureOptions,
  fromNativeAttention,
  fromNativeSite,
  toNativeCapture,
  unknownModule,
} from './attention';
import { AttentionStream } from './attention-stream';
import {
  binding,
  fromNative,
  isCancelled,
  type NativeCancellation,
  type NativeHook,
  type NativeScriptModule,
  type NativeTensor,
  native,
} from './binding';
import { type CapturedInput, type CaptureManyOptions, captureMany } from './capture-many';
import { TorchError } from './errors';
import {
  checkNotInOwnHook,
  type ForwardHook,
  type ForwardPreHook,
  type FullBackwardHook,
  type HookedModule,
  hookFunction,
  isInsideHook,
  RemovableHandle,
  runWaitedFor,
} from './hooks';
import { checkDType, type Device, type DType, fromHandle, handleOf, type Tensor } from './tensor';
import { options as checkOptions, invalid, optionalBoolean, optionalSignal, optionalString } from './validate';
import { fromNativeValue, toNative, type Value } from './value';

/** Where a hook stands: ahead of a module, behind it, or in the backward pass. */
export type HookKind = 'pre' | 'forward' | 'backward';

export interface LoadOptions {
  /** Where the parameters go. Default `'cpu'`. */
  device?: Device;
  /** Casts floating-point parameters and buffers. Trades bits for speed; default: as saved. */
  dtype?: DType;
  /** Freezes the model and optimizes it for inference: faster, other last bits, module names are lost. Default false. */
  optimize?: boolean;
}

export interface ForwardOptions {
  /** The method to run. Default `'forward'`. */
  method?: string;
  /** Records what `backward` needs. Default false. */
  grad?: boolean;
  /** Rejects the call with the signal's reason. */
  signal?: AbortSignal;
}

/** What a method takes and gives, in TorchScript's type names. */
export interface Signature {
  parameters: { name: string; type: string; optional: boolean }[];
  returns: string;
}

/**
 * Awaits a native call that may be stopped: an aborted signal rejects at once with its reason, while the run winds down
 * on its own thread.
 */
async function cancellable<Result>(
  signal: AbortSignal | undefined,
  call: (cancellation: NativeCancellation | undefined) => Promise<Result>,
): Promise<Result> {
  try {
    if (!signal) return await call(undefined);
    signal.throwIfAborted();
    const cancellation = new (binding().NativeCancellation)();
    let abort = () => {};
    const aborted = new Promise<never>((_, reject) => {
      abort = () => {
        cancellation.request();
        reject(signal.reason);
      };
      signal.addEventListener('abort', abort, { once: true });
    });
    try {
      return await Promise.race([call(cancellation), aborted]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  } catch (error) {
    if (signal && isCancelled(error)) throw signal.reason;
    throw fromNative(error);
  }
}

function checkInputs(inputs: unknown): unknown[] {
  if (!Array.isArray(inputs)) throw invalid('an array with one element for each parameter', 'inputs', inputs);
  return inputs.map(toNative);
}

/**
 * A TorchScript checkpoint, ready to run.
 *
 * Runs happen on threads of the addon's own; several may be under way at once. The model is in evaluation mode.
 */
export class ScriptModule {
  readonly #native: NativeScriptModule;
  #disposed = false;
  /** Registered hooks that haven't fired yet, and what to call them in a warning. */
  readonly #silent = new Map<NativeHook, string>();

  private constructor(handle: NativeScriptModule) {
    this.#native = handle;
  }

  /**
   * Loads what `torch.jit.save` wrote.
   *
   * @param source A path, or the bytes of the file.
   * @throws TorchError `ERR_MODEL_LOAD` where it is no TorchScript archive, `ERR_DEVICE_UNAVAILABLE`,
   *   `ERR_LIBTORCH_NOT_FOUND` and the like where libtorch is missing.
   */
  static async load(source: string | Uint8Array, options?: LoadOptions): Promise<ScriptModule> {
    const { device, dtype, optimize } = checkOptions(options, ['device', 'dtype', 'optimize'], 'the options of load');
    if (typeof source !== 'string' && !(source instanceof Uint8Array)) {
      throw invalid('a path or a Uint8Array', 'source', source);
    }
    optionalString(device, 'device');
    checkDType(dtype, 'dtype');
    optionalBoolean(optimize, 'optimize');
    try {
      const handle = await binding().NativeScriptModule.load(source, {
        device: device ?? 'cpu',
        ...(dtype === undefined ? {} : { dtype }),
        optimize: optimize ?? false,
      });
      return new ScriptModule(handle);
    } catch (error) {
      throw fromNative(error);
    }
  }

  /**
   * Runs the model.
   *
   * @param inputs One value for each parameter of the method, in order; parameters with defaults may be left out at the end.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where the inputs don't fit the method's signature, `ERR_MODEL_RUN` where the
   *   model fails, `ERR_DISPOSED`; the signal's reason where it was aborted.
   */
  async forward(inputs: readonly Value[], options?: ForwardOptions): Promise<Value> {
    const { method, grad, signal } = checkOptions(options, ['method', 'grad', 'signal'], 'the options of forward');
    const handles = checkInputs(inputs);
    optionalString(method, 'method');
    optionalBoolean(grad, 'grad');
    checkNotInOwnHook(this);
    const expected = [...this.#silent.keys()];
    const output = await this.#cancellable(optionalSignal(signal), (cancellation) =>
      this.#native.run(handles, {
        method: method ?? 'forward',
        grad: grad ?? false,
        insideHook: isInsideHook(),
        cancellation,
      }),
    );
    this.#reportSilent(expected, grad ?? false);
    return fromNativeValue(output);
  }

  /** Names and types of all modules, as Python's `named_modules()` gives them; `''` is the model itself. */
  modules(): { name: string; type: string }[] {
    return native(() => this.#native.modules());
  }

  /** All parameters by dotted name, as Python's `named_parameters()`. The tensors are the model's own. */
  namedParameters(): { name: string; tensor: Tensor }[] {
    return native(() => this.#native.parameters()).map(({ name, tensor }) => ({ name, tensor: fromHandle(tensor) }));
  }

  /** Names of the methods that `forward` can run. */
  methods(): string[] {
    return native(() => this.#native.methods());
  }

  /** What a method takes and gives. Default: `'forward'`. */
  signature(method = 'forward'): Signature {
    optionalString(method, 'method');
    return native(() => this.#native.signature(method));
  }

  /**
   * Runs the model once and says which attentions `captureAttention` would record for these inputs, without recording
   * them.
   *
   * @throws TorchError as `forward`; `ERR_NO_ATTENTION` where the model computes none.
   */
  async attentionSites(
    inputs: readonly Value[],
    options?: { method?: string; signal?: AbortSignal },
  ): Promise<AttentionSite[]> {
    checkOptions(options, ['method', 'signal'], 'the options of attentionSites');
    const handles = checkInputs(inputs);
    const { capture, signal } = toNativeCapture(options, () => this.#moduleNames());
    checkNotInOwnHook(this);
    const { attentions } = await this.#cancellable(signal, (cancellation) =>
      this.#native.capture(handles, { ...capture, sitesOnly: true, insideHook: isInsideHook(), cancellation }),
    );
    return attentions.map(fromNativeSite);
  }

  /**
   * Runs the model and records the weights of its attentions. The output is the same bits as `forward`'s.
   *
   * @throws TorchError as `forward`; `ERR_NO_ATTENTION` where the model computes none, `ERR_UNKNOWN_MODULE` for a layer
   *   that isn't there or computes none, `ERR_CAPTURE_TOO_LARGE` beyond `maxBytes`.
   */
  async captureAttention(
    inputs: readonly Value[],
    options?: CaptureOptions,
  ): Promise<{ output: Value; attentions: Attention[] }> {
    const handles = checkInputs(inputs);
    const { capture, signal } = toNativeCapture(options, () => this.#moduleNames());
    checkNotInOwnHook(this);
    const take = options?.onAttention;
    if (take) {
      capture.onAttention = hookFunction(this, async (_module: HookedModule, attention: Attention): Promise<void> => {
        await take(attention);
      });
    }
    const result = await this.#cancellable(signal, (cancellation) =>
      this.#native.capture(handles, { ...capture, insideHook: isInsideHook(), cancellation }),
    );
    const output = fromNativeValue(result.output);
    const attentions = result.attentions.map(fromNativeAttention);
    if (result.gradients && options?.gradientOf) {
      const scalar = handleOf(await options.gradientOf(output), 'the result of gradientOf');
      const { shape, requiresGrad } = fromHandle(scalar);
      if (shape.reduce((product, size) => product * size, 1) !== 1 || !requiresGrad) {
        throw new TorchError(
          'ERR_INVALID_ARGUMENT',
          'Expected a tensor with one element that was computed from the output for the result of gradientOf but ' +
            `received one of shape [${shape.join(', ')}]${requiresGrad ? '' : ' that takes no part in gradients'}`,
        );
      }
      try {
        const gradients = await result.gradients.of(scalar);
        for (const [i, attention] of attentions.entries())
          attention.gradient = fromHandle(gradients[i] as NativeTensor);
      } catch (error) {
        throw fromNative(error);
      }
    }
    return { output, attentions };
  }

  /**
   * The same as an async iterable of the attentions, each as soon as it exists: the model waits while one is looked at, and
   * no more than one is held. Leaving the loop early stops the run.
   *
   * @returns An iterable, to be gone through once; its `output` resolves when the run is over and rejects as
   *   `captureAttention` (as the loop does).
   */
  captureAttentionStream(
    inputs: readonly Value[],
    options?: Omit<CaptureOptions, 'onAttention' | 'gradientOf'>,
  ): AttentionStream {
    return new AttentionStream(
      (onAttention, signal) => this.captureAttention(inputs, { ...options, onAttention, signal }),
      options?.signal,
    );
  }

  /**
   * Captures the attention of one input after the other, in order. The model works on the next input while the consumer
   * looks at a result; it never gets further ahead than `ahead` inputs.
   *
   * @param inputs What `captureAttention` takes, for each run.
   * @returns For each input its result, or the error that it failed with: one failing input doesn't end the stream.
   */
  captureMany(
    inputs: AsyncIterable<readonly Value[]> | Iterable<readonly Value[]>,
    options?: CaptureManyOptions,
  ): AsyncGenerator<CapturedInput, void, undefined> {
    return captureMany((input, each) => this.captureAttention(input, each), inputs, options);
  }

  /**
   * Runs the model until it is as fast as it gets: the first runs of a method, and of inputs of another rank, profile and
   * compile it.
   *
   * @param inputs Inputs like those to come.
   * @throws TorchError as `forward`.
   */
  async warmUp(inputs: readonly Value[], options?: ForwardOptions): Promise<void> {
    // The executor profiles one run and compiles in the next.
    for (let run = 0; run < 3; ++run) await this.forward(inputs, options);
  }

  /**
   * Calls `hook` ahead of the module at `path`, each time that it is called, in every run that begins from now on.
   *
   * Hooks run on the event loop while the model waits, in the order they were registered; they may be async. TorchScript
   * passes all arguments of a call by position, defaults included: `input` has one element for each parameter of the
   * module's forward. Where a hook sits below a layer that has a fused fast path (`nn.TransformerEncoderLayer`), that
   * layer takes its normal path, as in Python: results then differ in the last bits.
   *
   * @param path Dotted name as in `modules()`; `''` for the model itself.
   * @throws TorchError `ERR_UNKNOWN_MODULE`. A hook that doesn't fire in a run is reported once as a process warning
   *   (`HOOK_NOT_FIRED`); see also `RemovableHandle.calls`.
   */
  registerForwardPreHook(path: string, hook: ForwardPreHook): RemovableHandle {
    return this.#register('pre', path, hook);
  }

  /** Calls `hook` behind the module at `path` with its inputs and output; otherwise as `registerForwardPreHook`. */
  registerForwardHook(path: string, hook: ForwardHook): RemovableHandle {
    return this.#register('forward', path, hook);
  }

  /**
   * Calls `hook` in backward passes, once for each call of the module at `path` in a run with `{ grad: true }`, when the
   * gradients of its inputs are known; otherwise as `registerForwardPreHook`.
   */
  registerFullBackwardHook(path: string, hook: FullBackwardHook): RemovableHandle {
    return this.#register('backward', path, hook);
  }

  #register(
    kind: HookKind,
    path: string,
    hook: (module: HookedModule, ...values: never[]) => unknown,
  ): RemovableHandle {
    if (typeof hook !== 'function') throw invalid('a function', 'hook', hook);
    return this.addHook(kind, path, hook).handle;
  }

  /** @internal Puts a hook on a module: a function, or a native recorder where there is none. */
  addHook(
    kind: HookKind,
    path: string,
    hook: ((module: HookedModule, ...values: never[]) => unknown) | undefined,
  ): { handle: RemovableHandle; native: NativeHook } {
    if (typeof path !== 'string') throw invalid('the dotted name of a module', 'path', path);
    const names = this.#moduleNames();
    if (!names.includes(path)) throw unknownModule(path, names);
    const hookNative = native((addon) => {
      const created = new addon.NativeHook(kind, hook && hookFunction(this, hook));
      this.#native.addHook(path, created);
      return created;
    });
    this.#silent.set(hookNative, `${kind === 'pre' ? 'forward pre-' : `${kind} `}hook on '${path}'`);
    const remove = (): void => {
      this.#silent.delete(hookNative);
      native(() => this.#native.removeHook(path, hookNative));
    };
    return { handle: new RemovableHandle(hookNative, remove), native: hookNative };
  }

  /** Whether `dispose` was called. */
  get disposed(): boolean {
    return this.#disposed;
  }

  /** Warns, once for each, of hooks that a run should have reached and didn't. */
  #reportSilent(expected: NativeHook[], grad: boolean): void {
    for (const hook of expected) {
      const description = this.#silent.get(hook);
      if (description === undefined) continue;
      // A backward hook fires in the backward pass, which is still to come.
      if (hook.calls() === 0 && description.startsWith('backward')) {
        if (grad) this.#silent.delete(hook);
        continue;
      }
      this.#silent.delete(hook);
      if (hook.calls() > 0) continue;
      process.emitWarning(
        `The ${description} did not fire in this run: the module was not called in it (its parent may use its ` +
          'parameters directly or take another path, or the method runs without it)',
        { code: 'HOOK_NOT_FIRED' },
      );
    }
  }

  /** Moves the parameters to another device, after the runs under way. */
  async to(device: Device): Promise<void> {
    if (typeof device !== 'string') throw invalid('the name of a device', 'device', device);
    checkNotInOwnHook(this); // it would wait for the run that waits for the hook
    try {
      await this.#native.to(device);
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** Frees the model once the runs under way are over. May be called twice; every other use then throws `ERR_DISPOSED`. */
  dispose(): void {
    this.#disposed = true;
    this.#native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #cancellable<Result>(
    signal: AbortSignal | undefined,
    call: (cancellation: NativeCancellation | undefined) => Promise<Result>,
  ): Promise<Result> {
    return runWaitedFor(this, () => cancellable(signal, call));
  }

  #moduleNames(): string[] {
    return this.modules().map(({ name }) => name);
  }
}
