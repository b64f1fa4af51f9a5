import { TorchError } from '../core/errors';
import type { Entry } from '../formats/entry';

/** An input of forward by name: `zeros` or `ones`, as many as the text has tokens, or numbers. */
export interface GivenInput {
  name: string;
  values: 'zeros' | 'ones' | number[];
}

/**
 * The inputs that were given by name, as entries.
 *
 * @param length Elements of those that are zeros or ones.
 * @param parameters Those of forward, where a name has to be among them.
 */
export function givenEntries(
  given: readonly GivenInput[],
  length: number,
  parameters?: readonly { name: string }[],
): Map<string, Entry> {
  return new Map(
    given.map(({ name, values }) => {
      if (parameters && !parameters.some((parameter) => parameter.name === name)) {
        const known = parameters.map((parameter) => parameter.name).join(', ');
        throw new TorchError(
          'ERR_INVALID_ARGUMENT',
          `Expected --input of a parameter of forward(${known}) but received '${name}'`,
        );
      }
      const numbers = Array.isArray(values) ? values : new Array<number>(length).fill(values === 'ones' ? 1 : 0);
      const whole = numbers.every(Number.isInteger);
      const data = whole ? BigInt64Array.from(numbers, BigInt) : Float32Array.from(numbers);
      return [name, { name, dtype: whole ? 'int64' : 'float32', shape: [1, numbers.length], data } satisfies Entry];
    }),
  );
}
