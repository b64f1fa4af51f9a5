// Pickles as lists of operations, to be changed one by one: https://docs.python.org/3/library/pickletools.html

/** The operations whose argument isn't empty: its size in bytes, or what tells it. */
const ARGUMENTS = {
  '\x80': 1, // PROTO
  '\x95': 8, // FRAME
  K: 1, // BININT1
  M: 2, // BININT2
  J: 4, // BININT
  G: 8, // BINFLOAT
  h: 1, // BINGET
  j: 4, // LONG_BINGET
  q: 1, // BINPUT
  r: 4, // LONG_BINPUT
  '\x8a': 'length1', // LONG1
  '\x8b': 'length4', // LONG4
  U: 'length1', // SHORT_BINSTRING
  T: 'length4', // BINSTRING
  X: 'length4', // BINUNICODE
  '\x8c': 'length1', // SHORT_BINUNICODE
  '\x8d': 'length8', // BINUNICODE8
  B: 'length4', // BINBYTES
  C: 'length1', // SHORT_BINBYTES
  '\x8e': 'length8', // BINBYTES8
  '\x96': 'length8', // BYTEARRAY8
  c: 'lines2', // GLOBAL
  i: 'lines2', // INST
  I: 'lines1',
  L: 'lines1',
  F: 'lines1',
  S: 'lines1',
  V: 'lines1',
  P: 'lines1',
  g: 'lines1', // GET
  p: 'lines1', // PUT
};
const EMPTY = '()0123]}tuesabldNQoR\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94';

export const INTEGERS = 'KMJ\x8a';
export const STRINGS = 'UTX\x8c';
export const MEMO = 'hjqr';

/** The operations of the pickle that begins at `from`, and where it ends: { op, argument } each; throws where it is none. */
export function readOperations(bytes, from = 0) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const operations = [];
  let at = from;
  while (at < bytes.length) {
    const op = String.fromCharCode(bytes[at++]);
    const kind = ARGUMENTS[op];
    let begin = at;
    if (kind === 'length1') begin = at + 1 + bytes[at];
    else if (kind === 'length4') begin = at + 4 + view.getUint32(at, true);
    else if (kind === 'length8') begin = at + 8 + Number(view.getBigUint64(at, true));
    else if (kind === 'lines1') begin = bytes.indexOf(10, at) + 1;
    else if (kind === 'lines2') begin = bytes.indexOf(10, bytes.indexOf(10, at) + 1) + 1;
    else if (typeof kind === 'number') begin = at + kind;
    else if (op !== '.' && !EMPTY.includes(op)) throw new Error(`no operation ${op}`);
    if (begin < at || begin > bytes.length) throw new Error('ends early');
    operations.push({ op, argument: bytes.slice(at, begin) });
    at = begin;
    if (op === '.') return { operations, end: at };
  }
  throw new Error('ends without a stop');
}

export function writeOperations(operations) {
  return new Uint8Array(Buffer.concat(operations.flatMap(({ op, argument }) => [Buffer.from(op, 'latin1'), argument])));
}

export const operation = (op, argument = new Uint8Array(0)) => ({ op, argument: new Uint8Array(argument) });

/** The operation that pushes an integer of up to 64 bits. */
export function pushInteger(value) {
  const argument = Buffer.alloc(9);
  argument[0] = 8;
  argument.writeBigInt64LE(BigInt.asIntN(64, value), 1);
  if (value >= 0n && value < 256n) return operation('K', [Number(value)]);
  if (value >= -(2n ** 31n) && value < 2n ** 31n) return operation('J', argument.subarray(1, 5));
  return operation('\x8a', argument);
}

export function integerOf({ op, argument }) {
  const digits = op === '\x8a' ? argument.subarray(1) : argument;
  let value = 0n;
  for (const digit of [...digits].reverse()) value = (value << 8n) | BigInt(digit);
  return op === 'J' || op === '\x8a' ? BigInt.asIntN(8 * digits.length, value) : value;
}

/** The operation that pushes a string. */
export function pushString(text) {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return operation('X', Buffer.concat([length, bytes]));
}

/** The text of an operation that pushes a string. */
export function stringOf({ op, argument }) {
  return Buffer.from(argument.subarray(op === 'U' || op === '\x8c' ? 1 : 4)).toString();
}
