import { createRequire } from 'node:module';
import { join } from 'node:path';

/** The folder that holds the project: dist/, test/fixtures/. */
export const PROJECT = process.env.GPU_CHECK_PROJECT ?? join(import.meta.dirname ?? '.', '..', '..');

const require = createRequire(join(PROJECT, 'package.json'));

/** The package under test, as its users get it. */
export const torch = require('./dist/index.js');
const { Tensor } = torch;
export const { readSafetensors } = require('./dist/formats/safetensors.js');

/**
 * How far a result on a device may be from its reference, relative to the largest element where that is beyond 1. Sums are
 * taken in another order there; half types round after every operator.
 */
export const TOLERANCE = { float64: 1e-9, float32: 1e-4, float16: 1e-2, bfloat16: 4e-2 };

/** The tolerance for what was computed in `dtype`, never below what its fixture states. */
export const tolerance = (dtype, stated = 0) => Math.max(TOLERANCE[dtype] ?? 0, stated);

/** Ends a check that this device or machine cannot answer. */
export class Skipped extends Error {}
export function skip(reason) {
  throw new Skipped(reason);
}

export function check(holds, message) {
  if (!holds) throw new Error(message);
}

export function same(received, expected, what) {
  const [left, right] = [JSON.stringify(received), JSON.stringify(expected)];
  check(left === right, `${what}: expected ${right?.slice(0, 300)} but received ${left?.slice(0, 300)}`);
}

/** The error that a promise or a function fails with; an error where it doesn't fail. */
export async function failure(run, what) {
  try {
    await run();
  } catch (error) {
    return error;
  }
  throw new Error(`${what}: expected an error but received none`);
}

/** A tensor's elements as numbers, whatever their type and device. */
export function numbers(tensor) {
  const host = tensor.device === 'cpu' ? tensor : tensor.to({ device: 'cpu' });
  return host.to({ dtype: 'float64' }).toTypedArray();
}

export function isTensor(value) {
  return value instanceof Tensor;
}

/** All tensors of a value, in order. */
export function tensorsIn(value) {
  if (isTensor(value)) return [value];
  // An array of a named tuple has its fields as properties too.
  if (Array.isArray(value)) return value.flatMap((each) => tensorsIn(each));
  if (value === null || typeof value !== 'object') return [];
  return Object.values(value).flatMap(tensorsIn);
}

export function mapTensors(value, change) {
  if (isTensor(value)) return change(value);
  if (Array.isArray(value)) return value.map((each) => mapTensors(each, change));
  if (value === null || typeof value !== 'object' || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, mapTensors(each, change)]));
}

/** A value with its tensors on a device. */
export const onDevice = (value, device) => mapTensors(value, (tensor) => tensor.to({ device }));

/** The largest difference of two tensors relative to the larger of 1 and the largest element; infinite where they don't fit. */
export function difference(received, expected, counts = () => true) {
  if (received.shape.join() !== expected.shape.join()) return Number.POSITIVE_INFINITY;
  const [left, right] = [numbers(received), numbers(expected)];
  let worst = 0;
  let scale = 1;
  for (let i = 0; i < left.length; i++) {
    if (Number.isFinite(right[i])) scale = Math.max(scale, Math.abs(right[i]));
    if (Object.is(left[i], right[i]) || left[i] === right[i] || !counts(i)) continue;
    const distance = Math.abs(left[i] - right[i]);
    if (!(distance <= worst)) worst = Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance;
  }
  return worst / scale;
}

export function close(received, expected, allowed, what, counts) {
  const distance = difference(received, expected, counts);
  check(
    distance <= allowed,
    `${what}: expected [${expected.shape}] within ${allowed} but received [${received.shape}], off by ${distance}`,
  );
}

/** That two values have the same structure, and tensors within the tolerance of their type (or of `allowed`). */
export function closeValues(received, expected, what, { allowed, counts } = {}) {
  const [left, right] = [tensorsIn(received), tensorsIn(expected)];
  same(left.length, right.length, `${what}: number of tensors`);
  left.forEach((tensor, i) => {
    const own = allowed ?? tolerance(tensor.dtype);
    close(tensor, right[i], own, left.length > 1 ? `${what}, tensor ${i}` : what, counts);
  });
}

/** A value with its tensors replaced by type and bits. */
export function bits(value) {
  return JSON.stringify(
    mapTensors(value, (tensor) => {
      const array = tensor.to({ device: 'cpu' }).toTypedArray();
      const bytes = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
      return `${tensor.dtype}[${tensor.shape.join()}]:${bytes.toString('base64')}`;
    }),
  );
}

export function sameBits(received, expected, what) {
  check(bits(received) === bits(expected), `${what}: expected the same bits but received others`);
}

/** That attentions have the same weights, bit by bit. */
export function sameWeights(received, expected) {
  same(received.length, expected.length, 'number of attentions');
  for (const [i, { weights }] of received.entries()) sameBits(weights, expected[i].weights, `attention ${i}`);
}

/** What tells an attention from others, whatever the device. */
export const place = ({ name, operator, shape }) => ({ name, operator, shape });
