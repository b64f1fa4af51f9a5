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
  type NativeProgramModule,
  native,
} from '../core/binding';
import { cancellable } from '../core/cancellable';
import {
  options as checkOptions,
  elements,
  invalid,
  isCallable,
  isPlainObject,
  optionalBoolean,
  reading,
} from '../core/validate';
import { fromNativeValue, toNative, type Value } from '../core/value';
import type { ModelSource } from '../formats/source';
import { nodeCallback } from './hook-callback';
import type { HookInputs } from './hookable-model';
import type { HookedModule, HookedNode, HookKind, HookRecord, NodeHook } from './hooks';
import { withKindOfSource } from './kind-of-source';
import { COMMON_LOAD_OPTIONS, checkLoad, type LoadOptions } from './load-options';
import { checkHookable, hooksTaken, programHook, programRecord } from './program-hooks';
import { flattenCall, leafPlaces, unflatten } from './pytree';
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
  /**
   * Of an input, the names of parameters and keys on the way to it (`'cache_keys_0'`); of an output its place in what `forward` gives, by keys, fields
   * and positions: `'output'`, `'output.logits'`, `'output.cache.0'`, as in the files of the command line and from a server.
   */
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

/**
 * A module that a program came from, and which hooks it takes (see `ExportedProgram.modules`).
 *
 * @example
 * const exact = program.modules().filter(({ hookable }: ProgramModule) => hookable === 'exact');
 */
export interface ProgramModule {
  /** Dotted name; `''` for the model itself. */
  name: string;
  /** Class name. */
  type: string;
  /** Whether hooks get what the module's forward took and gave, one tensor of each, or can't be put on it. */
  hookable: 'exact' | 'single' | false;
  /** The kinds of hooks that it takes: of a `'single'` one, those for which the graph tells the side that they need. */
  hooks: HookKind[];
}

/**
 * The inputs of one step of a generation: by position, or by position and by name.
 *
 * @inline
 */
type StepInputs<Inputs extends readonly Value[]> = Inputs | ({ inputs: Inputs } & ProgramCallOptions);

/**
 * Makes the inputs of the next step of a generation; nothing ends it.
 *
 * @inline
 */
type NextStep<Inputs extends readonly Value[], Output> = (
  output: Output,
  step: number,
) => StepInputs<Inputs> | undefined | null | Promise<StepInputs<Inputs> | undefined | null>;

/** The minor version of the format up to which everything is known: that of PyTorch 2.13. */
const LATEST_SCHEMA = 20;

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
    const { schemaMinor } = this.#form;
    if (schemaMinor > LATEST_SCHEMA) {
      process.emitWarning(
        `The program was written by a later PyTorch, in version 8.${schemaMinor} of the format, of which this release knows 8.${LATEST_SCHEMA}: ` +
          'what came since may not be understood',
        { code: 'NEWER_SCHEMA' },
      );
    }
  }

  /**
   * Loads what `torch.export.save` wrote, with PyTorch 2.6 or later. A file in a later version of the format than this release
   * knows is reported as a process warning (`NEWER_SCHEMA`).
   *
   * @param source A path, a `file:` URL, or the bytes of the file. A path is mapped into memory, bytes (and with `untrusted` the file) are
   *   copied.
   * @param options `optimize` is for runs without gradients and hooks; `fuse` is TorchScript's. With `dtype`, inputs have to be of that type, too, and what the
   *   graph casts to the type that its weights had it casts to this one.
   * @returns The program, on its device.
   * @throws TorchError `ERR_MODEL_LOAD` where the file is none or broken, `ERR_UNSUPPORTED_FILE` for what isn't served (files of
   *   2.5 and before, compiled packages, objects that exist in Python only), `ERR_UNKNOWN_OPERATOR` for an operator that isn't
   *   registered, `ERR_UNTRUSTED`, `ERR_TIME_LIMIT`, `ERR_INVALID_ARGUMENT`, `ERR_DEVICE_UNAVAILABLE`; the signal's reason
   *   where it was aborted.
   *
   * @example
   * const program = await ExportedProgram.load('model.pt2', { device: 'cpu' });
   */
  static async load<Inputs extends readonly Value[] = readonly Value[], Output extends Value = Value>(
    source: ModelSource,
    options?: Omit<LoadOptions, 'fuse'>,
  ): Promise<ExportedProgram<Inputs, Output>> {
    const {
      given,
      source: from,
      native: checked,
      stop,
    } = await checkLoad(source, options, [...COMMON_LOAD_OPTIONS, 'optimize']);
    const optimize = optionalBoolean(given.optimize, 'optimize') ?? false;
    const handle = await cancellable(stop, (cancellation) =>
      binding().loadExportedProgram(from, { ...checked, optimize, cancellation }),
    ).catch(async (error: unknown) => {
      throw await withKindOfSource(error, from, 'exported-program');
    });
    const program = new ExportedProgram<Inputs, Output>(handle);
    if (given.untrusted) program.defaultLimits = UNTRUSTED_LIMITS;
    return program;
  }

  /**
   * Runs the program.
   *
   * @param inputs One value for each positional parameter.
   * @param options `kwargs` are the inputs by name. As in Python, a parameter may be given either way.
   * @returns What the program gives, in the form that the model had.
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

  /**
   * The same on the calling thread, which it blocks, as `ScriptModule.forwardSync`.
   *
   * @param inputs As of `forward`.
   * @param options As of `forward`. The `signal` counts if it is aborted before, or by one of the hooks.
   * @returns What the program gives, as `forward`.
   * @throws TorchError as `forward`; `ERR_MODEL_RUN` while the program is moved (`to`), and in a hook that a run of it waits
   *   for; `ERR_HOOK_FAILED` where a hook returns a promise. Throws the signal's reason where it was aborted.
   *
   * @example
   * const output = program.forwardSync([ids], { kwargs: { attention_mask: mask } });
   */
  forwardSync(inputs: Inputs, options?: RunOptions & ProgramCallOptions): Output {
    return this.runSync(inputs, options);
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
   * @returns Leaves of inputs and outputs in order, and the symbols in their shapes with their ranges.
   * @throws Nothing.
   *
   * @example
   * for (const { name, dtype, shape } of program.signature().inputs) console.log(name, dtype, shape);
   */
  signature(): ProgramSignature {
    const { inputs, outputs, outputTree, symbols } = this.#form;
    const places = leafPlaces(outputTree, 'output');
    return {
      inputs: inputs.map(toProgramValue),
      outputs: outputs.map((leaf, i) => toProgramValue({ ...leaf, name: places[i] as string })),
      symbols: Object.fromEntries(symbols.map(({ name, min, max }) => [name, { min, max }])),
    };
  }

  /** @internal What a call takes, of the leaves of its inputs. */
  callOfLeaves(leaves: readonly Value[]): { inputs: Inputs; kwargs: { [name: string]: Value } } {
    const [inputs, kwargs] = unflatten(this.#form.inputTree, leaves) as [Value[], { [name: string]: Value }];
    return { inputs: inputs as unknown as Inputs, kwargs };
  }

  /**
   * Names and types of all modules that the program came from, and which hooks can be put on them. A graph has no modules that
   * are called: where a call began and ended is told by its nodes, what went in and came out by the graph, or by the file.
   *
   * | `hookable` | hooks get |
   * | --- | --- |
   * | `'exact'` | what the module's forward took by position and gave, as in Python: modules exported with `preserve_module_call_signature`, and the model itself |
   * | `'single'` | the only tensor that went in (an array of it; empty where there were several) and the only one that came out, whatever was around it |
   * | `false` | no hook: the graph doesn't tell |
   *
   * `hooks` are the kinds that a module takes: `'pre'` needs what goes in, `'forward'` what comes out, `'backward'` both, each a tensor of its own.
   *
   * @returns All modules, `''` (the model itself) first.
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * for (const { name, type, hookable, hooks } of program.modules()) console.log(name, type, hookable, hooks.join(', '));
   */
  override modules(): ProgramModule[] {
    return this.#modules().map((module) => {
      const { name, type, hookable } = module;
      return { name, type, hookable, hooks: hooksTaken(module) };
    });
  }

  #modules(): NativeProgramModule[] {
    return native((addon) => addon.modulesOfExportedProgram(this.native));
  }

  /**
   * All nodes of the graph that give values, in order: where `registerNodeHook` can put a hook.
   *
   * @returns Name, operator and module of each.
   * @throws TorchError `ERR_DISPOSED`.
   *
   * @example
   * const linears = program.nodes().filter(({ operator }) => operator === 'aten::linear');
   */
  nodes(): HookedNode[] {
    return native((addon) => addon.nodesOfExportedProgram(this.native));
  }

  /**
   * Calls `hook` with the value of a node of the graph, each time that it is computed, in every run that begins from now on:
   * what no boundary of a module gives. What it returns takes the value's place for everything behind it, and has to be of the
   * same type and shape. Inputs of the graph, parameters among them, are nodes as well.
   *
   * @param name One of `nodes()`.
   * @param hook Gets (node, output) and returns what takes its place; nothing keeps it. It may be async.
   * @returns What takes the hook off.
   * @throws TorchError `ERR_INVALID_ARGUMENT` for a name that no node has, `ERR_DISPOSED`.
   *
   * @example
   * const handle = program.registerNodeHook('softmax', (_node, weights: Tensor) => weights.mul(0.5));
   * await program.forward([ids], { kwargs: { attention_mask: mask } });
   * handle.remove();
   */
  registerNodeHook<Output extends Value = Value>(name: string, hook: NodeHook<Output>): RemovableHandle {
    if (!isCallable(hook)) throw invalid('a function', 'hook', hook);
    const node = typeof name === 'string' ? this.nodes().find((each) => each.name === name) : undefined;
    if (!node) throw invalid('the name of a node of the graph (nodes() lists them)', 'name', name);
    Object.freeze(node);
    // Of a node the addon knows only a place that can be no module's name.
    return this.putHook('node', name, `.${name}`, nodeCallback(this, node, hook)).handle;
  }

  /** @internal What the addon calls for a hook on a module has leaves, not values. */
  override addHook(
    kind: HookKind,
    path: string,
    hook: ((module: HookedModule, ...values: never[]) => unknown) | undefined,
  ): { handle: RemovableHandle; native: NativeHook } {
    const module = this.#modules().find(({ name }) => name === path);
    if (module) checkHookable(kind, path, module);
    return super.addHook(kind, path, module && hook ? programHook(kind, module, hook) : hook);
  }

  /** @internal */
  override recordOf(kind: HookKind, path: string, input: Value[], output: Value[] | undefined): HookRecord {
    const module = this.#modules().find(({ name }) => name === path);
    return programRecord(kind, module ?? {}, input, output);
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
   * @param inputs Those of the first step: what `forward` takes by position, or `{ inputs, kwargs }`.
   * @param next Makes the inputs of the following step from the output of a step; `undefined` ends the generation.
   * @param options As for `captureAttention`; a layer may leave steps out.
   * @returns The records, one a step: the next step begins when it is asked for. Leaving the loop ends the
   *   generation.
   * @throws TorchError as `captureAttention`, at the step that fails; what `next` throws.
   *
   * @example
   * const steps = program.captureGeneration({ inputs: [ids], kwargs: { cache } }, (output, step) => {
   *   const { logits, cache } = output as { logits: Tensor; cache: Value };
   *   return step < 8 ? { inputs: [logits.argmax(-1)], kwargs: { cache } } : undefined;
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
