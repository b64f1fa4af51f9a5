import { type Attention, type AttentionSite, type CaptureOptions, fromNativeSite, toNativeCapture } from './attention';
import { AttentionStream } from './attention-stream';
import { binding, fromNative, type NativeScriptModule, native } from './binding';
import { type CapturedInput, type CaptureManyOptions, captureMany } from './capture-many';
import { fromNativeCapture } from './captured';
import { checkNotInOwnHook, isInsideHook } from './hooks';
import { Model } from './model';
import { checkDType, type Device, type DType } from './tensor';
import { options as checkOptions, invalid, optionalBoolean, optionalSignal, optionalString } from './validate';
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

function checkInputs(inputs: unknown): unknown[] {
  if (!Array.isArray(inputs)) throw invalid('an array with one element for each parameter', 'inputs', inputs);
  return inputs.map(toNative);
}

/**
 * A TorchScript checkpoint, ready to run.
 *
 * Runs happen on threads of the addon's own; several may be under way at once. The model is in evaluation mode.
 */
export class ScriptModule extends Model<NativeScriptModule> {
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
    const checkedSignal = optionalSignal(signal);
    const output = await this.withHooks(grad ?? false, () =>
      this.cancellable(checkedSignal, (cancellation) =>
        this.native.run(handles, {
          method: method ?? 'forward',
          grad: grad ?? false,
          insideHook: isInsideHook(),
          cancellation,
        }),
      ),
    );
    return fromNativeValue(output);
  }

  /** Names of the methods that `forward` can run. */
  methods(): string[] {
    return native(() => this.native.methods());
  }

  /** What a method takes and gives. Default: `'forward'`. */
  signature(method = 'forward'): Signature {
    optionalString(method, 'method');
    return native(() => this.native.signature(method));
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
    const { capture, signal } = toNativeCapture(options, () => this.moduleNames());
    checkNotInOwnHook(this);
    const { attentions } = await this.cancellable(signal, (cancellation) =>
      this.native.capture(handles, { ...capture, sitesOnly: true, insideHook: isInsideHook(), cancellation }),
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
    const { capture, signal } = toNativeCapture(options, () => this.moduleNames());
    checkNotInOwnHook(this);
    if (options?.onAttention) capture.onAttention = this.handOver(options.onAttention);
    const result = await this.cancellable(signal, (cancellation) =>
      this.native.capture(handles, { ...capture, insideHook: isInsideHook(), cancellation }),
    );
    return await fromNativeCapture(result, fromNativeValue, options?.gradientOf, signal);
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
}
