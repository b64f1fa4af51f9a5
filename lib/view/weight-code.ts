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

/** Of float32, what stands for cells that are masked (a zero with a sign), or were not captured (a NaN of its own). */
export const MASKED_BITS = 0x80000000;
export const ABSENT_BITS = 0x7fc00001;

export interface LogCode {
  bits: 8 | 16;
  /** Whether codes have a sign; then each level has two, the second of the negative. */
  signed: boolean;
  /** The code of NaN, above all others. */
  nan: number;
  /** How many sizes are told apart. */
  levels: number;
  /** The least share of the scale that has a level of its own. */
  floor: number;
  /** The distance between neighbouring levels, as a natural logarithm. */
  step: number;
  /** By how much a decoded weight may be off, as a share of it. */
  error: number;
}

function logCode(bits: 8 | 16, floor: number, signed: boolean): LogCode {
  const nan = 2 ** bits - 1;
  const levels = Math.floor((nan - FIRST) / (signed ? 2 : 1));
  const step = -Math.log(floor) / (levels - 1);
  // Beside half a step, what the table of codes rounds away.
  return { bits, signed, nan, levels, floor, step, error: Math.expm1(step / 2 + (bits === 8 ? 2 ** -12 : 1e-6)) };
}

/** A byte a weight, at most 2.8 % off. */
export const LOG8 = logCode(8, 1.2e-6, false);
/** Two bytes a weight, at most 0.022 % off. */
export const LOG16 = logCode(16, 1e-12, false);
/** Half as many levels, with signs: at most 5.7 and 0.043 % off. */
const SIGNED8 = logCode(8, 1.2e-6, true);
const SIGNED16 = logCode(16, 1e-12, true);

/** The code for weights that are negative too, or never. */
export function logCodeOf(bits: 8 | 16, signed: boolean | undefined): LogCode {
  if (bits === 8) return signed ? SIGNED8 : LOG8;
  return signed ? SIGNED16 : LOG16;
}

/** The code of a size's level. */
function codeOfLevel({ signed, levels }: LogCode, level: number, negative: boolean): number {
  if (level < 0) return TINY;
  const at = Math.min(level, levels - 1);
  return FIRST + (signed ? 2 * at + (negative ? 1 : 0) : at);
}

/** The code of a weight that is neither masked nor absent, as a share of the scale. */
export function encodeWeight(code: LogCode, share: number): number {
  const magnitude = Math.abs(share);
  if (magnitude === 0) return ZERO;
  if (!(magnitude < Number.POSITIVE_INFINITY)) return code.nan;
  return codeOfLevel(code, Math.round(Math.log(magnitude / code.floor) / code.step), share < 0);
}

/** What a code stands for; 0 for masked, absent and zero, half of the floor for what lies below it. */
export function decodeWeight({ nan, step, floor, signed }: LogCode, code: number, scale: number): number {
  if (code === nan) return Number.NaN;
  if (code < TINY) return 0;
  if (code === TINY) return (floor / 2) * scale;
  const at = code - FIRST;
  if (!signed) return floor * Math.exp(at * step) * scale;
  return (at % 2 ? -1 : 1) * floor * Math.exp((at >> 1) * step) * scale;
}
