import { TorchError } from '../core/errors';
import type { Entry } from '../formats/entry';

/** A parameter of a model's forward, as its signature has it. */
export interface Parameter {
  name: string;
  type: string;
  /** Whether it has a default. */
  optional: boolean;
}

/**
 * Puts inputs in the order of the method's parameters where all their names are parameters' names (a parameter without
 * an input, before one with, is null), else leaves them in file order.
 */
export function arrangeInputs(entries: readonly Entry[], parameters: readonly Parameter[]): (Entry | null)[] {
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  const known = new Set(parameters.map(({ name }) => name));
  if (!entries.every(({ name }) => known.has(name))) return [...entries];
  const last = parameters.findLastIndex(({ name }) => byName.has(name));
  return parameters.slice(0, last + 1).map(({ name, type }) => {
    const entry = byName.get(name);
    if (entry || takesNone(type)) return entry ?? null;
    const received = entries.map((other) => `'${other.name}'`).join(', ');
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected an input '${name}' (${type}) but received ${received} only`);
  });
}

/** Whether a parameter of this type may be null. */
function takesNone(type: string): boolean {
  return /^Optional\[|\?$/.test(type);
}

/** Whether a call may do without this parameter, if nothing that comes after it is given. */
export function isOptional({ type, optional }: Parameter): boolean {
  return optional || takesNone(type);
}

/** A line for those who misspelt a name: why inputs went by file order. */
export function describeOrder(entries: readonly Entry[], parameters: readonly Parameter[]): string | undefined {
  const known = new Set(parameters.map(({ name }) => name));
  const unknown = entries.filter(({ name }) => !known.has(name) && !/^(arr_)?\d+$/.test(name)).map(({ name }) => name);
  if (!unknown.length) return undefined;
  const names = parameters.map(({ name }) => name).join(', ');
  return `note: inputs go to forward(${names}) in file order: it has no parameter ${unknown.join(', ')}`;
}
