import fc from 'fast-check';

/** What the functions and getters that a call is given throw. */
export class Thrown extends Error {}

const throwing = () => {
  throw new Thrown('thrown by an argument');
};

/** A proxy that throws at whatever is done with it. */
const throwingProxy = (target) =>
  new Proxy(
    target,
    Object.fromEntries(['get', 'has', 'ownKeys', 'getOwnPropertyDescriptor'].map((trap) => [trap, throwing])),
  );

function deep(depth, wrap) {
  let value = 1;
  for (let i = 0; i < depth; i++) value = wrap(value);
  return value;
}

function cyclic(container, put) {
  put(container);
  return container;
}

function detached(array) {
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

/** An array whose elements change something when they are looked at. */
function arrayWithGetter(values, at, effect) {
  const array = [...values];
  Object.defineProperty(array, at, {
    get: () => {
      effect();
      return values[at];
    },
    enumerable: true,
  });
  return array;
}

/** Values made anew for each call: [what they are, how they are made]. */
const SPECIAL = [
  ['cyclic array', () => cyclic([1], (it) => it.push(it))],
  ['array that begins with itself', () => cyclic([], (it) => it.push(it))],
  ['cyclic object', () => cyclic({}, (it) => (it.self = it))],
  ['arrays 10,000 deep', () => deep(10_000, (it) => [it])],
  ['objects 10,000 deep', () => deep(10_000, (it) => ({ a: it }))],
  ['detached Float32Array', () => detached(new Float32Array(8))],
  ['resizable Float32Array', () => new Float32Array(new ArrayBuffer(32, { maxByteLength: 64 }))],
  ['shared Float32Array', () => new Float32Array(new SharedArrayBuffer(32))],
  ['unaligned Float32Array', () => new Float32Array(new ArrayBuffer(36), 4, 6)],
  ['BigInt64Array', () => new BigInt64Array([1n, -(2n ** 63n)])],
  ['BigUint64Array', () => new BigUint64Array([2n ** 64n - 1n])],
  ['Uint16Array', () => new Uint16Array(3)],
  ['Uint8ClampedArray', () => new Uint8ClampedArray(3)],
  ['DataView', () => new DataView(new ArrayBuffer(8))],
  ['ArrayBuffer', () => new ArrayBuffer(8)],
  ['Buffer', () => Buffer.from('PK\x03\x04 none')],
  ['sparse array', () => new Array(1000)],
  ['symbol', () => Symbol('s')],
  ['array of a symbol', () => [Symbol('s')]],
  ['function', () => () => undefined],
  ['throwing function', () => throwing],
  ['rejecting function', () => async () => throwing()],
  ['class', () => class A {}],
  ['object without prototype', () => Object.assign(Object.create(null), { a: 1 })],
  ['object whose getter throws', () => Object.defineProperty({}, 'device', { get: throwing, enumerable: true })],
  ['object whose toString throws', () => ({ toString: throwing, valueOf: throwing, [Symbol.toPrimitive]: throwing })],
  ['object with null constructor', () => ({ constructor: null })],
  ['object with a symbol as name of its constructor', () => ({ constructor: { name: Symbol('n') } })],
  ['array whose getter throws', () => arrayWithGetter([1, 2], 1, throwing)],
  ['throwing proxy', () => throwingProxy({})],
  ['throwing proxy of an array', () => throwingProxy([])],
  ['throwing iterator', () => ({ [Symbol.iterator]: throwing })],
  ['iterator that gives nothing', () => ({ [Symbol.iterator]: () => ({ next: () => null }) })],
  ['thenable that throws', () => Object.defineProperty({}, 'then', { get: throwing })],
  ['rejected promise', () => quiet(Promise.reject(new Thrown('a rejected argument')))],
  ['aborted signal', () => AbortSignal.abort(new Thrown('aborted'))],
  ['signal that aborts soon', () => abortSoon()],
  ['what looks like a signal', () => ({ aborted: false, addEventListener: throwing })],
  ['string with a zero', () => 'a\0b'],
  ['long string', () => 'x'.repeat(100_000)],
  ['lone surrogate', () => '\ud800'],
  ['path of a folder', () => '/'],
  ['path of a device', () => '/dev/zero'],
  ['__proto__', () => '__proto__'],
  ['slow regular expression', () => /^(a+)+$/],
  ['sticky regular expression', () => /./gy],
  ['Map', () => new Map([['a', 1]])],
  ['Set', () => new Set([1])],
  ['Date', () => new Date(Number.NaN)],
];

const NUMBERS = [
  ...[-1, -0, 0, 1, 2, 3, 0.5, 255, 256, -(2 ** 31), 2 ** 45, 2 ** 53 - 1, 2 ** 53, 2 ** 63, 1e300, 1e-320],
  ...[Number.NaN, Infinity, -Infinity, 2n ** 63n, -1n, 0n],
];

function quiet(promise) {
  promise.catch(() => {});
  return promise;
}

function abortSoon() {
  const controller = new AbortController();
  setImmediate(() => controller.abort(new Thrown('aborted')));
  return controller.signal;
}

const made = (label, make) => ({ label, make });

/** A value as nobody should give it: { label, make } each, since some are used up by a call. */
export const hostileValue = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom(...SPECIAL).map(([label, make]) => made(label, make)) },
  { weight: 4, arbitrary: fc.constantFrom(...NUMBERS).map((value) => made(`${value}`, () => value)) },
  {
    weight: 2,
    arbitrary: fc.array(fc.constantFrom(...NUMBERS), { maxLength: 4 }).map((value) => made(`[${value}]`, () => value)),
  },
  {
    weight: 4,
    arbitrary: fc
      .anything({
        maxDepth: 3,
        withBigInt: true,
        withDate: true,
        withMap: true,
        withSet: true,
        withNullPrototype: true,
        withObjectString: true,
        withSparseArray: true,
        withTypedArray: true,
      })
      .map((value) => made(fc.stringify(value).slice(0, 200), () => value)),
  },
);
