import { extname } from 'node:path';
import { TorchError } from '../core/errors';
import type { Entries, Entry } from '../formats/entry';
import { readJson } from '../formats/json';
import { readNpz } from '../formats/npz';
import { readSafetensors } from '../formats/safetensors';

/** A parameter of a TorchScript method, as its signature has it. */
export interface Parameter {
  name: string;
  type: string;
  /** Whether it has a default. */
  optional: boolean;
}

const READERS: Record<string, (path: string) => Promise<Entries>> = {
  '.safetensors': readSafetensors,
  '.npz': readNpz,
  '.json': readJson,
};

/** Reads the tensors of an input file, by its extension. */
export async function readInputs(path: string): Promise<Entry[]> {
  const reader = READERS[extname(path).toLowerCase()];
  if (!reader) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected inputs in a .safetensors, .npz or .json file but received ${path}`,
    );
  }
  let entries: Entry[];
  try {
    ({ entries } = await reader(path));
  } catch (error) {
    if (error instanceof TorchError) throw error;
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a readable file of inputs: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (!entries.length)
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected at least one tensor in ${path} but received none`);
  return entries;
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
