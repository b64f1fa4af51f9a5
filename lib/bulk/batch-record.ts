/**
 * How results of inputs that were run as one compare to those of single runs.
 *
 * @example
 * const isSame = ({ compared, equal }: BatchRecord): boolean => equal === compared;
 */
export interface BatchRecord {
  /** Inputs that were computed with others. */
  inputs: number;
  /** Inputs of them that were run alone as well. */
  compared: number;
  /** Those of these whose results were the same to the last bit. */
  equal: number;
  /** The largest difference, relative to the largest number of the tensor that it is in. */
  difference: number;
  /** Why inputs were run alone from there on. */
  refused?: string;
}

/** The record of several chunks in one. */
export function mergeBatches(records: readonly (BatchRecord | undefined)[]): BatchRecord | undefined {
  const known = records.filter((each) => each !== undefined);
  const refused = known.find((each) => each.refused !== undefined)?.refused;
  const sum = (count: (record: BatchRecord) => number) => known.reduce((all, each) => all + count(each), 0);
  if (known.length === 0) return undefined;
  return {
    inputs: sum(({ inputs }) => inputs),
    compared: sum(({ compared }) => compared),
    equal: sum(({ equal }) => equal),
    difference: Math.max(...known.map(({ difference }) => difference)),
    ...(refused !== undefined && { refused }),
  };
}
