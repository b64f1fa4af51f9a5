import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Random choices that are the same each time for the same seed and index. */
export class Random {
  #generator;

  constructor(seed, index = 0) {
    this.#generator = xoroshiro128plus(Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b));
    // Close seeds begin alike.
    for (let i = 0; i < 8; i++) this.#generator.next();
  }

  /** An integer of [0, end). */
  below(end) {
    return uniformInt(this.#generator, 0, end - 1);
  }

  /** An integer of [from, to]. */
  between(from, to) {
    return uniformInt(this.#generator, from, to);
  }

  chance(probability) {
    return this.below(1_000_000) < probability * 1_000_000;
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  bytes(length) {
    return Uint8Array.from({ length }, () => this.below(256));
  }

  /** An integer of the kind at which programs go wrong. */
  integer(near = 0) {
    const powers = [7, 8, 15, 16, 31, 32, 33, 40, 53, 62, 63].map((power) => 2n ** BigInt(power));
    const value = this.pick([
      () => BigInt(this.below(17)),
      () => BigInt(near) + BigInt(this.between(-2, 2)),
      () => BigInt(near) * BigInt(this.pick([2, 4, 1000])),
      () => this.pick(powers) + BigInt(this.between(-1, 1)),
      () => -this.pick(powers) + BigInt(this.between(-1, 1)),
      () => BigInt(this.between(-0x80000000, 0x7fffffff)),
    ])();
    return BigInt.asIntN(64, value);
  }
}
