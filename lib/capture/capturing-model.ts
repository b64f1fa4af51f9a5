import { anySignal } from '../core/any-signal';
import type {
  NativeAttention,
  NativeCallback,
  NativeCancellation,
  NativeCapture,
  NativeCaptureOptions,
  NativeRunOptions,
} from '../core/binding';
import { cancellableNow, type Stop, stopOf } from '../core/cancellable';
import type { FloatingDType } from '../core/dtype';
import { TorchError } from '../core/errors';
import type { Inputs as ManyInputs } from '../core/inputs';
import { adopt } from '../core/realm';
import { RUN_LIMITS, type RunLimits } from '../core/run-limits';
import type { Tensor } from '../core/tensor';
import type { Unseen } from '../core/unseen';
import { options as checkOptions, optionalBoolean, optionalSignal, reading, refuseOption } from '../core/validate';
import { explainFailure } from '../model/explain-failure';
import { waitedFor } from '../model/hook-callback';
import { HookableModel } from '../model/hookable-model';
import { type DefaultLimits, withDefaults } from '../model/run-options';
import { isInsideHook } from '../model/waiting-hooks';
import {
  type Attention,
  type AttentionSite,
  type AttentionWithoutWeights,
  fromNativeSite,
  toAttention,
  type WithoutWeights,
} from './attention';
import { AttentionStream } from './attention-stream';
import { type CapturedInput, type CaptureManyOptions, captureMany } from './capture-many';
import { CAPTURE_OPTIONS, type CaptureOptions, toNativeCapture } from './capture-options';
import {
  type CapturedTensor,
  fromNativeTensorCapture,
  TENSOR_CAPTURE_OPTIONS,
  type TensorCaptureOptions,
  type TensorSelector,
  toNativeTensorCapture,
} from './capture-tensor';
import { fromNativeCapture } from './captured';
import type { StepCapture } from './generation';

type Given = Record<string, unknown>;

/** Names of the options of every forward. */
const RUN_OPTIONS = ['grad', ...RUN_LIMITS] as const;

/** The options of a capture that a stream of attentions doesn't take, and why. */
const NOT_IN_STREAMS = {
  onAttention: 'its loop is given each attention',
  gradientOf: 'gradients exist only once all attentions do (captureAttention returns both)',
};

/**
 * Options of `captureMany` with `weights: false`.
 *
 * @inline
 */
type ManyWithoutWeights<Output> = Omit<CaptureManyOptions<Output>, 'weights' | 'onAttention'> & {
  weights: false;
  onAttention?: (attention: AttentionWithoutWeights, index: number) => unknown;
};

/** The function of options whose model is known to return this. */
function gradientFunction<Output>(options: CaptureOptions<never>): CaptureOptions<Output>['gradientOf'] {
  return options.gradientOf as CaptureOptions<Output>['gradientOf'];
}

/** A forward whose arguments are checked, to be run with a capture: its inputs, and what the addon is told of its options. */
export interface PreparedForward {
  inputs: unknown[];
  options: NativeRunOptions;
}

/**
 * A model of any kind: a `ScriptModule`, or a module of `nn`. What all of them have: modules, parameters, hooks, a device, an
 * end, and attentions that can be captured. A function that takes a `Model` takes each of them, whatever it is typed with.
 *
 * Runs happen on threads of the addon's own and never block the event loop, except `forwardSync`; several of one model may
 * be under way at once (`setConcurrency`).
 *
 * `Inputs` is what its forward takes by position, `Output` what it returns, `CallOptions` are the options of its forward that
 * a capture takes beside its own; `HookInput` and `HookOutput` are what hooks on the model itself get.
 *
 * Captures have signatures without `CallOptions` beside those with them: what models of several kinds have in common, so that
 * one that may be of either (as `loadModel` gives it) is captured without asking which.
 *
 * @example
 * async function layerNames(any: Model, inputs: Value[]): Promise<string[]> {
 *   const sites = await any.attentionSites(inputs);
 *   return sites.map(({ name }) => name);
 * }
 */
export abstract class CapturingModel<
  // biome-ignore-start lint/suspicious/noExplicitAny: by default a model of any types, which any other one is assignable to
  Inputs extends readonly unknown[] = any,
  Output = unknown,
  CallOptions extends object = object,
  HookInput extends readonly unknown[] = any,
  HookOutput = any,
  // biome-ignore-end lint/suspicious/noExplicitAny: only there
> extends HookableModel<HookInput, HookOutput> {
  /** @internal Names of `CallOptions`. */
  protected abstract readonly callOptions: readonly string[];
  /** @internal What ends a run that names no limits of its own. */
  protected defaultLimits: DefaultLimits = {};

  /** @internal Checks what a forward is called with. */
  protected abstract prepare(inputs: unknown, options: Given): PreparedForward;

  /** @internal What the native forward gave, as users get it. */
  protected abstract convert(output: unknown): Output;

  /**
   * Runs the model once and says which attentions `captureAttention` would record for these inputs, without recording
   * them: about the cost of a forward.
   *
   * @param inputs What `forward` takes by position.
   * @param options Those of `forward` (for modules of `nn`: masks and flags), and the limits of the run.
   * @returns The sites in execution order; `unseen` of the array lists what looked like attention and can not be
   *   recorded.
   * @throws TorchError as `forward`; `ERR_NO_ATTENTION` where the model computes none.
   *
   * @example
   * for (const { index, name, operator, shape } of await model.attentionSites([ids])) console.log(index, name, operator, shape);
   */
  async attentionSites(
    inputs: Inputs,
    options?: CallOptions & RunLimits,
  ): Promise<AttentionSite[] & { unseen: Unseen[] }> {
    const { result } = await this.#capture(inputs, options, RUN_LIMITS, 'attentionSites', {
      sitesOnly: true,
    });
    return Object.assign(result.attentions.map(fromNativeSite), { unseen: result.unseen });
  }

  /**
   * Runs the model and records the weights of its attentions. The output is the same bits as `forward`'s, unless `exact` is false.
   *
   * @param inputs What `forward` takes by position.
   * @param options What the capture records, and the options of `forward` (for modules of `nn`: masks and flags).
   * @returns The output of the model, its attentions in execution order (none where `onAttention` took them), and
   *   what looked like attention and could not be recorded.
   * @throws TorchError as `forward`; `ERR_NO_ATTENTION` where the model computes none, `ERR_UNKNOWN_MODULE` for a layer
   *   that isn't there or computes none, `ERR_CAPTURE_TOO_LARGE` beyond `maxBytes`.
   *
   * @example
   * const { output, attentions } = await model.captureAttention([ids, mask], { layers: [/layer\.1\./], heads: [0, 3] });
   * for (const { name, weights } of attentions) console.log(name, weights.shape, output); // [B, 2, Q, K]
   */
  captureAttention(
    inputs: Inputs,
    options: CallOptions & WithoutWeights<CaptureOptions<Output>>,
  ): Promise<{ output: Output; attentions: AttentionWithoutWeights[]; unseen: Unseen[] }>;
  captureAttention(
    inputs: Inputs,
    options?: CallOptions & CaptureOptions<Output>,
  ): Promise<{ output: Output; attentions: Attention[]; unseen: Unseen[] }>;
  captureAttention(
    inputs: Inputs,
    options: WithoutWeights<CaptureOptions<Output>>,
  ): Promise<{ output: Output; attentions: AttentionWithoutWeights[]; unseen: Unseen[] }>;
  captureAttention(
    inputs: Inputs,
    options?: CaptureOptions<Output>,
  ): Promise<{ output: Output; attentions: Attention[]; unseen: Unseen[] }>;
  async captureAttention(
    inputs: Inputs,
    options?: object,
  ): Promise<{ output: Output; attentions: Attention[]; unseen: Unseen[] }> {
    const { result, given, stop } = await this.#capture(inputs, options, CAPTURE_OPTIONS, 'captureAttention', {});
    return await fromNativeCapture(result, (output) => this.convert(output), stop, gradientFunction(given));
  }

  /** @internal The same with the attentions asked for their weights, in this run alone. */
  async captureNeedingWeights(
    inputs: Inputs,
    options: CallOptions,
  ): Promise<{ output: Output; attentions: Attention[] }> {
    const { result, stop } = await this.#capture(inputs, options, [], 'forward', { needWeights: true });
    return await fromNativeCapture(result, (output) => this.convert(output), stop);
  }

  /** @internal One capture of several that belong together: layers may be missing from it. */
  protected async captureStep(
    inputs: Inputs,
    options: CallOptions & CaptureOptions<Output>,
  ): Promise<StepCapture<Output>> {
    const { result, given, stop } = await this.#capture(inputs, options, CAPTURE_OPTIONS, 'captureGeneration', {
      mayMiss: true,
    });
    const { missing = [], queries = 0 } = result;
    const convert = (output: unknown) => this.convert(output);
    return { ...(await fromNativeCapture(result, convert, stop, gradientFunction(given))), missing, queries };
  }

  /**
   * Runs the model and copies the results of operators as they are computed: any intermediate value, such as scores before the
   * softmax, router weights or a position bias. The output is bit-identical to `forward`'s. In-place operators that run later
   * don't change the copies.
   *
   * Only operators called by the model's own code can be selected, not those called by other operators: a fused encoder layer
   * is one operator. An operator with several outputs, or a list of tensors, has one entry per tensor (see `output`). Nested
   * tensors are padded with zeros, sparse tensors become dense, quantized tensors are dequantized.
   *
   * @param selector Selects values by module, operator and occurrence.
   * @param inputs What `forward` takes by position.
   * @param options Options of the results, and those of `forward`.
   * @returns The output and the values, in execution order.
   * @throws TorchError as `forward`; `ERR_UNKNOWN_MODULE` for a module that doesn't exist or calls no operator itself,
   *   `ERR_INVALID_ARGUMENT` if nothing matches (the message lists the operators that were called), `ERR_CAPTURE_TOO_LARGE`
   *   beyond `maxBytes`.
   *
   * @example
   * const { tensors } = await model.captureTensor({ module: /attention\.self$/, operator: 'matmul', occurrence: 0 }, [ids]);
   * for (const { name, tensor } of tensors) console.log(name, tensor.shape); // scores, before masks
   */
  async captureTensor(
    selector: TensorSelector,
    inputs: Inputs,
    options?: CallOptions & TensorCaptureOptions,
  ): Promise<{ output: Output; tensors: CapturedTensor[] }> {
    const { ofCall, ofCapture } = this.#split(options, TENSOR_CAPTURE_OPTIONS, 'captureTensor');
    const prepared = this.prepare(inputs, ofCall);
    const limited = withDefaults(ofCapture, this.defaultLimits);
    const { capture, stop } = toNativeTensorCapture(selector, limited, () => this.moduleNames());
    const result = await this.#run(false, prepared, stop, (handles, run) =>
      this.native.captureTensors(handles, { ...capture, ...run }),
    );
    return fromNativeTensorCapture(result, (output) => this.convert(output));
  }

  /** @internal What `forward` does with its inputs and its options. */
  protected async run(inputs: unknown, options: object | undefined): Promise<Output> {
    const { prepared, grad, stop } = this.#checkRun(inputs, options, 'forward');
    const { inputs: handles, options: form } = prepared;
    const output = await this.#running(grad, prepared, stop, (cancellation) =>
      this.native.run(handles, form, form.method, grad, isInsideHook(), cancellation),
    );
    return this.convert(output);
  }

  /** @internal What `forwardSync` does with them. */
  protected runSync(inputs: unknown, options: object | undefined): Output {
    const { prepared, grad, stop } = this.#checkRun(inputs, options, 'forwardSync');
    const { inputs: handles, options: form } = prepared;
    const output = this.withHooksNow(grad, () => {
      try {
        return cancellableNow(stop, (cancellation) =>
          this.native.runBlocking(handles, form, form.method, grad, false, cancellation),
        );
      } catch (error) {
        throw this.#explain(error, prepared);
      }
    });
    return this.convert(output);
  }

  /** Checks the inputs and the options of a run without a capture. */
  #checkRun(
    inputs: unknown,
    options: object | undefined,
    method: string,
  ): { prepared: PreparedForward; grad: boolean; stop: Stop } {
    const { ofCall, ofCapture: ofRun } = this.#split(options, RUN_OPTIONS, method);
    const prepared = this.prepare(inputs, ofCall);
    const grad = optionalBoolean(ofRun.grad, 'grad') ?? false;
    return { prepared, grad, stop: stopOf(withDefaults(ofRun as RunLimits, this.defaultLimits)) };
  }

  async #capture(
    inputs: unknown,
    options: object | undefined,
    known: readonly string[],
    method: string,
    extra: NativeCaptureOptions,
  ): Promise<{ result: NativeCapture; given: CaptureOptions<never>; stop: Stop }> {
    const { ofCall, ofCapture } = this.#split(options, known, method);
    const prepared = this.prepare(inputs, ofCall);
    const { capture, stop } = toNativeCapture(withDefaults(ofCapture, this.defaultLimits), () => this.moduleNames());
    const { onAttention, gradientOf } = ofCapture as CaptureOptions<never>;
    if (onAttention) capture.onAttention = this.#handOver(onAttention);
    const result = await this.#run(gradientOf !== undefined, prepared, stop, (handles, run) =>
      this.native.capture(handles, { ...capture, ...extra, ...run }),
    );
    const { noAttention, unseen } = result;
    adopt([result.attentions, unseen, result.missing]);
    if (noAttention !== undefined) throw new TorchError('ERR_NO_ATTENTION', noAttention, { unseen });
    return { result, given: ofCapture, stop };
  }

  /** The options of a forward and those of its capture; all others are refused. */
  #split(options: object | undefined, known: readonly string[], method: string): { ofCall: Given; ofCapture: Given } {
    const given = checkOptions(
      options as Given | undefined,
      [...this.callOptions, ...known],
      `the options of ${method}`,
    );
    const ofCall: Given = {};
    const ofCapture: Given = {};
    for (const [name, value] of Object.entries(given)) {
      (this.callOptions.includes(name) ? ofCall : ofCapture)[name] = value;
    }
    return { ofCall, ofCapture };
  }

  /** Runs a prepared forward with a capture: `call` hands it to the addon, with what belongs to every run. */
  #run<Result>(
    grad: boolean,
    prepared: PreparedForward,
    stop: Stop,
    call: (inputs: unknown[], options: NativeRunOptions) => Promise<Result>,
  ): Promise<Result> {
    return this.#running(grad, prepared, stop, (cancellation) =>
      call(prepared.inputs, { ...prepared.options, insideHook: isInsideHook(), cancellation }),
    );
  }

  /** Awaits what a prepared forward is handed to. */
  #running<Result>(
    grad: boolean,
    prepared: PreparedForward,
    stop: Stop,
    call: (cancellation: NativeCancellation | undefined) => Promise<Result>,
  ): Promise<Result> {
    return this.withHooks(grad, async () => {
      try {
        return await this.cancellable(stop, call);
      } catch (error) {
        throw this.#explain(error, prepared);
      }
    });
  }

  /** What a run failed with, by the names of its inputs where those are why. */
  #explain(error: unknown, { inputs, options }: PreparedForward): unknown {
    return explainFailure(error, inputs, this.native, () => {
      const signature = this.native.signature(options.method ?? 'forward');
      return (signature?.parameters ?? []).map(({ name }) => name);
    });
  }

  /** The function that the addon calls with each attention as soon as it exists. */
  #handOver(take: (attention: Attention) => unknown): NativeCallback {
    return waitedFor(this, async (attention): Promise<void> => {
      await take(toAttention(attention as unknown as NativeAttention<Tensor<FloatingDType>>, (tensor) => tensor));
    });
  }

  /**
   * The same as `captureAttention` as an async iterable of the attentions, each as soon as it exists: the model waits while
   * one is looked at. Leaving the loop early stops the run. One that the loop has done with stays in memory until the
   * garbage collector finds it: dispose its `weights` (and `keys`) where that matters.
   *
   * @param inputs What `forward` takes by position.
   * @param options Those of `captureAttention`, without `onAttention` and `gradientOf`.
   * @returns An iterable, to be gone through once; the run begins with the loop. Its `output` resolves when the run is over
   *   and rejects as `captureAttention` (as the loop does); asked for without a loop, it runs the model for itself.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for `onAttention` and `gradientOf`, in the loop.
   *
   * @example
   * for await (const { name, weights } of model.captureAttentionStream([ids], { averageHeads: true })) {
   *   console.log(name, weights.shape); // [B, Q, K]
   *   weights.dispose();
   * }
   */
  captureAttentionStream(
    inputs: Inputs,
    options: CallOptions & Omit<WithoutWeights<CaptureOptions<Output>>, 'onAttention' | 'gradientOf'>,
  ): AttentionStream<Output, AttentionWithoutWeights>;
  captureAttentionStream(
    inputs: Inputs,
    options?: CallOptions & Omit<CaptureOptions<Output>, 'onAttention' | 'gradientOf'>,
  ): AttentionStream<Output>;
  captureAttentionStream(
    inputs: Inputs,
    options: Omit<WithoutWeights<CaptureOptions<Output>>, 'onAttention' | 'gradientOf'>,
  ): AttentionStream<Output, AttentionWithoutWeights>;
  captureAttentionStream(
    inputs: Inputs,
    options?: Omit<CaptureOptions<Output>, 'onAttention' | 'gradientOf'>,
  ): AttentionStream<Output>;
  captureAttentionStream(inputs: Inputs, options?: object): AttentionStream<Output> {
    return new AttentionStream(async (onAttention, stop) => {
      const given = this.#streamOptions(options);
      const { signal, release } = anySignal([optionalSignal(given.signal), stop]);
      try {
        return await this.captureAttention(inputs, { ...given, onAttention, signal } as unknown as CallOptions &
          CaptureOptions<Output>);
      } finally {
        release();
      }
    });
  }

  #streamOptions(options: object | undefined): Given {
    const method = 'captureAttentionStream';
    for (const [name, reason] of Object.entries(NOT_IN_STREAMS)) {
      refuseOption(options, name, `no ${name} in the options of ${method}, since ${reason},`);
    }
    const known = [...this.callOptions, ...CAPTURE_OPTIONS].filter((name) => !Object.hasOwn(NOT_IN_STREAMS, name));
    return checkOptions(options as Given | undefined, known, `the options of ${method}`);
  }

  /**
   * Captures the attention of one input after the other, in order. The model works on the next input while the consumer
   * looks at a result; it never gets further ahead than `ahead` inputs. With `onAttention`, which is also told the index of
   * the input, it works on one input at a time.
   *
   * @param inputs For each run what `captureAttention` takes: the inputs, or `{ inputs, …options }` with options of `forward`
   *   that are this input's own (its padding mask). An iterable may hold promises of them, as in `for await`.
   * @param options Those of all captures, and how the stream goes.
   * @returns For each input its result, or the error that it failed with: one failing input doesn't end the stream. An input
   *   that can't be had, and what `onProgress` throws, do; an aborted `signal` rejects with its reason.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for options that are not right, `ERR_DISPOSED`; in the loop.
   *
   * @example
   * for await (const result of model.captureMany([[ids], [ids]], { layers: [-1], ahead: 2 })) {
   *   if ('output' in result) console.log(result.index, result.attentions.length);
   *   else console.error(result.index, result.error);
   * }
   */
  captureMany(
    inputs: ManyInputs<Inputs | InputWithOptions<Inputs, CallOptions>>,
    options: CallOptions & ManyWithoutWeights<Output>,
  ): AsyncGenerator<CapturedInput<Output, AttentionWithoutWeights>, void, undefined>;
  captureMany(
    inputs: ManyInputs<Inputs | InputWithOptions<Inputs, CallOptions>>,
    options?: CallOptions & CaptureManyOptions<Output>,
  ): AsyncGenerator<CapturedInput<Output>, void, undefined>;
  captureMany(
    inputs: ManyInputs<Inputs>,
    options: ManyWithoutWeights<Output>,
  ): AsyncGenerator<CapturedInput<Output, AttentionWithoutWeights>, void, undefined>;
  captureMany(
    inputs: ManyInputs<Inputs>,
    options?: CaptureManyOptions<Output>,
  ): AsyncGenerator<CapturedInput<Output>, void, undefined>;
  captureMany(
    inputs: ManyInputs<Inputs | InputWithOptions<Inputs, CallOptions>>,
    options?: CaptureManyOptions<Output>,
  ): AsyncGenerator<CapturedInput<Output>, void, undefined> {
    type Whole = CallOptions & CaptureOptions<Output>;
    return captureMany(
      async (input, each) => {
        if (reading('an input', () => Array.isArray(input)) || input === null || typeof input !== 'object') {
          return await this.captureAttention(input as Inputs, each as Whole);
        }
        const given = checkOptions(input, ['inputs', ...this.callOptions], 'an input of captureMany');
        const { inputs: own, ...ownOptions } = given as InputWithOptions<Inputs, CallOptions>;
        return await this.captureAttention(own, { ...each, ...ownOptions } as unknown as Whole);
      },
      inputs,
      options === undefined ? ({} as Whole) : options,
    );
  }
}

/**
 * An input of `captureMany` with options of `forward` that are its own: what `captureAttention` takes by position stands in
 * `inputs`.
 *
 * @example
 * const padded: InputWithOptions<Tensor[], nn.EncoderArguments> = { inputs: [src], srcKeyPaddingMask: mask };
 * for await (const result of encoder.captureMany([[src], padded])) console.log(result.index);
 */
export type InputWithOptions<Inputs, CallOptions> = { inputs: Inputs } & CallOptions;
