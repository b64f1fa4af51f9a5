import { CapturingModel, type PreparedForward } from '../capture/capturing-model';
import {
  captureGeneration,
  type GenerationAttention,
  type GenerationStep,
  type NextInputs,
  type StepOptions,
} from '../capture/generation';
import {
  binding,
  type NativeExportedProgram,
  type NativeHook,
  type NativeLeaf,
  type NativeModel,
  native,
} from '../core/binding';
import { TorchError } from '../core/errors';
import { options as checkOptions, elements, invalid, isPlainObject, reading } from '../core/validate';
import { fromNativeValue, toNative, type Value } from '../core/value';
import type { ModelSource } from '../formats/source';
import { cancellable } from './cancellable';
import type { HookInputs } from './hookable-model';
import type { HookedModule, HookKind } from './hooks';
import { COMMON_LOAD_OPTIONS, checkLoad, type LoadOptions } from './load-options';
import { flattenCall, unflatten } from './pytree';
import type { RemovableHandle } from './removable-handle';
import { type RunOptions, UNTRUSTED_LIMITS } from './run-options';

/**
 * The options of a program's forward that captures of it take as well.
 *
 * @example
 * const options: ProgramCallOptions = { kwargs: { attention_mask: mask } };
 */
export interface ProgramCallOptions {
  /** Inputs by name, those that the program was exported with as keyword arguments, or parameters of `forward`. Default: none. */
  kwargs?: { readonly [name: string]: Value };
}

/**
 * An input or output of a program, as the file declares it: one leaf of what `forward` takes or gives.
 *
 * @example
 * const describe = ({ name, dtype, shape }: ProgramValue) => `${name}: ${dtype} [${shape.join(', ')}]`;
 */
export interface ProgramValue {
  /** By the names of parameters and keys on the way to it: `'cache_keys_0'`. */
  name: string;
  /** Of a tensor, by PyTorch's name; for other values `'int'`, `'float'`, `'bool'`, `'str'` or `'NoneType'`. */
  dtype: string;
  /** Sizes: numbers, and texts for those that may differ, in terms of `symbols` (`'2*s0'`). Empty for what is no tensor. */
  shape: (number | string)[];
  /** The only value that it may have, where the program was exported for one. */
  constant?: Value;
}

/**
 * What a program takes and gives.
 *
 * @example
 * const { inputs, symbols }: ProgramSignature = program.signature();
 * console.log(inputs.map(({ name }) => name), symbols['s0']?.max);
 */
export interface ProgramSignature {
  /** Leaves of the positional and keyword arguments, in order. */
  inputs: ProgramValue[];
  /** Leaves of the output, in order. */
  outputs: ProgramValue[];
  /** The sizes that may differ from run to run: from `min` to `max`, `Infinity` where nothing limits them. */
  symbols: { [name: string]: { min: number; max: number } };
}

/** The inputs of one step of a generation: by position, or by position and by name. */
type StepInputs<Inputs extends readonly Value[]> = Inputs | ({ inputs: Inputs } & ProgramCallOptions);

/** Makes the inputs of the next step of a generation; nothing ends it. */
type NextStep<Inputs extends readonly Value[], Output> = (
  output: Output,
  step: number,
) => StepInputs<Inputs> | undefined | null | Promise<StepInputs<Inputs> | undefined | null>;

function toProgramValue({ name, type, dtype, shape, constant }: NativeLeaf): ProgramValue {
  return {
    name,
    dtype: dtype ?? type,
    shape,
    ...(constant === undefined ? {} : { constant: fromNativeValue(constant) }),
  };
}

/**
 * A program of `torch.export` (`.pt2`), ready to run: without Python, on any device, with gradients.
 *
 * Its graph is run operator by operator as Python's `ExportedProgram.module()` does, with the same bits. Inputs and outputs
 * have the form that the model had when it was exported: dictionaries are objects, lists and tuples arrays, and registered
 * classes (a `DynamicCache`, dataclasses) objects of the fields that they were flattened to. Weights aren't copied: the file
 * is mapped into memory, and must stay as it is while the program lives.
 *
 * `Inputs` and `Output` are what `forward` takes by position and gives, as `load` was told.
 *
 * @example
 * type Output = { logits: Tensor };
 * const bert = await ExportedProgram.load<[ids: Tensor], Output>('bert.pt2');
 * const { logits } = await bert.forward([ids], { kwargs: { attention_mask: mask } });
 */
export class ExportedProgram<
  Inputs extends readonly Value[] = readonly Value[],
  Output extends Value = Value,
> extends CapturingModel<Inputs, Output, ProgramCallOptions, HookInputs<Inputs>, Output> {
  /** @internal */
  protected override readonly callOptions = ['kwargs'];
  readonly #form: NativeExportedProgram;

  private constructor(handle: NativeModel) {
    super(handle);
    this.#form = native((addon) => addon.describeExportedProgram(handle));
  }

  /**
   * Loads what `torch.export.save` wrote, with PyTorch 2.9 or later.
   *
   * @param source A path, a `file:` URL, or the bytes of the file. A path is mapped into memory, bytes (and with `untrusted` the file) are
   *   copied.
   * @param options `optimize` and `fuse` are TorchScript's. With `dtype`, inputs have to be of that type, too, and what the
   *   graph casts to the type that its weights had it casts to this one.
   * @throws TorchError `ERR_MODEL_LOAD` where the file is none or broken, `ERR_UNSUPPORTED_FILE` for what isn't served (older
   *   files, compiled packages, objects that exist in Python only), `ERR_UNKNOWN_OPERATOR` for an operator that isn't
   *   registered, `ERR_UNTRUSTED`, `ERR_TIME_LIMIT`, `ERR_INVALID_ARGUMENT`, `ERR_DEVICE_UNAVAILABLE`; the signal's reason
   *   where it was aborted.
   *
   * @example
   * const program = await ExportedProgram.load('model.pt2', { device: 'cpu' });
   */
  static async load<Inputs extends readonly Value[] = readonly Value[], Output extends Value = Value>(
    source: ModelSource,
    options?: Omit<LoadOptions, 'optimize' | 'fuse'>,
  ): Promise<ExportedProgram<Inputs, Output>> {
    const { given, source: from, native: checked, stop } = await checkLoad(source, options, COMMON_LOAD_OPTIONS);
    const handle = await cancellable(stop, (cancellation) =>
      binding().loadExportedProgram(from, { ...checked, cancellation }),
    );
    const program = new ExportedProgram<Inputs, Output>(handle);
    if (given.untrusted) program.defaultLimits = UNTRUSTED_LIMITS;
    return program;
  }

  /**
   * Runs the program.
   *
   * @param inputs One value for each positional parameter.
   * @param options `kwargs` are the inputs by name. As in Python, a parameter may be given either way.
   * @throws TorchError `ERR_INVALID_ARGUMENT` where the inputs aren't such as the program was exported for: their form, types,
   *   ranks, sizes, and what its guards say of those; `ERR_MODEL_RUN` where it fails, `ERR_TIME_LIMIT` and
   *   `ERR_MEMORY_LIMIT` beyond the limits, `ERR_DISPOSED`; the signal's reason where it was aborted.
   *
   * @example
   * const output = await program.forward([ids], { kwargs: { attention_mask: mask }, timeLimit: 1000 });
   */
  async forward(inputs: Inputs, options?: RunOptions & ProgramCallOptions): Promise<Output> {
    return await this.run(inputs, options);
  }

  #flatten(inputs: unknown, kwargs: unknown): unknown[] {
    const positional = elements(
      inputs,
      'an array with one element for each positional parameter',
      'inputs',
      (input, i) => toNative(input, `inputs[${i}]`),
    );
    if (kwargs !== undefined && !reading('kwargs', () => isPlainObject(kwargs))) {
      throw invalid('an object of inputs by name', 'kwargs', kwargs);
    }
    const named = (kwargs === undefined ? {} : toNative(kwargs, 'kwargs')) as Record<string, unknown>;
    const { inputTree, inputs: leaves, argumentNames } = this.#form;
    return flattenCall({ tree: inputTree, leaves, argumentNames }, positional, named);
  }

  /**
   * What the program takes and gives, leaf by leaf, and the sizes that may differ from run to run.
   *
   * @example
   * for (const { name, dtype, shape } of program.signature().inputs) console.log(name, dtype, shape);
   */
  signature(): ProgramSignature {
    const { inputs, outputs, symbols } = this.#form;
    return {
      inputs: inputs.map(toProgramValue),
      outputs: outputs.map(toProgramValue),
      symbols: Object.fromEntries(symbols.map(({ name, min, max }) => [name, { min, max }])),
    };
  }

  /** @internal What a call takes, of the leaves of its inputs. */
  callOfLeaves(leaves: readonly Value[]): { inputs: Inputs; kwargs: { [name: string]: Value } } {
    const [inputs, kwargs] = unflatten(this.#form.inputTree, leaves) as [Value[], { [name: string]: Value }];
    return { inputs: inputs as unknown as Inputs, kwargs };
  }

  /** @internal What a call gives, of the leaves of its output. */
  outputOfLeaves(leaves: readonly Value[]): Value {
    return unflatten(this.#form.outputTree, leaves);
  }

  /** @internal A graph has no modules that could be called: where they began and ended is all that is known. */
  override addHook(
    _kind: HookKind,
    path: string,
    _hook: ((module: HookedModule, ...values: never[]) => unknown) | undefined,
  ): { handle: RemovableHandle; native: NativeHook } {
    if (typeof path !== 'string') throw invalid('the dotted name of a module', 'path', path);
    throw new TorchError(
      'ERR_NOT_HOOKABLE',
      `Expected a model whose modules are called but received an exported program, whose graph has '${path}' inlined: load a ` +
        'TorchScript file of the model for hooks',
    );
  }

  /** @internal */
  protected override prepare(inputs: unknown, options: ProgramCallOptions): PreparedForward {
    return { inputs: this.#flatten(inputs, options.kwargs), options: {} };
  }

  /** @internal */
  protected override convert(output: unknown): Output {
    return unflatten(this.#form.outputTree, (output as unknown[]).map(fromNativeValue)) as Output;
  }

  /**
   * Captures the attention of a program that generates step by step and is given its key/value caches back, as
   * `ScriptModule.captureGeneration`. Inputs of a step may also be `{ inputs, kwargs }`.
   *
   * @param next Makes the inputs of the following step from the output of a step; `undefined` ends the generation.
   * @throws TorchError as `captureAttention`, at the step that fails; what `next` throws.
   *
   * @example
   * const steps = program.captureGeneration({ inputs: [ids], kwargs: { cache } }, (output, step) => {
   *   const { logits, cache } = output as { logits: Tensor; cache: Value };
   *   return step < 20 ? { inputs: [logits.argmax(-1)], kwargs: { cache } } : undefined;
   * });
   * for await (const { step, attentions } of steps) console.log(step, attentions.length);
   */
  captureGeneration(
    inputs: StepInputs<Inputs>,
    next: NextStep<Inputs, Output>,
    options: StepOptions<Output> & { weights: false },
  ): AsyncGenerator<GenerationStep<Output, Omit<GenerationAttention, 'weights'>>, void, undefined>;
  captureGeneration(
    inputs: StepInputs<Inputs>,
    next: NextStep<Inputs, Output>,
    options?: StepOptions<Output>,
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
    inputs: StepInputs<Inputs>,
    next: NextStep<Inputs, Output>,
    options?: StepOptions<Output>,
  ): AsyncGenerator<GenerationStep<Output>, void, undefined> {
    return captureGeneration(
      (step: StepInputs<Inputs>, given: StepOptions<Output>) => {
        if (reading('the inputs of a step', () => Array.isArray(step))) return this.captureStep(step as Inputs, given);
        const { inputs: own, kwargs } = checkOptions(step, ['inputs', 'kwargs'], 'the inputs of a step') as {
          inputs: Inputs;
        } & ProgramCallOptions;
        return this.captureStep(own, { ...given, ...(kwargs === undefined ? {} : { kwargs }) });
      },
      inputs,
      next,
      options,
      [],
    );
  }
}
