import { malformed } from './entry';

/** A class or function that a pickle names: "torch._utils._rebuild_tensor_v2". */
export class Global {
  constructor(readonly name: string) {}
}

/** What a pickle makes by calling a global that isn't known here. */
export class Opaque {
  constructor(readonly type: string) {}
}

export interface PickleHandlers {
  /** What calling a global gives; undefined for those that aren't known. */
  call(name: string, args: unknown[]): unknown;
  /** The object that a persistent id stands for. */
  persistent(id: unknown): unknown;
}

const MARK = Symbol('mark');
/** What a pickle may take in memory, about: one of a few opcodes a byte makes hundreds of each. */
const MAX_BYTES = 2 ** 29;
const BYTES_OF_OPCODE = 24;
const BYTES_OF_LIST = 64;
const BYTES_OF_MAP = 320;
/** The most bytes of an integer: torch.save writes one of ten. */
const MAX_INTEGER_BYTES = 256;
const NO_ARGUMENTS: unknown[] = [];

/**
 * Reads Python's pickle format without running anything: only what the handlers know is made, other objects are opaque.
 * Dictionaries become Maps; lists and tuples arrays.
 *
 * @param from Where in the bytes the pickle begins.
 * @returns What it holds, and where it ends.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for what is no pickle.
 */
export function readPickle(
  bytes: Uint8Array,
  source: string,
  handlers: PickleHandlers,
  from = 0,
): { value: unknown; end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = new TextDecoder();
  const stack: unknown[] = [];
  const memo = new Map<number, unknown>();
  let at = from;

  const fail = (received: string): never => {
    throw malformed(source, 'a pickle as torch.save writes it', received);
  };
  let left = MAX_BYTES;
  const spend = (size: number): void => {
    left -= size;
    if (left < 0) fail(`one that takes more than ${MAX_BYTES} bytes of memory`);
  };
  const list = (items: unknown[]): unknown[] => {
    spend(BYTES_OF_LIST);
    return items;
  };
  const map = (): Map<unknown, unknown> => {
    spend(BYTES_OF_MAP);
    return new Map();
  };
  const take = (length: number): Uint8Array => {
    if (length < 0 || at + length > bytes.length) fail('one that ends too early');
    at += length;
    return bytes.subarray(at - length, at);
  };
  const advance = (length: number): number => {
    take(length);
    return at - length;
  };
  const u8 = (): number => take(1)[0] as number;
  const u16 = (): number => view.getUint16(advance(2), true);
  const u32 = (): number => view.getUint32(advance(4), true);
  const u64 = (): number => Number(view.getBigUint64(advance(8), true));
  const line = (): string => {
    const end = bytes.indexOf(0x0a, at);
    if (end < 0) fail('one that ends too early');
    const result = text.decode(bytes.subarray(at, end));
    at = end + 1;
    return result;
  };
  const pop = (): unknown => {
    if (stack.length === 0) fail('one that takes more than it has');
    return stack.pop();
  };
  const popMark = (): unknown[] => {
    const from = stack.lastIndexOf(MARK);
    if (from < 0) fail('one without a mark');
    const items = stack.splice(from);
    items.shift();
    return items;
  };
  const long = (length: number): number | bigint => {
    if (length > MAX_INTEGER_BYTES) fail(`one with an integer of ${length} bytes`);
    let value = 0n;
    const digits = take(length);
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(digits[i] as number);
    if (length > 0 && (digits[length - 1] as number) & 0x80) value -= 1n << BigInt(8 * length);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  };
  const bytesOf = (length: number): Uint8Array => {
    spend(BYTES_OF_MAP);
    return take(length);
  };
  const setItems = (items: unknown[]): void => {
    const target = stack.at(-1);
    if (!(target instanceof Map)) return; // of an opaque object
    spend(items.length * BYTES_OF_LIST);
    for (let i = 0; i + 1 < items.length; i += 2) target.set(items[i], items[i + 1]);
  };
  const call = (callee: unknown, args: unknown): unknown => {
    if (!(callee instanceof Global)) return new Opaque('object');
    spend(BYTES_OF_MAP); // whatever it makes
    return handlers.call(callee.name, Array.isArray(args) ? args : NO_ARGUMENTS) ?? new Opaque(callee.name);
  };
  const appendAll = (items: unknown[]): void => {
    const target = stack.at(-1);
    if (Array.isArray(target)) for (const item of items) target.push(item);
  };

  for (;;) {
    const op = String.fromCharCode(u8());
    spend(BYTES_OF_OPCODE);
    switch (op) {
      case '\x80': // PROTO
        u8();
        break;
      case '\x95': // FRAME
        u64();
        break;
      case '.':
        return { value: pop(), end: at };
      case '(':
        stack.push(MARK);
        break;
      case '0':
        pop();
        break;
      case '2':
        stack.push(stack.at(-1));
        break;
      case '1':
        popMark();
        break;
      case 'N':
        stack.push(null);
        break;
      case '\x88':
        stack.push(true);
        break;
      case '\x89':
        stack.push(false);
        break;
      case 'K':
        stack.push(u8());
        break;
      case 'M':
        stack.push(u16());
        break;
      case 'J':
        stack.push(view.getInt32(advance(4), true));
        break;
      case '\x8a':
        stack.push(long(u8()));
        break;
      case '\x8b':
        stack.push(long(u32()));
        break;
      case 'G':
        stack.push(view.getFloat64(advance(8), false));
        break;
      case 'I': {
        const value = line();
        stack.push(value === '00' ? false : value === '01' ? true : Number(value));
        break;
      }
      case 'L':
        stack.push(Number(line().replace(/L$/, '')));
        break;
      case 'F':
        stack.push(Number(line()));
        break;
      case 'X':
        stack.push(text.decode(take(u32())));
        break;
      case '\x8c':
        stack.push(text.decode(take(u8())));
        break;
      case '\x8d':
        stack.push(text.decode(take(u64())));
        break;
      case 'T': // strings of Python 2
        stack.push(text.decode(take(u32())));
        break;
      case 'U':
        stack.push(text.decode(take(u8())));
        break;
      case 'B':
        stack.push(bytesOf(u32()));
        break;
      case 'C':
        stack.push(bytesOf(u8()));
        break;
      case '\x8e':
      case '\x96':
        stack.push(bytesOf(u64()));
        break;
      case 'c':
        stack.push(new Global(`${line()}.${line()}`));
        break;
      case '\x93': {
        const name = pop();
        const module = pop();
        if (typeof name !== 'string' || typeof module !== 'string') fail('one that names a class by no string');
        stack.push(new Global(`${module}.${name}`));
        break;
      }
      case 'Q':
        stack.push(handlers.persistent(pop()));
        break;
      case ')':
      case ']':
        stack.push(list([]));
        break;
      case '}':
        stack.push(map());
        break;
      case '\x8f': // EMPTY_SET
        stack.push(new Opaque('set'));
        break;
      case 't':
      case 'l':
        stack.push(list(popMark()));
        break;
      case 'd': {
        const items = popMark();
        stack.push(map());
        setItems(items);
        break;
      }
      case '\x85':
        stack.push(list([pop()]));
        break;
      case '\x86': {
        const second = pop();
        stack.push(list([pop(), second]));
        break;
      }
      case '\x87': {
        const third = pop();
        const second = pop();
        stack.push(list([pop(), second, third]));
        break;
      }
      case 'R': {
        const args = pop();
        stack.push(call(pop(), args));
        break;
      }
      case '\x81': {
        const args = pop();
        stack.push(call(pop(), args));
        break;
      }
      case '\x92': {
        pop();
        const args = pop();
        stack.push(call(pop(), args));
        break;
      }
      case 'i': {
        const name = `${line()}.${line()}`;
        stack.push(call(new Global(name), popMark()));
        break;
      }
      case 'o': {
        const [callee, ...args] = popMark();
        stack.push(call(callee, args));
        break;
      }
      case 'b': // BUILD: attributes, which none of the known objects needs
        pop();
        break;
      case 's': {
        const value = pop();
        setItems([pop(), value]);
        break;
      }
      case 'u':
        setItems(popMark());
        break;
      case 'a':
        appendAll([pop()]);
        break;
      case 'e':
        appendAll(popMark());
        break;
      case '\x90': // ADDITEMS, of a set
        popMark();
        break;
      case '\x91':
        popMark();
        stack.push(new Opaque('frozenset'));
        break;
      case 'q':
        memo.set(u8(), stack.at(-1));
        break;
      case 'r':
        memo.set(u32(), stack.at(-1));
        break;
      case 'p':
        memo.set(Number(line()), stack.at(-1));
        break;
      case '\x94':
        memo.set(memo.size, stack.at(-1));
        break;
      case 'h':
        stack.push(memo.get(u8()));
        break;
      case 'j':
        stack.push(memo.get(u32()));
        break;
      case 'g':
        stack.push(memo.get(Number(line())));
        break;
      default:
        fail(`the opcode 0x${op.charCodeAt(0).toString(16)}`);
    }
  }
}
