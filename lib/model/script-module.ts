import { CapturingModel, type PreparedForward } from '../capture/capturing-model';
import {
  captureGeneration,
  type GenerationAttention,
  type GenerationOptions,
  type GenerationStep,
  type NextInputs,
  type StepOptions,
} from '../capture/generation';
import { binding, type NativeModel, type NativeSignature, native } from '../core/binding';
import { cancellable } from '../core/cancellable';
import { elements, invalid, optionalBoolean, optionalString } from '../core/validate';
import { fromNativeValue, toNative, type Value } from '../core/value';
import type { ModelSource } from '../formats/source';
import type { HookInputs } from './hookable-model';
import { withKindOfSource } from './kind-of-source';
import { COMMON_LOAD_OPTIONS, checkLoad, type LoadOptions } from './load-options';
import { type RunOptions, UNTRUSTED_LIMITS } from './run-options';

/**
 * Options of a checkpoint's forward.
 *
 * @example
 * const options: ForwardOptions = { method: 'encode', grad: true, timeLimit: 1000 };
 */
export interface ForwardOptions extends RunOptions {
  /** The method to run, one of `methods()`. Default `'forward'`. */
  method?: string;
}

/**
 * The options of a forward that captures of checkpoints take as well.
 *
 * @inline
 */
export type CheckpointCallOptions = Pick<ForwardOptions, 'method'>;

/**
 * What a method takes and gives, in TorchScript's type names.
 *
 * @example
 * const { parameters, returns }: Signature = model.signature();
 * console.log(parameters.map(({ name, type }) => `${name}: ${type}`).join(', '), '->', returns);
 */
export interface Signature {
  /** In order; those that are `optional` have defaults. */
  parameters: { name: string; type: string; optional: boolean }[];
  /** `'None'` where it returns nothing. */
  returns: string;
}

/** What is known of `forward`, which says nothing of other methods. */
type OfMethod<Method extends string, OfForward, OfOthers> = 'forward' extends Method ? OfForward : OfOthers;

function checkInputs(inputs: unknown): unknown[] {
  return elements(inputs, 'an array with one element for each parameter', 'inputs', (input, i) =>
    toNative(input, `inputs[${i}]`),
  );
}

/**
 * A TorchScript checkpoint, ready to run.
 *
 * Runs happen on threads of the addon's own, except `forwardSync`; several may be under way at once. The model is in
 * evaluation mode.
 *
 * `Inputs` and `Output` are what `forward` takes and gives, as `load` was told: nothing checks that they are true before the
 * model runs, which refuses other inputs. They are what hooks on the model itself get, and what captures take and give, also
 * where their option `method` names another method; `forward` takes and gives any `Value` there. Objects are declared by a type
 * alias: interfaces are no `Value` to TypeScript.
 *
 * @example
 * type Output = { logits: Tensor; hidden: Tensor[] };
 * const classifier = await ScriptModule.load<[ids: Tensor, mask: Tensor], Output>('model.pt');
 * const { logits } = await classifier.forward([ids, mask]);
 */
export class ScriptModule<
  Inputs extends readonly Value[] = readonly Value[],
  Output extends Value = Value,
> extends CapturingModel<Inputs, Output, CheckpointCallOptions, HookInputs<Inputs>, Output> {
  /** @internal */
  protected override readonly callOptions = ['method'];

  private constructor(handle: NativeModel) {
    super(handle);
  }

  /**
   * Loads what `torch.jit.save` wrote.
   *
   * Reading and compiling happen on a thread of the addon's own. Of bytes, memory is taken once more while it loads.
   *
   * @param source A path, a `file:` URL, or the bytes of the file.
   * @param options Where parameters go, and what is trusted, checked and optimized.
   * @returns The model, in evaluation mode.
   * @throws TorchError `ERR_MODEL_LOAD` where it is no TorchScript archive, `ERR_UNTRUSTED`, `ERR_TIME_LIMIT`,
   *   `ERR_INVALID_ARGUMENT`, `ERR_DEVICE_UNAVAILABLE`, `ERR_LIBTORCH_NOT_FOUND` and the like where libtorch is missing; the
   *   signal's reason where it was aborted.
   *
   * @example
   * const untyped = await ScriptModule.load('model.pt', { device: 'cpu' });
   * const typed = await ScriptModule.load<[Tensor], Tensor>('model.pt');
   */
  static async load<Inputs extends readonly Value[] = readonly Value[], Output extends Value = Value>(
    source: ModelSource,
    options?: LoadOptions,
  ): Promise<ScriptModule<Inputs, Output>> {
    const {
      given,
      source: from,
      native,
      stop,
    } = await checkLoad(source, options, [...COMMON_LOAD_OPTIONS, 'optimize', 'fuse']);
    const { optimize, fuse, untrusted } = given;
    optionalBoolean(optimize, 'optimize');
    optionalBoolean(fuse, 'fuse');
    if (fuse && !optimize) throw invalid('optimize beside it', 'fuse', fuse);
    const handle = await cancellable(stop, (cancellation) =>
      binding().loadScriptModule(from, {
        ...native,
        optimize: optimize ?? false,
        ...(fuse === undefined ? {} : { fuse }),
        cancellation,
      }),
    ).catch(async (error: unknown) => {
      throw await withKindOfSource(error, from, 'torch-script');
    });
    const model = new ScriptModule<Inputs, Output>(handle);
    if (untrusted) model.defaultLimits = UNTRUSTED_LIMITS;
    return model;
  }

  /**
   * Runs the model.
   *
   * @param inputs One value for each parameter of the method, in order; parameters with defaults may be left out at the end.
   * @param options `method` names another method; `grad` records gradients; limits.
   * @returns What the method returns.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where the inputs don't fit the method's signature, `ERR_MODEL_RUN` where the
   *   model fails, `ERR_HOOK_FAILED`, `ERR_TIME_LIMIT` and `ERR_MEMORY_LIMIT` beyond the limits, `ERR_DISPOSED`; the signal's
   *   reason where it was aborted.
   *
   * @example
   * const output = await model.forward([ids, mask], { signal: AbortSignal.timeout(5000) });
   * const encoded = await model.forward([ids], { method: 'encode' });
   */
  async forward<Method extends string = 'forward'>(
    inputs: OfMethod<Method, Inputs, readonly Value[]>,
    options?: ForwardOptions & { method?: Method },
  ): Promise<OfMethod<Method, Output, Value>> {
    return (await this.run(inputs, options)) as OfMethod<Method, Output, Value>;
  }

  /**
   * The same on the calling thread, which it blocks: for small models, scripts, and worker threads of one's own. Spares the
   * hand-overs between threads, and uses no other core.
   *
   * It computes with one thread, whatever `setNumThreads` says, tasks that the model forks one after the other; so the last
   * bits may differ from those of a `forward` with several. What needs the event loop can't happen before it returns: timers,
   * `AbortSignal.timeout`, the end of a worker that is to terminate. `timeLimit` works. Hooks are called as by `forward`, but
   * must not return promises. Other runs of the model go on beside it.
   *
   * @param inputs As of `forward`.
   * @param options As of `forward`. The `signal` counts if it is aborted before, or by one of the hooks.
   * @returns What the method returns.
   * @throws TorchError as `forward`; `ERR_MODEL_RUN` while the model is moved (`to`), and in a hook that a run of the model
   *   waits for; `ERR_HOOK_FAILED` where a hook returns a promise. Throws the signal's reason where it was aborted.
   *
   * @example
   * const output = model.forwardSync([ids, mask], { timeLimit: 1000 });
   */
  forwardSync<Method extends string = 'forward'>(
    inputs: OfMethod<Method, Inputs, readonly Value[]>,
    options?: ForwardOptions & { method?: Method },
  ): OfMethod<Method, Output, Value> {
    return this.runSync(inputs, options) as OfMethod<Method, Output, Value>;
  }

  /**
   * Names of the methods that `forward` can run.
   *
   * @returns `'forward'` among them, where there is one.
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * if (model.methods().includes('encode')) await model.forward([ids], { method: 'encode' });
   */
  methods(): string[] {
    return native(() => this.native.methods());
  }

  /**
   * What a method takes and gives.
   *
   * @param method One of `methods()`. Default `'forward'`.
   * @returns Parameters in order, and the type of the result.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for a method that isn't there, `ERR_DISPOSED`.
   *
   * @example
   * console.log(model.signature().parameters.map(({ name }) => name));
   */
  signature(method = 'forward'): Signature {
    optionalString(method, 'method');
    return native(() => this.native.signature(method) as NativeSignature);
  }

  /** @internal */
  protected override prepare(inputs: unknown, options: CheckpointCallOptions): PreparedForward {
    const handles = checkInputs(inputs);
    return { inputs: handles, options: { method: optionalString(options.method, 'method') ?? 'forward' } };
  }

  /** @internal */
  protected override convert(output: unknown): Output {
    return fromNativeValue(output) as Output;
  }

  /**
   * Captures the attention of a model that generates step by step and is given its key/value caches back: one record a
   * step, with where its queries and keys stand in the sequence. `assembleAttention` makes one matrix of them.
   *
   * The next step begins when it is asked for. Leaving the loop ends the generation.
   *
   * @param inputs What `forward` takes in the first step, with empty caches or whatever the checkpoint wants there.
   * @param next Makes the inputs of the following step from the output of a step, once the loop has done with that;
   *   `undefined` ends the generation. Caches are passed on as they are, without a copy.
   * @param options As for `captureAttention`; a layer may leave steps out. A generation in which a selected layer took no
   *   part at all ends with `ERR_UNKNOWN_MODULE`, one without any attention with `ERR_NO_ATTENTION`.
   * @returns The records, one a step.
   * @throws TorchError as `captureAttention`, at the step that fails; what `next` throws.
   *
   * @example
   * const generator = await ScriptModule.load<[ids: Tensor, caches: Value], [logits: Tensor, caches: Value]>('gpt.pt');
   * const steps = generator.captureGeneration([ids, null], ([logits, caches], step) =>
   *   step < 20 ? [logits.select(1, -1).argmax(-1).reshape([1, 1]), caches] : undefined,
   * );
   * for await (const { step, attentions } of steps) console.log(step, attentions.length);
   */
  captureGeneration(
    inputs: Inputs,
    next: NextInputs<Inputs, Output>,
    options: GenerationOptions<Output> & { weights: false },
  ): AsyncGenerator<GenerationStep<Output, Omit<GenerationAttention, 'weights'>>, void, undefined>;
  captureGeneration(
    inputs: Inputs,
    next: NextInputs<Inputs, Output>,
    options?: GenerationOptions<Output>,
  ): AsyncGenerator<GenerationStep<Output>, void, undefined>;
  captureGeneration(
    inputs: Inputs,
    next: NextInputs<Inputs, Output>,
    options: StepOptions<Output> & { weights: false },
  ): AsyncGenerator<GenerationStep<Output, Omit<GenerationAttention, 'weights'>>, void, undefined>;
  captureGeneration(
    inputs: Inputs,
    next: NextInputs<Inputs, Output>,
    options?: StepOptions<Output>,
  ): AsyncGenerator<GenerationStep<Output>, void, undefined>;
  captureGeneration(
    inputs: Inputs,
    next: NextInputs<Inputs, Output>,
    options?: GenerationOptions<Output>,
  ): AsyncGenerator<GenerationStep<Output>, void, undefined> {
    return captureGeneration((each, given) => this.captureStep(each, given), inputs, next, options, this.callOptions);
  }

  /**
   * Runs the model until it is as fast as it gets: the first runs of a method, and of inputs of another rank, profile and
   * compile it.
   *
   * @param inputs Inputs like those to come. The model runs three times on them.
   * @param options As for `forward`.
   * @throws TorchError as `forward`.
   *
   * @example
   * await model.warmUp([ids]);
   */
  async warmUp<Method extends string = 'forward'>(
    inputs: OfMethod<Method, Inputs, readonly Value[]>,
    options?: ForwardOptions & { method?: Method },
  ): Promise<void> {
    // The executor profiles one run and compiles in the next.
    for (let run = 0; run < 3; ++run) await this.forward(inputs, options);
  }
}
