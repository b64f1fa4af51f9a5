import { fromNativeAttention, fromNativeSite, toNativeCapture, type Attention, type AttentionSite, type CaptureOptions } from './attention';
import { binding, fromNative, isCancelled, native, type NativeCancellation, type NativeScriptModule } from './binding';
import { checkDType, fromHandle, type Device, type DType, type Tensor } from './tensor';
import { invalid, optionalBoolean, optionalSignal, optionalString, options as checkOptions } from './validate';
import { fromNativeValue, toNative, type Value } from './value';

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
    const output = await cancellable(optionalSignal(signal), (cancellation) =>
      this.#native.run(handles, { method: method ?? 'forward', grad: grad ?? false, cancellation }),
    );
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
  async attentionSites(inputs: readonly Value[], options?: { method?: string; signal?: AbortSignal }): Promise<AttentionSite[]> {
    checkOptions(options, ['method', 'signal'], 'the options of attentionSites');
    const handles = checkInputs(inputs);
    const { capture, signal } = toNativeCapture(options, () => this.#moduleNames());
    const { attentions } = await cancellable(signal, (cancellation) =>
      this.#native.capture(handles, { ...capture, sitesOnly: true, cancellation }),
    );
    return attentions.map(fromNativeSite);
  }

  /**
   * Runs the model and records the weights of its attentions. The output is the same bits as `forward`'s.
   *
   * @throws TorchError as `forward`; `ERR_NO_ATTENTION` where the model computes none, `ERR_UNKNOWN_MODULE` for a layer
   *   that isn't there or computes none, `ERR_CAPTURE_TOO_LARGE` beyond `maxBytes`.
   */
  async captureAttention(inputs: readonly Value[], options?: CaptureOptions): Promise<{ output: Value; attentions: Attention[] }> {
    const handles = checkInputs(inputs);
    const { capture, signal } = toNativeCapture(options, () => this.#moduleNames());
    const { output, attentions } = await cancellable(signal, (cancellation) =>
      this.#native.capture(handles, { ...capture, cancellation }),
    );
    return { output: fromNativeValue(output), attentions: attentions.map(fromNativeAttention) };
  }

  /** Moves the parameters to another device, after the runs under way. */
  async to(device: Device): Promise<void> {
    if (typeof device !== 'string') throw invalid('the name of a device', 'device', device);
    try {
      await this.#native.to(device);
    } catch (error) {
      throw fromNative(error);
    }
  }

  /** Frees the model once the runs under way are over. May be called twice; every other use then throws `ERR_DISPOSED`. */
  dispose(): void {
    this.#native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #moduleNames(): string[] {
    return this.modules().map(({ name }) => name);
  }
}
