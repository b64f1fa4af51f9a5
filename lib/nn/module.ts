import { type Attention, type CaptureOptions, toNativeCapture } from '../attention';
import { fromNative, type NativeNnModule, type NativeTensor, native } from '../binding';
import { fromNativeCapture } from '../captured';
import { checkNotInOwnHook, isInsideHook } from '../hooks';
import { Model } from '../model';
import {
  type LoadResult,
  type LoadStateDictOptions,
  matchStateDict,
  readStateDict,
  saveStateDict,
} from '../state-dict';
import { handleOf, Tensor } from '../tensor';
import { options as checkOptions, invalid, optionalBoolean, optionalSignal } from '../validate';
import { fromNativeValue } from '../value';

/** Options that every forward of a module takes beside its own. */
export interface RunOptions {
  /** Records what `backward` needs. Default false. */
  grad?: boolean;
  /** Rejects the call with the signal's reason. */
  signal?: AbortSignal;
}

/** Named arguments of a forward, checked; what is undefined was left out. */
export type Named = Record<string, Tensor | boolean | undefined>;

type Parts = Partial<Record<'layer' | 'norm' | 'customEncoder' | 'customDecoder', NnModule<unknown> | undefined>>;

function nativeOf(named: Named): Record<string, unknown> {
  const converted: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(named)) {
    if (value !== undefined) converted[name] = value instanceof Tensor ? handleOf(value, name) : value;
  }
  return converted;
}

/**
 * What all modules of `nn` have. As in PyTorch they come in training mode: call `eval()` before using one.
 *
 * Forwards run on threads of the addon's own. Parameters have Python's names.
 */
export abstract class NnModule<Output> extends Model<NativeNnModule> {
  #needWeights = false;

  /** @internal */
  protected constructor(type: string, options: object, parts: Parts = {}) {
    const natives = Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, part?.native]));
    super(native((addon) => addon.NativeNnModule.create(type, options, natives)));
  }

  /** @internal Names of the arguments of `forward` that have names. */
  protected abstract readonly namedArguments: readonly string[];

  /** @internal Checks the arguments of a forward. */
  protected abstract check(inputs: readonly unknown[], given: Record<string, unknown>): Named;

  /** @internal What the native forward gave, as users get it. */
  protected convert(output: unknown): Output {
    return fromNativeValue(output) as Output;
  }

  /** @internal */
  protected async run(inputs: readonly unknown[], given: object | undefined): Promise<Output> {
    const all = checkOptions(
      given as Record<string, unknown> | undefined,
      [...this.namedArguments, 'grad', 'signal'],
      'the options of forward',
    );
    const named = nativeOf(this.check(inputs, all));
    const grad = optionalBoolean(all.grad, 'grad') ?? false;
    const signal = optionalSignal(all.signal);
    const handles = inputs.map((input) => handleOf(input, 'an input'));
    const output = await this.withHooks(grad, () =>
      this.cancellable(signal, (cancellation) =>
        this.native.run(handles, named, { grad, insideHook: isInsideHook(), cancellation }),
      ),
    );
    return this.convert(output);
  }

  /**
   * Runs the module and records the weights of its attentions. The output is the same bits as `forward`'s.
   *
   * @param inputs The positional arguments of `forward`.
   * @param options The named arguments of `forward`, and those of the capture (`layers`, `heads` …).
   * @throws TorchError as `forward`; `ERR_NO_ATTENTION`, `ERR_UNKNOWN_MODULE`, `ERR_CAPTURE_TOO_LARGE`.
   */
  async captureAttention(
    inputs: readonly Tensor[],
    options: Record<string, unknown> &
      Omit<CaptureOptions, 'method' | 'gradientOf'> & {
        gradientOf?: (output: Output) => Tensor | Promise<Tensor>;
      } = {},
  ): Promise<{ output: Output; attentions: Attention[] }> {
    if (!Array.isArray(inputs)) throw invalid('an array of the positional arguments of forward', 'inputs', inputs);
    const given = checkOptions(options, Object.keys(options ?? {}), 'the options of captureAttention');
    const forward: Record<string, unknown> = {};
    const rest: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(given)) {
      (this.namedArguments.includes(name) ? forward : rest)[name] = value;
    }
    if ('method' in rest) throw invalid('no method (modules of nn have forward only)', 'method', rest.method);
    const named = nativeOf(this.check(inputs, forward));
    const handles = inputs.map((input) => handleOf(input, 'an input'));
    const { capture, signal } = toNativeCapture(rest as CaptureOptions, () => this.moduleNames());
    checkNotInOwnHook(this);
    if (given.onAttention) capture.onAttention = this.handOver(given.onAttention);
    const result = await this.cancellable(signal, (cancellation) =>
      this.native.capture(handles, named, { ...capture, insideHook: isInsideHook(), cancellation }),
    );
    return await fromNativeCapture(result, (output) => this.convert(output), given.gradientOf, signal);
  }

  /** Whether the module is in training mode: dropout works, fused kernels are not used. */
  get training(): boolean {
    return native(() => this.native.isTraining());
  }

  /** Puts the module and all below it into training mode, or with `false` into evaluation mode. */
  train(mode = true): this {
    if (typeof mode !== 'boolean') throw invalid('a boolean', 'mode', mode);
    native(() => this.native.train(mode));
    return this;
  }

  /** Puts the module and all below it into evaluation mode. */
  eval(): this {
    return this.train(false);
  }

  /** Whether the attentions of the module return their weights beside their output. */
  get needWeights(): boolean {
    return this.#needWeights;
  }

  /**
   * Asks the attentions of the module to return their weights, `[B, H, T, S]`, beside their output, where forward hooks
   * on them see both. The output stays the same bits. Where nobody looks, nothing is computed.
   */
  setNeedWeights(need = true): this {
    if (typeof need !== 'boolean') throw invalid('a boolean', 'need', need);
    native(() => this.native.setNeedWeights(need));
    this.#needWeights = need;
    return this;
  }

  /**
   * Copies parameters from a checkpoint: a TorchScript archive, a `.safetensors` file, what `torch.save` wrote, or
   * tensors by name. Values are converted to the parameters' type and device.
   *
   * @param options `prefix`: take the names that begin with it, without it. `strict` (default true): missing and
   *   unexpected names are errors; tensors of another shape always are.
   * @returns The names that were missing and unexpected (with `strict: false`).
   * @throws TorchError `ERR_MODEL_LOAD` where names or shapes don't fit, with all of them in one message, or where the
   *   file can't be read.
   */
  async loadStateDict(
    source: string | Readonly<Record<string, Tensor>>,
    options?: LoadStateDictOptions,
  ): Promise<LoadResult> {
    const { prefix, strict } = checkOptions(options, ['prefix', 'strict'], 'the options of loadStateDict');
    if (prefix !== undefined && typeof prefix !== 'string') throw invalid('a string', 'prefix', prefix);
    optionalBoolean(strict, 'strict');
    const { values, result } = matchStateDict(await readStateDict(source), this.namedParameters(), {
      prefix: prefix ?? '',
      strict: strict ?? true,
    });
    try {
      const tensors = [...values.values()].map((tensor): NativeTensor => handleOf(tensor, 'a value'));
      await this.native.load([...values.keys()], tensors);
    } catch (error) {
      throw fromNative(error);
    }
    return result;
  }

  /** The parameters by name. The tensors are the module's own: they change when it does. */
  stateDict(): Record<string, Tensor> {
    return Object.fromEntries(this.namedParameters().map(({ name, tensor }) => [name, tensor]));
  }

  /** Writes the parameters to a `.safetensors` file. */
  async save(path: string): Promise<void> {
    if (typeof path !== 'string') throw invalid('a path', 'path', path);
    await saveStateDict(path, this.stateDict());
  }
}
