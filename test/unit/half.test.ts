import fc from 'fast-check';
import { fromBfloat16Bits, fromFloat16Bits, toBfloat16Bits, toFloat16Bits } from '../../lib/core/half';
import { type DType, Tensor } from '../../lib/index';

interface Format {
  dtype: DType;
  to: (value: number) => number;
  from: (bits: number) => number;
  infinity: number;
}

const FLOAT16: Format = { dtype: 'float16', to: toFloat16Bits, from: fromFloat16Bits, infinity: 0x7c00 };
const BFLOAT16: Format = { dtype: 'bfloat16', to: toBfloat16Bits, from: fromBfloat16Bits, infinity: 0x7f80 };

/** The bits of every number of either format. */
const ALL = Array.from({ length: 0x10000 }, (_, bits) => bits);

const word = new DataView(new ArrayBuffer(8));

/** A finite number as an integer multiple of 2⁻¹⁰⁷⁴, exactly. */
function exact(value: number): bigint {
  word.setFloat64(0, value);
  const bits = word.getBigUint64(0);
  const exponent = (bits >> 52n) & 0x7ffn;
  const fraction = bits & ((1n << 52n) - 1n);
  const magnitude = exponent === 0n ? fraction : (fraction | (1n << 52n)) << (exponent - 1n);
  return bits >> 63n ? -magnitude : magnitude;
}

/** The bits of the nearest number of a format, by comparing exactly with the two neighbours: slow, and plain. */
function reference({ from, infinity }: Format, value: number): number {
  word.setFloat64(0, value);
  const sign = word.getUint8(0) & 0x80 ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  // The largest bits whose value is not above it.
  let [low, high] = [0, infinity];
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if (from(middle) <= magnitude) low = middle;
    else high = middle;
  }
  if (magnitude === Number.POSITIVE_INFINITY) return sign | infinity;
  // Infinity stands where the next number would be.
  const below = exact(from(low));
  const above = low + 1 === infinity ? 2n * below - exact(from(low - 1)) : exact(from(low + 1));
  const [down, up] = [exact(magnitude) - below, above - exact(magnitude)];
  return sign | (down < up || (down === up && low % 2 === 0) ? low : low + 1);
}

/** Numbers of all sizes, and those around the middle between two of the format. */
function numbersFor({ from, infinity }: Format): fc.Arbitrary<number> {
  const nearMiddle = fc
    .tuple(fc.nat({ max: infinity - 2 }), fc.integer({ min: -3, max: 3 }), fc.boolean())
    .map(([bits, steps, negative]) => {
      word.setFloat64(0, (from(bits) + from(bits + 1)) / 2);
      word.setBigInt64(0, word.getBigInt64(0) + BigInt(steps));
      return negative ? -word.getFloat64(0) : word.getFloat64(0);
    });
  return fc.oneof(fc.double({ noNaN: true }), nearMiddle, fc.double({ min: -1e-4, max: 1e-4, noNaN: true }));
}

describe('toFloat16Bits, toBfloat16Bits and back', () => {
  describe.each([FLOAT16, BFLOAT16])('$dtype', (format) => {
    test('every number becomes the nearest, ties to even, as exact arithmetic has it', () => {
      fc.assert(
        fc.property(numbersFor(format), (value) => {
          expect(format.to(value)).toBe(reference(format, value));
        }),
        { numRuns: 5000 },
      );
    });

    test('tensors are made with the same conversion, of numbers and of float64', () => {
      fc.assert(
        fc.property(fc.array(numbersFor(format), { minLength: 1, maxLength: 20 }), (values) => {
          const expected = Uint16Array.from(values, format.to);
          const { dtype } = format;
          expect(Tensor.from(values, { dtype }).toTypedArray()).toEqual(expected);
          expect(Tensor.from(Float64Array.from(values), { dtype }).toTypedArray()).toEqual(expected);
        }),
        { numRuns: 50 },
      );
    });

    test('all values of the format come back as they were', () => {
      const values = ALL.filter((bits) => (bits & 0x7fff) <= format.infinity);
      expect(values.filter((bits) => format.to(format.from(bits)) !== bits)).toEqual([]);
    });

    test('what is no number stays none, with its sign', () => {
      const quiet = format.infinity | (format.dtype === 'float16' ? 0x200 : 0x40);
      expect(format.to(Number.NaN) & 0x7fff).toBe(quiet);
      word.setBigUint64(0, 0xfff8000000000001n);
      expect(format.to(word.getFloat64(0)) & 0x7fff).toBe(quiet);
    });
  });

  test('a number just above the middle is not rounded twice', () => {
    expect(toFloat16Bits(1 + 2 ** -11 + 2 ** -30)).toBe(0x3c01);
    expect(toBfloat16Bits(1 + 2 ** -8 + 2 ** -40)).toBe(0x3f81);
  });

  test('every float16 survives the way to a number and back', () => {
    const back = (bits: number) =>
      toFloat16Bits(fromFloat16Bits(bits)) & (Number.isNaN(fromFloat16Bits(bits)) ? 0x7fff : 0xffff);
    const wanted = (bits: number) => (Number.isNaN(fromFloat16Bits(bits)) ? 0x7e00 : bits);
    expect(ALL.filter((bits) => back(bits) !== wanted(bits))).toEqual([]);
  });

  test('rounds to nearest, ties to even, and overflows to infinity', () => {
    expect(toFloat16Bits(1 + 2 ** -11)).toBe(0x3c00);
    expect(toFloat16Bits(1 + 3 * 2 ** -11)).toBe(0x3c02);
    expect(toFloat16Bits(65519)).toBe(0x7bff);
    expect(toFloat16Bits(65520)).toBe(0x7c00);
    expect(toFloat16Bits(2 ** -25)).toBe(0);
    expect(toFloat16Bits(1.5 * 2 ** -24)).toBe(2);
    expect(toFloat16Bits(2 ** -14 - 2 ** -26)).toBe(0x0400);
    expect(toBfloat16Bits(1 + 2 ** -8)).toBe(0x3f80);
    expect(toBfloat16Bits(1 + 3 * 2 ** -8)).toBe(0x3f82);
    expect(fromBfloat16Bits(toBfloat16Bits(Number.NaN))).toBeNaN();
    expect(fromBfloat16Bits(0xc020)).toBe(-2.5);
  });
});
