import { TorchError } from './errors';

/** A value as an error message shows it: "5 of type number", "an Array of length 2". */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return `an Array of length ${value.length}`;
  if (typeof value === 'function') return `a function`;
  if (typeof value === 'object') {
    const name = (value as object).constructor?.name;
    return name && name !== 'Object' ? `an instance of ${name}` : 'an object';
  }
  return `${typeof value === 'string' ? `'${value}'` : String(value)} of type ${typeof value}`;
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

/** Whether a value is an object of no particular class; such as are written `{ … }`. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return shown(value) === 'an object';
}

/**
 * Checks that `value` is absent or an object that may hold options. An instance of a class may; one without anything of its
 * own (a tensor) stands where something else was meant.
 */
export function optionsObject<Options extends object>(value: Options | undefined, what: string): Options {
  if (value === undefined) return {} as Options;
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw invalid('an object', what, value);
  if (!isPlainObject(value) && Object.keys(value).length === 0) throw invalid('an object', what, value);
  return value;
}

/** Checks that `value` is absent or an object of options, and that it sets no option that isn't known. */
export function options<Options extends object>(
  value: Options | undefined,
  known: readonly string[],
  what: string,
): Options {
  const given = optionsObject(value, what);
  for (const name of Object.keys(given)) {
    if (known.includes(name) || given[name as keyof Options] === undefined) continue;
    if (!isPlainObject(given)) throw invalid('an object', what, given);
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected one of the options ${known.join(', ')} in ${what} but received '${name}'`,
    );
  }
  return given;
}

/** Checks that `value` is absent or an AbortSignal. */
export function optionalSignal(value: unknown): AbortSignal | undefined {
  if (value !== undefined && !(value instanceof AbortSignal)) throw invalid('an AbortSignal', 'signal', value);
  return value;
}
