// The two types of 16 bits, from and to the numbers of JavaScript. The one place where these are rounded.

const float64 = new Float64Array(1);
const words = new Uint32Array(float64.buffer);
const HIGH = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0; // the word with sign and exponent
/** Adding it to a number from 0 to below 2⁵² rounds that to an integer, ties to even. */
const INTEGERS = 2 ** 52;

/** A function that gives the bits of the nearest number (ties to even) of a format with so many bits of each kind. */
function rounding(exponentBits: number, fractionBits: number): (value: number) => number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const smallest = 1 - bias; // the exponent of the smallest normal number, and of all subnormal ones
  const infinity = (2 ** exponentBits - 1) << fractionBits;
  const quietNaN = infinity | (1 << (fractionBits - 1));
  // By exponent: what turns a number into a multiple of the last place of its kind. Powers of two, so exact.
  const scales = Array.from({ length: 2 * bias }, (_, i) => 2 ** (fractionBits - smallest - i));
  return (value) => {
    float64[0] = value;
    const high = words[HIGH] as number;
    const sign = (high >>> 16) & 0x8000;
    if (Number.isNaN(value)) return sign | quietNaN;
    const exponent = ((high >>> 20) & 0x7ff) - 1023;
    if (exponent > bias) return sign | infinity;
    const place = exponent < smallest ? 0 : exponent - smallest;
    const multiple = Math.abs(value) * (scales[place] as number) + INTEGERS - INTEGERS;
    // The bit above the fraction adds one to the exponent, as does what is rounded up into it: to infinity in the end.
    return sign | (multiple + (place << fractionBits));
  };
}

/** The float16 (IEEE 754 binary16) nearest to `value` (ties to even), as its 16 bits; overflows become infinite. */
export const toFloat16Bits = rounding(5, 10);

/** The bfloat16 nearest to `value` (ties to even), as its 16 bits; overflows become infinite. */
export const toBfloat16Bits = rounding(8, 7);

/** The value of a float16 given by its bits. */
export function fromFloat16Bits(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const float32 = new Float32Array(1);
const bits = new Uint32Array(float32.buffer);

/** The value of a bfloat16 given by its bits. */
export function fromBfloat16Bits(half: number): number {
  bits[0] = half << 16;
  return float32[0] as number;
}
