import { TorchError } from '../../dist/index.js';

/** What can become of a case; those behind `ran` are faults, the last one of the fuzzer itself: the case could not be made. */
export const OUTCOMES = ['refused', 'ran', 'crashed', 'hung', 'swollen', 'uncoded', 'disclosed', 'wrong', 'unmade'];
export const FAULTS = OUTCOMES.slice(2);

/** A fault that a target found by looking. */
export class Fault extends Error {
  constructor(outcome, message) {
    super(message);
    this.outcome = outcome;
  }
}

/** Whether an error is of the kind that the package may throw: one with a code, or the reason of `signal`. */
export function isExpected(error, signal) {
  if (signal?.aborted && error === signal.reason) return true;
  return error instanceof TorchError && typeof error.code === 'string' && error.message.length > 0;
}

/**
 * Does what may be refused.
 * @returns the outcome: `refused` where it was, with a code; otherwise what `work` gives, or `ran`.
 * @throws Fault for an error without a code.
 */
export async function attempt(work, signal) {
  try {
    return (await work()) ?? 'ran';
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (isExpected(error, signal)) return 'refused';
    throw new Fault('uncoded', describe(error));
  }
}

function describe(error) {
  if (!(error instanceof Error)) return `thrown: ${String(error)}`;
  const place = /\n\s+at (.*)/.exec(error.stack ?? '')?.[1] ?? '';
  return `${error.name}: ${error.message.slice(0, 300)} (${place})`;
}
