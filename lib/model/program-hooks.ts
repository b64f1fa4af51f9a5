import type { NativeProgramModule, NativePytree } from '../core/binding';
import { TorchError } from '../core/errors';
import { isThenable } from '../core/thenable';
import type { Value } from '../core/value';
import { HOOK_KINDS, type HookedModule, type HookKind } from './hooks';
import { flatten, leafCount, unflatten } from './pytree';

/** A hook, whatever it is given. */
type AnyHook = (module: HookedModule, ...values: never[]) => unknown;

/** How the leaves that pass a module's boundary in a program's graph form what its hooks get. */
export type HookForm = Pick<NativeProgramModule, 'inputTree' | 'outputTree'>;

/** What to do where a graph doesn't tell what a hook needs. */
const advice = (path: string): string =>
  `export the model with preserve_module_call_signature=('${path}',) in torch.export.export, which records what the module takes ` +
  'and gives, or put a hook on a node of the graph (registerNodeHook)';

/** What a hook wants of a module, and what that is instead; undefined where it is as wanted. */
function refusal(kind: HookKind, module: NativeProgramModule): { expected: string; received: string } | undefined {
  const { hookable, inputs, outputs, separate, outputTree } = module;
  const needsInputs = kind !== 'forward';
  const needsOutputs = kind !== 'pre';
  if (hookable === false || (needsInputs && !inputs) || (needsOutputs && !outputs)) {
    return {
      expected: 'whose inputs and outputs the graph tells',
      received:
        hookable === false && !inputs && !outputs
          ? 'of which the graph tells neither'
          : `of which the graph doesn't tell the ${needsInputs && !inputs ? 'inputs' : 'output'}`,
    };
  }
  if (kind !== 'backward') return undefined;
  const isTuple = outputTree === undefined || outputTree.kind === 'leaf' || outputTree.kind === 'sequence';
  if (!isTuple) return { expected: 'that gives a tensor or a tuple of tensors', received: 'which gives another value' };
  if (separate) return undefined;
  return {
    expected: 'each of whose inputs and outputs is a tensor of its own',
    received:
      'in whose call one tensor stands for several, or is written to, so that their gradients cannot be told apart',
  };
}

/** The kinds of hooks that a module takes. */
export function hooksTaken(module: NativeProgramModule): HookKind[] {
  return HOOK_KINDS.filter((kind) => !refusal(kind, module));
}

/**
 * Refuses a hook that a program's graph doesn't have the values for.
 *
 * @throws TorchError `ERR_NOT_HOOKABLE`.
 */
export function checkHookable(kind: HookKind, path: string, module: NativeProgramModule): void {
  const refused = refusal(kind, module);
  if (!refused) return;
  // Lists and dictionaries of modules are named on the way to others; no node was made in a call of theirs.
  if (module.type === '') {
    throw new TorchError(
      'ERR_NOT_HOOKABLE',
      `Expected a module that is called but received '${path}', which holds modules (a list, for instance): put the hook on one of these, on the module around it, ` +
        'or on a node of the graph (registerNodeHook)',
    );
  }
  throw new TorchError(
    'ERR_NOT_HOOKABLE',
    `Expected a module ${refused.expected} for a ${kind === 'pre' ? 'forward pre-' : `${kind} `}hook but received '${path}', ${refused.received}: ${advice(path)}`,
  );
}

function inputsOf({ inputTree }: HookForm, leaves: Value[]): Value[] {
  return inputTree ? (unflatten(inputTree, leaves) as Value[]) : leaves;
}

function outputOf({ outputTree }: HookForm, leaves: Value[]): Value {
  return outputTree ? unflatten(outputTree, leaves) : leaves[0];
}

/** The parts of a tuple that are tensors by themselves, with null for others: what backward hooks get. */
function tensorsOf(tree: NativePytree | undefined, leaves: Value[]): Value[] {
  if (tree === undefined || tree.kind === 'leaf') return leaves;
  let next = 0;
  return tree.children.map((child) => {
    const first = next;
    next += leafCount(child);
    return child.kind === 'leaf' ? (leaves[first] ?? null) : null;
  });
}

/** What a hook returns in place of inputs: all of them in an array, or the only one. */
function toInputs({ inputTree }: HookForm, result: unknown): unknown {
  if (!inputTree) return result;
  return flatten(inputTree, Array.isArray(result) ? result : [result], 'the inputs');
}

function toGradients({ inputTree }: HookForm, result: unknown): unknown {
  if (!inputTree) return result;
  const given: unknown[] = Array.isArray(result) ? result : [result];
  if (given.length !== inputTree.children.length) return given; // the addon says how many it wants
  return inputTree.children.flatMap((child, i) =>
    [given[i] ?? null, ...Array(leafCount(child)).fill(null)].slice(0, leafCount(child)),
  );
}

/** Does something with what a hook returned; nothing stays nothing. */
function afterHook(result: unknown, convert: (result: unknown) => unknown): unknown {
  if (isThenable(result)) return Promise.resolve(result).then((value) => afterHook(value, convert));
  return result === undefined || result === null ? result : convert(result);
}

/** A hook on a module of a program, as the addon calls it: with leaves. */
export function programHook(kind: HookKind, form: HookForm, hook: AnyHook): AnyHook {
  const call = hook as (module: HookedModule, ...values: unknown[]) => unknown;
  const hooks: Record<HookKind, (module: HookedModule, first: Value[], second: Value[]) => unknown> = {
    pre: (module, inputs) => afterHook(call(module, inputsOf(form, inputs)), (result) => toInputs(form, result)),
    forward: (module, inputs, outputs) =>
      afterHook(call(module, inputsOf(form, inputs), outputOf(form, outputs)), (result) =>
        form.outputTree ? flatten(form.outputTree, result, 'the output') : [result],
      ),
    backward: (module, inputs, outputs) =>
      afterHook(call(module, tensorsOf(form.inputTree, inputs), tensorsOf(form.outputTree, outputs)), (result) =>
        toGradients(form, result),
      ),
  };
  return hooks[kind] as unknown as AnyHook;
}

/** What was recorded natively of a module of a program, as its hooks get it. */
export function programRecord(
  kind: HookKind,
  form: HookForm,
  inputs: Value[],
  outputs: Value[] | undefined,
): { input: Value[]; output?: Value } {
  if (kind === 'backward') {
    return { input: tensorsOf(form.inputTree, inputs), output: tensorsOf(form.outputTree, outputs ?? []) };
  }
  const input = inputsOf(form, inputs);
  return outputs ? { input, output: outputOf(form, outputs[0] as Value[]) } : { input };
}
