import { CapturingModel, type PreparedForward } from '../capture/capturing-model';
import { binding, type NativeTensor, native } from '../core/binding';
import { TorchError } from '../core/errors';
import { handleOf, Tensor } from '../core/tensor';
import { options as checkOptions, elements, invalid, optionalBoolean } from '../core/validate';
import { fromNativeValue } from '../core/value';
import { HookableModel } from '../model/hookable-model';
import {
  type LoadResult,
  type LoadStateDictOptions,
  matchStateDict,
  readStateDict,
  type StateDictSource,
  saveStateDict,
} from '../model/state-dict';
import type { HookOwner } from '../model/waiting-hooks';

/** Named arguments of a forward, checked; what is undefined was left out. */
export type Named = Record<string, Tensor | boolean | undefined>;

type Parts = Partial<Record<'layer' | 'norm' | 'customEncoder' | 'customDecoder', NnModule<unknown> | undefined>>;

/** Checks a module that another one is made of. */
export function checkPart<Part extends NnModule<unknown>>(
  value: Part,
  type: abstract new (...args: never[]) => Part,
  what: string,
): Part {
  const { name } = type as { name: string };
  if (!HookableModel.is(value) || !(value instanceof type)) throw invalid(`a ${name}`, what, value);
  if (value.disposed) {
    throw new TorchError('ERR_DISPOSED', `Expected a live ${name} for ${what} but received one that was disposed`);
  }
  return value;
}

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
 * Forwards run on threads of the addon's own. Parameters have Python's names. They are float32, and so are inputs and
 * outputs: checkpoints of other types are converted when they are loaded.
 *
 * @example
 * async function shapes(modules: nn.Module[]): Promise<void> {
 *   for (const module of modules) console.log(module.modules().length, module.training);
 * }
 */
export abstract class NnModule<
  Output = unknown,
  Arguments extends object = object,
  // biome-ignore lint/suspicious/noExplicitAny: by default a module of any types, which any other one is assignable to
  HookOutput = any,
> extends CapturingModel<readonly Tensor[], Output, Arguments, Tensor[], HookOutput> {
  /** The parts that are shared, by their names in this module. */
  readonly #parts: [string, NnModule<unknown>][];

  /** @internal */
  protected constructor(type: string, options: object, parts: Parts = {}) {
    if (new.target === NnModule) throw invalid('one of the classes of nn', 'the class of a module', new.target);
    const natives = Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, part?.native]));
    // A layer is copied, all other parts are shared.
    const { layer: _, ...shared } = parts;
    super(
      native((addon) => addon.createNnModule(type, options, natives)),
      Object.values(shared).filter((part) => part !== undefined),
    );
    const { norm, customEncoder: encoder, customDecoder: decoder } = shared;
    this.#parts = Object.entries({ norm, encoder, decoder }).flatMap(([name, part]) => (part ? [[name, part]] : []));
  }

  /** @internal */
  override hookOwner(path: string): HookOwner {
    for (const [name, part] of this.#parts) {
      if (path === name || path.startsWith(`${name}.`)) return part.hookOwner(path.slice(name.length + 1));
    }
    return this;
  }

  /** @internal Names of the arguments of `forward` that are given by position. */
  protected abstract readonly inputNames: readonly string[];

  /** @internal Checks the arguments of a forward: as many inputs as have names, and those that have names. */
  protected abstract check(inputs: readonly unknown[], given: Record<string, unknown>): Named;

  /** @internal */
  protected override convert(output: unknown): Output {
    return fromNativeValue(output) as Output;
  }

  /** @internal */
  protected override prepare(inputs: unknown, options: Record<string, unknown>): PreparedForward {
    const expected = `an array of ${this.inputNames.length === 1 ? 'one tensor' : `${this.inputNames.length} tensors`} (${this.inputNames.join(', ')})`;
    const given = elements(inputs, expected, 'inputs', (input) => input);
    if (given.length !== this.inputNames.length) throw invalid(expected, 'inputs', inputs);
    const { inputNames } = this;
    const named = nativeOf(this.check(given, options));
    return {
      inputs: given.map((input, i) => handleOf(input, inputNames[i] as string)),
      options: { named, inputNames },
    };
  }

  /**
   * Whether the module is in training mode: dropout works, fused kernels are not used.
   *
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * if (encoder.training) encoder.eval();
   */
  get training(): boolean {
    return native((addon) => addon.isTraining(this.native));
  }

  /**
   * Puts the module and all below it into training mode, or with `false` into evaluation mode. Returns at once: runs under way
   * go on as they began.
   *
   * @param mode Default true.
   * @returns The module.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * encoder.train();
   */
  train(mode = true): this {
    if (typeof mode !== 'boolean') throw invalid('a boolean', 'mode', mode);
    native((addon) => addon.train(this.native, mode));
    return this;
  }

  /**
   * Puts the module and all below it into evaluation mode: `train(false)`.
   *
   * @returns The module.
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * const layer = new nn.TransformerEncoderLayer({ dModel: 64, nhead: 4 }).eval();
   */
  eval(): this {
    return this.train(false);
  }

  /**
   * Whether the attentions of the module return their weights beside their output: all of them, where it shares parts with
   * others that were told different things.
   *
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * console.log(attention.needWeights); // true at first
   */
  get needWeights(): boolean {
    return native((addon) => addon.needsWeights(this.native));
  }

  /**
   * Asks the attentions of the module to return their weights, `[B, H, T, S]`, beside their output, where forward hooks
   * on them see both. The output stays the same bits. With `grad` the weights take part in gradients. Where nobody looks,
   * a fused layer computes nothing.
   *
   * @param need Default true.
   * @returns The module.
   * @throws TorchError `ERR_INVALID_ARGUMENT`, `ERR_DISPOSED`.
   *
   * @example
   * encoder.setNeedWeights();
   * encoder.registerForwardHook('layers.0.self_attn', (_module, _input, output) => {
   *   const [, layerWeights] = output as [Tensor, Tensor];
   *   console.log(layerWeights.shape);
   * });
   */
  setNeedWeights(need = true): this {
    if (typeof need !== 'boolean') throw invalid('a boolean', 'need', need);
    native((addon) => addon.setNeedWeights(this.native, need));
    return this;
  }

  /**
   * Copies parameters from a checkpoint: a TorchScript archive, a `.safetensors` file, what `torch.save` wrote, or
   * tensors by name, in an object or a Map. Values are converted to the parameters' type and device.
   *
   * @param source A path, a `file:` URL, bytes, or tensors by name.
   * @param options `prefix`: take the names that begin with it, without it. `strict` (default true): missing and
   *   unexpected names are errors; tensors of another shape always are. `verify` (default false): the checksums of a zip archive's
   *   records are compared.
   * @returns The names that were missing and unexpected (with `strict: false`).
   * @throws TorchError `ERR_MODEL_LOAD` where names or shapes don't fit, with all of them in one message, or where the
   *   file can't be read; `ERR_MODEL_RUN` in a hook that a run of the module, or of one that shares parts with it, waits for.
   *
   * @example
   * await encoder.loadStateDict('model.safetensors', { prefix: 'transformer.encoder.' });
   */
  async loadStateDict(source: StateDictSource, options?: LoadStateDictOptions): Promise<LoadResult> {
    const known = ['prefix', 'strict', 'verify'];
    const { prefix, strict, verify } = checkOptions(options, known, 'the options of loadStateDict');
    if (prefix !== undefined && typeof prefix !== 'string') throw invalid('a string', 'prefix', prefix);
    optionalBoolean(strict, 'strict');
    optionalBoolean(verify, 'verify');
    const parameters = this.namedParameters();
    const wanted = { prefix: prefix ?? '', names: new Set(parameters.map(({ name }) => name)) };
    const { values, result } = matchStateDict(await readStateDict(source, wanted, verify ?? false), parameters, {
      prefix: wanted.prefix,
      strict: strict ?? true,
    });
    const tensors = [...values.values()].map((tensor): NativeTensor => handleOf(tensor, 'a value'));
    await this.change(() => binding().loadNnParameters(this.native, [...values.keys()], tensors));
    return result;
  }

  /**
   * Writes the parameters to a `.safetensors` file.
   *
   * @param path The file to write, over what is there.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where it can't be written, `ERR_DISPOSED`.
   *
   * @example
   * await encoder.save('encoder.safetensors');
   */
  async save(path: string): Promise<void> {
    if (typeof path !== 'string') throw invalid('a path', 'path', path);
    await saveStateDict(path, this.stateDict());
  }
}
