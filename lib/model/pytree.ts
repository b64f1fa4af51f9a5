import type { NativeLeaf, NativePytree } from '../core/binding';
import { TorchError } from '../core/errors';
import { isHandle, Tensor } from '../core/tensor';
import { invalid } from '../core/validate';
import { PAIRS, type Value } from '../core/value';

/** What a call of a program is given, and what it is to be. */
export interface CallForm {
  /** Of (args, kwargs). */
  tree: NativePytree;
  leaves: readonly NativeLeaf[];
  /** The parameters of `forward` by name; fewer where they aren't known. */
  argumentNames: readonly string[];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isHandle(value) && !Tensor.is(value);
}

/** A Map as an object: in files, keys of dictionaries are told by their text. */
function byText(value: unknown): unknown {
  if (!Array.isArray(value) || !(PAIRS in value)) return value;
  return Object.fromEntries((value as [unknown, unknown][]).map(([key, each]) => [String(key), each]));
}

/** What a container is called in errors. */
function described({ kind, names, children, type }: NativePytree): string {
  if (names.length > 0 && kind !== 'namedtuple') {
    return `an object with ${names.join(', ')}${kind === 'object' ? ` (${type.split('.').at(-1)})` : ''}`;
  }
  return names.length > 0 ? `an array of ${names.join(', ')}` : `an array of ${children.length}`;
}

/** Puts what a call is given into the order of the program's leaves. */
class Flattener {
  readonly #leaves: readonly NativeLeaf[];
  readonly flat: unknown[] = [];

  constructor(leaves: readonly NativeLeaf[]) {
    this.#leaves = leaves;
  }

  add(tree: NativePytree, given: unknown, where: string): void {
    const value = byText(given);
    if (tree.kind === 'leaf') {
      this.flat.push(value === undefined ? null : value);
    } else if (value === undefined && this.#isNothing(tree)) {
      for (const child of tree.children) this.add(child, undefined, where);
    } else if (tree.names.length + tree.absent.length > 0 && isRecord(value)) {
      this.#addNamed(tree, value, where);
    } else if ((tree.names.length === 0 && tree.children.length > 0) || tree.kind !== 'mapping') {
      this.#addInOrder(tree, value, where);
    } else {
      throw invalid(described(tree), where, value);
    }
  }

  #addInOrder(tree: NativePytree, value: unknown, where: string): void {
    const isEmptyObject = tree.children.length === 0 && isRecord(value) && Object.keys(value).length === 0;
    if (isEmptyObject) return;
    if (
      !Array.isArray(value) ||
      value.length !== tree.children.length ||
      (tree.kind === 'object' && tree.names.length > 0)
    )
      throw invalid(described(tree), where, value);
    for (const [i, child] of tree.children.entries()) this.add(child, value[i], `${where}[${i}]`);
  }

  #addNamed(tree: NativePytree, value: Record<string, unknown>, where: string): void {
    for (const name of tree.absent) {
      if (!Object.hasOwn(value, name) || value[name] === null || value[name] === undefined) continue;
      throw invalid('null, which the program was exported for,', `${where}.${name}`, value[name]);
    }
    const known = new Set([...tree.names, ...tree.absent]);
    const unknown = Object.keys(value).find((name) => !known.has(name) && value[name] !== undefined);
    if (unknown !== undefined) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected ${described(tree)} for ${where} but received '${unknown}' in it`,
      );
    }
    for (const [i, child] of tree.children.entries()) {
      const name = tree.names[i] as string;
      const given = Object.hasOwn(value, name) ? value[name] : undefined;
      if (given === undefined && !this.#isNothing(child)) {
        throw new TorchError(
          'ERR_INVALID_ARGUMENT',
          `Expected ${described(tree)} for ${where} but received one without '${name}'`,
        );
      }
      this.add(child, given, `${where}.${name}`);
    }
  }

  /** Whether a part was None when the program was exported, so that it can be left out. */
  #isNothing(tree: NativePytree): boolean {
    const first = this.flat.length;
    const count = leafCount(tree);
    return this.#leaves.slice(first, first + count).every(({ constant }) => constant === null);
  }
}

/** How many values a tree is made of. */
export function leafCount(tree: NativePytree): number {
  return tree.kind === 'leaf' ? 1 : tree.children.reduce((sum, child) => sum + leafCount(child), 0);
}

/** Where each leaf of a tree stands: `output`, or `output.logits`, `output.0` … */
export function leafPlaces(tree: NativePytree, name: string): string[] {
  if (tree.kind === 'leaf') return [name];
  return tree.children.flatMap((child, i) => leafPlaces(child, `${name}.${tree.names[i] ?? i}`));
}

/** `forward(ids, mask, *, labels)`, for errors. */
export function describeCall({ tree, argumentNames }: CallForm): string {
  const [positional, keywords] = tree.children as [NativePytree, NativePytree];
  const names = positional.children.map((_, i) => argumentNames[i] ?? `input ${i}`);
  const keyword = keywords.names.length > 0 ? ['*', ...keywords.names] : [];
  return `forward(${[...names, ...keyword].join(', ')})`;
}

/**
 * The leaves of what a call is given, by position and by name. As in Python, a parameter may be given either way, whichever it
 * had when the program was exported.
 *
 * @throws TorchError `ERR_INVALID_ARGUMENT` where it has another form than the program was exported with.
 */
export function flattenCall(form: CallForm, inputs: readonly unknown[], kwargs: Record<string, unknown>): unknown[] {
  const { tree, argumentNames, leaves } = form;
  const [positional, keywords] = tree.children as [NativePytree, NativePytree];
  const flattener = new Flattener(leaves);
  const byName = new Map(Object.entries(kwargs).filter(([, value]) => value !== undefined));
  const expected = describeCall(form);
  const take = (name: string | undefined, position: number | undefined): unknown => {
    const given = position === undefined ? undefined : inputs[position];
    if (name === undefined || !byName.has(name)) return given;
    if (given !== undefined) {
      throw new TorchError('ERR_INVALID_ARGUMENT', `Expected '${name}' once for ${expected} but received it twice`);
    }
    const value = byName.get(name);
    byName.delete(name);
    return value;
  };
  const most = Math.max(positional.children.length, argumentNames.length);
  if (inputs.length > most) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected at most ${most} inputs for ${expected} but received ${inputs.length}`,
    );
  }
  const add = (child: NativePytree, value: unknown, where: string): void => {
    const first = flattener.flat.length;
    const leaf = leaves[first];
    if (value === undefined && child.kind === 'leaf' && leaf?.constant !== null) {
      throw new TorchError('ERR_INVALID_ARGUMENT', `Expected ${where} for ${expected} but received none`);
    }
    flattener.add(child, value, where);
  };
  for (const [i, child] of positional.children.entries()) {
    const name = argumentNames[i];
    add(child, take(name, i), name === undefined ? `input ${i}` : `input '${name}'`);
  }
  for (const [i, child] of keywords.children.entries()) {
    const name = keywords.names[i] as string;
    const position = argumentNames.indexOf(name);
    const inPosition = position >= positional.children.length ? position : undefined;
    add(child, take(name, inPosition), `input '${name}'`);
  }
  const [left] = byName.keys();
  const unused = inputs.findIndex(
    (value, i) =>
      i >= positional.children.length && value !== undefined && !keywords.names.includes(argumentNames[i] ?? ''),
  );
  if (left !== undefined || unused >= 0) {
    const received = left === undefined ? `an input ${unused}` : `'${left}'`;
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected the inputs that the program was exported with, ${expected}, but received ${received} beside them`,
    );
  }
  return flattener.flat;
}

/**
 * The leaves of a value.
 *
 * @throws TorchError `ERR_INVALID_ARGUMENT` where it has another form than the tree.
 */
export function flatten(tree: NativePytree, value: unknown, where: string): unknown[] {
  const flattener = new Flattener(Array(leafCount(tree)).fill({ name: '', type: '', shape: [] }));
  flattener.add(tree, value, where);
  return flattener.flat;
}

/** The value that leaves form. */
export function unflatten(tree: NativePytree, leaves: readonly Value[]): Value {
  let next = 0;
  const build = (part: NativePytree): Value => {
    if (part.kind === 'leaf') return leaves[next++];
    const values = part.children.map(build);
    if (part.names.length + part.absent.length === 0) return part.kind === 'mapping' ? {} : values;
    if (part.kind !== 'namedtuple') {
      const absent = part.absent.map((name): [string, Value] => [name, null]);
      return Object.fromEntries([...part.names.map((name, i) => [name, values[i]] as [string, Value]), ...absent]);
    }
    // As what TorchScript gives: an array whose elements have names as well.
    for (const [i, name] of part.names.entries()) {
      if (name in values) continue;
      Object.defineProperty(values, name, { value: values[i], writable: true, enumerable: true, configurable: true });
    }
    return values;
  };
  return build(tree);
}
