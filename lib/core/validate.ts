import { isNativeError } from 'node:util/types';
import { TorchError } from './errors';

// Arguments may be anything: proxies, objects whose getters throw, change what was read before or detach a buffer. So each
// is read once, into values of our own, and what reading it throws becomes an error of this package.

/** The most elements of an array given as an argument: what V8 can hold of them twice, with much to spare. */
export const MAX_ELEMENTS = 2 ** 25;

/** Strings are shown up to here. */
const MAX_SHOWN = 100;

/** A value as an error message shows it: "5 of type number", "an Array of length 2". */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value === 'function') return isCallable(value) ? 'a function' : 'a class';
  if (typeof value === 'object') {
    try {
      if (Array.isArray(value)) return `an Array of length ${Number(value.length)}`;
      const name: unknown = (value as object).constructor?.name;
      if (typeof name === 'string' && name !== '' && name !== 'Object')
        return `an instance of ${shortened(publicName(name))}`;
      return isPlainObject(value) ? 'an object' : 'an object that is no plain one';
    } catch {
      return 'an object that can not be read';
    }
  }
  const text = shortened(String(value));
  return `${typeof value === 'string' ? `'${text}'` : text} of type ${typeof value}`;
}

/** What users know the addon's own classes as. */
const publicName = (name: string): string => name.replace(/^Native(?=(Tensor|ScriptObject)$)/, '');

/** What something that was thrown says, whatever it is. */
export function reasonOf(thrown: unknown): string {
  try {
    // Not `instanceof Error` alone: what Node throws may be of another realm than this module.
    return String(thrown instanceof Error || isNativeError(thrown) ? thrown.message : thrown);
  } catch {
    return shown(thrown);
  }
}

/** A text of any length as an error message shows it. */
export function shortened(text: string, most = MAX_SHOWN): string {
  return text.length <= most ? text : `${text.slice(0, most)}… (${text.length} characters)`;
}

/** What `read` makes of an argument. What that throws of its own is the caller's argument's doing. */
export function reading<Result>(what: string, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    if (error instanceof TorchError) throw error;
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected ${what} that can be read but received what throws`, {
      cause: error,
    });
  }
}

/**
 * The elements of an array, each read once by `read`; holes are undefined.
 *
 * @param expected What the array is, for errors: `'an array of sizes'`.
 */
export function elements<Element>(
  value: unknown,
  expected: string,
  what: string,
  read: (element: unknown, index: number) => Element,
  most = MAX_ELEMENTS,
): Element[] {
  return reading(what, () => {
    if (!Array.isArray(value)) throw invalid(expected, what, value);
    const length: unknown = value.length;
    const count = integer(length, `the length of ${what}`, 0, most);
    const list: Element[] = [];
    for (let i = 0; i < count; ++i) list.push(read(value[i], i));
    return list;
  });
}

/** The error for an argument that isn't what it should be. */
export function invalid(expected: string, what: string, received: unknown): TorchError {
  return new TorchError('ERR_INVALID_ARGUMENT', `Expected ${expected} for ${what} but received ${shown(received)}`);
}

/** Checks that `value` is an integer from `min` to `max`. */
export function integer(
  value: unknown,
  what: string,
  min = Number.MIN_SAFE_INTEGER,
  max = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    const range =
      min === Number.MIN_SAFE_INTEGER
        ? 'an integer'
        : max === Number.MAX_SAFE_INTEGER
          ? `an integer of at least ${min}`
          : `an integer from ${min} to ${max}`;
    throw invalid(range, what, value);
  }
  return value;
}

/** Checks that `value` is absent or one of the two booleans. */
export function optionalBoolean(value: unknown, what: string): boolean | undefined {
  if (value !== undefined && typeof value !== 'boolean') throw invalid('a boolean', what, value);
  return value;
}

/** Checks that `value` is absent or one of `choices`. */
export function optionalChoice<Choice extends string>(
  value: unknown,
  choices: readonly Choice[],
  what: string,
): Choice | undefined {
  if (value === undefined) return undefined;
  if (!choices.includes(value as Choice))
    throw invalid(choices.map((choice) => `'${choice}'`).join(' or '), what, value);
  return value as Choice;
}

/** Checks that `value` is absent or a string. */
export function optionalString(value: unknown, what: string): string | undefined {
  if (value !== undefined && typeof value !== 'string') throw invalid('a string', what, value);
  return value;
}

/**
 * Whether a value is an object of no particular class, of any realm: such as are written `{ … }`, or have no prototype. Arrays,
 * instances of classes and what the language itself has one of (`Math`) are none.
 */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (value === null || typeof value !== 'object') return false;
  try {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === null) return true;
    // Only the prototype of plain objects has none itself; each realm has its own.
    return Object.getPrototypeOf(prototype) === null && Object.prototype.toString.call(value) === '[object Object]';
  } catch {
    return false; // a proxy, or a getter of Symbol.toStringTag
  }
}

/** The names and values of an object's own properties, each read once. */
export function entriesOf(value: object, what: string): [string, unknown][] {
  return reading(what, () => Object.entries(value));
}

/**
 * Checks that `value` is absent or an object that may hold options. An instance of a class may; one without values of its own
 * (a tensor) stands where something else was meant.
 */
export function optionsObject<Options extends object>(value: Options | undefined, what: string): Options {
  if (value === undefined) return {} as Options;
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw invalid('an object', what, value);
  if (!isPlainObject(value) && !hasOwnValues(value)) throw invalid('an object', what, value);
  return value;
}

/** Whether an object has properties of its own that aren't computed. */
function hasOwnValues(value: object): boolean {
  return Object.values(Object.getOwnPropertyDescriptors(value)).some((each) => each.enumerable && 'value' in each);
}

/** Whether a value can be called: a class can't without `new`. */
export function isCallable(value: unknown): value is (...values: never[]) => unknown {
  return typeof value === 'function' && !/^class\b/.test(Function.prototype.toString.call(value));
}

/** Refuses an option that isn't one here, with `expected` saying why. */
export function refuseOption(value: object | null | undefined, name: string, expected: string): void {
  const given = reading('the options', () => (value as Record<string, unknown> | null | undefined)?.[name]);
  if (given === undefined) return;
  throw new TorchError('ERR_INVALID_ARGUMENT', `Expected ${expected} but received ${shown(given)}`);
}

/**
 * Checks that `value` is absent or an object of options, and that it sets no option that isn't known. What it returns is an
 * object of our own with those that are set.
 */
export function options<Options extends object>(
  value: Options | undefined,
  known: readonly string[],
  what: string,
): Options {
  return reading(what, () => {
    const given = optionsObject(value, what);
    for (const name of Object.keys(given)) {
      if (known.includes(name) || given[name as keyof Options] === undefined) continue;
      if (!isPlainObject(given)) throw invalid('an object', what, given);
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected one of the options ${known.join(', ')} in ${what} but received '${shortened(name)}'`,
      );
    }
    const read: Record<string, unknown> = {};
    for (const name of known) {
      const option = given[name as keyof Options];
      if (option !== undefined) read[name] = option;
    }
    return read as Options;
  });
}

const abortedOf = Object.getOwnPropertyDescriptor(AbortSignal.prototype, 'aborted')?.get as (this: unknown) => boolean;

/** Also its class has to be one: an object with the prototype of a signal can't be listened to. */
function isAbortSignal(value: unknown): value is AbortSignal {
  try {
    abortedOf.call(value);
    return value instanceof AbortSignal;
  } catch {
    return false;
  }
}

/** Checks that `value` is absent or an AbortSignal. */
export function optionalSignal(value: unknown): AbortSignal | undefined {
  if (value !== undefined && !isAbortSignal(value)) throw invalid('an AbortSignal', 'signal', value);
  return value;
}
