/**
 * Weights as integers on a logarithmic scale, with codes for what is no weight. The codes are ordered so that the largest
 * code of a block of cells is what a reader wants to know of the block: masked only where all of it is, NaN wherever
 * there is any.
 */
export const MASKED = 0;
/** Not captured: outside of the strongest keys of a capture that has nothing else. */
export const ABSENT = 1;
export const ZERO = 2;
/** More than nothing and less than the scale reaches down to. */
export const TINY = 3;
const FIRST = 4;

export interface LogCode {
  bits: 8 | 16;
  /** The code of NaN, above all others. */
  nan: number;
  /** The least share of the scale that has a level of its own. */
  floor: number;
  /** The distance between neighbouring levels, as a natural logarithm. */
  step: number;
  /** By how much a decoded weight may be off, as a share of it. */
  error: number;
}

function logCode(bits: 8 | 16, floor: number): LogCode {
  const nan = 2 ** bits - 1;
  const step = -Math.log(floor) / (nan - 1 - FIRST);
  // Beside half a step, what the table of codes rounds away.
  return { bits, nan, floor, step, error: Math.expm1(step / 2 + (bits === 8 ? 2 ** -12 : 1e-6)) };
}

/** A byte a weight, at most 2.8 % off. */
export const LOG8 = logCode(8, 1.2e-6);
/** Two bytes a weight, at most 0.022 % off. */
export const LOG16 = logCode(16, 1e-12);

/** The code of a weight that is neither masked nor absent, as a share of the scale. */
export function encodeWeight({ nan, step, floor }: LogCode, share: number): number {
  const magnitude = Math.abs(share);
  if (magnitude === 0) return ZERO;
  if (!(magnitude < Number.POSITIVE_INFINITY)) return nan;
  const level = Math.round(Math.log(magnitude / floor) / step);
  return level < 0 ? TINY : Math.min(FIRST + level, nan - 1);
}

/** What a code stands for; 0 for masked, absent and zero, half of the floor for what lies below it. */
export function decodeWeight({ nan, step, floor }: LogCode, code: number, scale: number): number {
  if (code === nan) return Number.NaN;
  if (code < TINY) return 0;
  return code === TINY ? (floor / 2) * scale : floor * Math.exp((code - FIRST) * step) * scale;
}
