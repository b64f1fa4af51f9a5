import type { Tensor } from '../core/tensor';
import type { Awaitable } from '../core/thenable';
import type { Value } from '../core/value';

/**
 * A module as hooks see it.
 *
 * @example
 * const note = (module: HookedModule) => console.log(module.name, module.type);
 * model.registerForwardHook('encoder', note);
 */
export interface HookedModule {
  /** Dotted name; `''` for the model itself. */
  readonly name: string;
  /** Class name. */
  readonly type: string;
}

/**
 * What a hook returns that keeps everything: a function without a return statement has the type void.
 *
 * @inline
 */
// biome-ignore lint/suspicious/noConfusingVoidType: void is what such functions are inferred to return
type Nothing = undefined | void;

/** The only input, where there is one; any where nobody knows how many there are. */
type OnlyOf<Input extends readonly unknown[]> = Input extends readonly [infer Only]
  ? Only
  : number extends Input['length']
    ? Input[number]
    : never;

/**
 * Called before a module with its inputs. An array replaces them all, any other value replaces the only one; nothing
 * (undefined or null) keeps them. What is thrown ends the run with `ERR_HOOK_FAILED`, as its `cause`.
 *
 * @example
 * const double: ForwardPreHook<[Tensor]> = (module, [x]) => x.mul(2);
 * model.registerForwardPreHook('encoder', double);
 */
export type ForwardPreHook<Input extends readonly unknown[] = Value[]> = (
  module: HookedModule,
  input: Input,
) => Awaitable<Input | OnlyOf<Input> | Nothing>;

/**
 * Called after a module with its inputs and its output. A value replaces the output; nothing (undefined or null) keeps it.
 * What is thrown ends the run with `ERR_HOOK_FAILED`, as its `cause`.
 *
 * @example
 * const silence: ForwardHook<[Tensor], Tensor> = (module, [x], output) => output.mul(0);
 * model.registerForwardHook('encoder', silence);
 */
export type ForwardHook<Input extends readonly unknown[] = Value[], Output = Value> = (
  module: HookedModule,
  input: Input,
  output: Output,
) => Awaitable<Output | Nothing>;

/**
 * Called in a backward pass when the gradients of a module's inputs are known; null stands where there is none. An array
 * replaces the input gradients, a tensor the only one; nothing keeps them. What is thrown ends the backward pass with
 * `ERR_HOOK_FAILED`, as its `cause`.
 *
 * @example
 * const clip: FullBackwardHook = (module, gradInput) => gradInput.map((each) => each?.mul(0.5) ?? null);
 * model.registerFullBackwardHook('encoder', clip);
 */
export type FullBackwardHook = (
  module: HookedModule,
  gradInput: (Tensor | null)[],
  gradOutput: (Tensor | null)[],
) => Awaitable<(Tensor | null)[] | Tensor | Nothing>;

/**
 * What a named hook has recorded: of its module's last call.
 *
 * @example
 * const shown = ({ input, output }: HookRecord) => console.log(input, output);
 */
export interface HookRecord {
  /** The inputs; for a backward hook the gradients of the inputs. */
  input: Value[];
  /** The output; for a backward hook the gradients of the outputs, for a pre-hook absent. */
  output?: Value;
}

/**
 * A node of a program's graph as hooks see it.
 *
 * @example
 * const isLinear = ({ operator }: HookedNode) => operator === 'aten::linear';
 */
export interface HookedNode {
  /** Its name in the graph: `'linear_3'`; of a node in a graph inside another behind that one's: `'true_graph_0.add'`. */
  readonly name: string;
  /** The operator that it calls: `'aten::linear'`; `'placeholder'` for an input of the graph. */
  readonly operator: string;
  /** Dotted name of the module that it came from; `''` for the model itself. */
  readonly module: string;
}

/**
 * Called with the value of a node: a value replaces it for all nodes behind it; nothing (undefined or null) keeps it. Of a node
 * that gives several, `output` is an array of them. What is thrown ends the run with `ERR_HOOK_FAILED`, as its `cause`.
 *
 * @example
 * const silence: NodeHook<Tensor> = (node, output) => output.mul(0);
 * program.registerNodeHook('linear_3', silence);
 */
export type NodeHook<Output = Value> = (node: HookedNode, output: Output) => Awaitable<Output | Nothing>;

/**
 * Where a hook stands: before a module (`registerForwardPreHook`), after it (`registerForwardHook`), or in the backward pass
 * (`registerFullBackwardHook`).
 *
 * @example
 * const takes = (kind: HookKind) => program.modules().filter(({ hooks }) => hooks.includes(kind));
 * console.log(takes('pre').length, takes('forward').length, takes('backward').length);
 */
export type HookKind = 'pre' | 'forward' | 'backward';

/** All of them. */
export const HOOK_KINDS: readonly HookKind[] = ['pre', 'forward', 'backward'];
