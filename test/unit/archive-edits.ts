// Archives for tests, made of good ones.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { unzipSync, zipSync } from 'fflate';

/** The records of an archive by name, without the folder that they are all in. */
export type Records = Record<string, Uint8Array>;

const models = join(__dirname, '../fixtures/models');

/** The bytes of a fixture. */
export function fixture(name: string): Buffer {
  return readFileSync(join(models, name));
}

/** The records of an archive. */
export function recordsOf(archive: Uint8Array): Records {
  return Object.fromEntries(
    Object.entries(unzipSync(archive)).map(([name, bytes]) => [name.slice(name.indexOf('/') + 1), bytes]),
  );
}

/** An archive of records, compressed or as they are. */
export function archiveOf(records: Records, level: 0 | 9 = 0): Uint8Array {
  return zipSync(Object.fromEntries(Object.entries(records).map(([name, bytes]) => [`m/${name}`, bytes])), { level });
}

/**
 * The parts of an archive that is given one more record, of zeros and with a wrong checksum: what stands before those
 * zeros, and the directory behind them.
 */
export function withRecordOfZeros(
  archive: Uint8Array,
  name: string,
  size: number,
): { before: Buffer; directory: Buffer } {
  const bytes = Buffer.from(archive);
  const end = bytes.lastIndexOf('PK\x05\x06', undefined, 'latin1');
  const begin = bytes.readUInt32LE(end + 16);
  const local = Buffer.alloc(30 + name.length);
  local.write('PK\x03\x04', 'latin1');
  local.writeUInt32LE(1, 14); // the checksum
  for (const at of [18, 22]) local.writeUInt32LE(size, at);
  local.writeUInt16LE(name.length, 26);
  local.write(name, 30);
  const entry = Buffer.alloc(46 + name.length);
  entry.write('PK\x01\x02', 'latin1');
  entry.writeUInt32LE(1, 16);
  for (const at of [20, 24]) entry.writeUInt32LE(size, at);
  entry.writeUInt16LE(name.length, 28);
  entry.writeUInt32LE(begin, 42);
  entry.write(name, 46);
  const last = Buffer.from(bytes.subarray(end));
  for (const at of [8, 10]) last.writeUInt16LE(last.readUInt16LE(at) + 1, at);
  last.writeUInt32LE(end - begin + entry.length, 12);
  last.writeUInt32LE(begin + local.length + size, 16);
  return {
    before: Buffer.concat([bytes.subarray(0, begin), local]),
    directory: Buffer.concat([bytes.subarray(begin, end), entry, last]),
  };
}

/** A program: a class whose `forward` has these statements, with what else its module has. */
export function program(statements: string, extra = ''): Uint8Array {
  const code = `class M(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  def forward(self: __torch__.M, x: Tensor) -> Tensor:
${indented(statements, 4)}
${extra}`;
  return archiveOf(programRecords(code));
}

/** The records of a program whose root is `__torch__.M`, an object without attributes beyond a module's own. */
export function programRecords(code: string, data: Uint8Array = modulePickle('__torch__.M')): Records {
  return {
    'data.pkl': data,
    'code/__torch__.py': Buffer.from(code),
    'constants.pkl': Buffer.from('8002292e', 'hex'),
    version: Buffer.from('3\n'),
  };
}

/** Lines, indented. */
export function indented(text: string, by: number): string {
  return text
    .split('\n')
    .map((line) => ' '.repeat(by) + line)
    .join('\n');
}

/** The pickle of an object of a class, with attributes as operations. */
export function modulePickle(type: string, attributes: Record<string, Uint8Array> = {}): Buffer {
  const at = type.lastIndexOf('.');
  const all = { training: ops.false, _is_full_backward_hook: ops.none, ...attributes };
  return Buffer.concat([
    Buffer.from([0x80, 2]),
    ops.global(type.slice(0, at), type.slice(at + 1)),
    Buffer.from(')\x81}(', 'latin1'),
    ...Object.entries(all).flatMap(([name, value]) => [ops.string(name), value]),
    Buffer.from('ub.', 'latin1'),
  ]);
}

const one = (code: string): Buffer => Buffer.from(code, 'latin1');

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** Operations of pickles. */
export const ops = {
  none: one('N'),
  true: one('\x88'),
  false: one('\x89'),
  string: (text: string): Buffer => Buffer.concat([one('X'), uint32(Buffer.byteLength(text)), Buffer.from(text)]),
  int: (value: number): Buffer => {
    const bytes = Buffer.alloc(10);
    bytes.write('\x8a\x08', 'latin1');
    bytes.writeBigInt64LE(BigInt(value), 2);
    return bytes;
  },
  global: (module: string, name: string): Buffer => one(`c${module}\n${name}\n`),
  tuple: (...values: Uint8Array[]): Buffer => Buffer.concat([one('('), ...values, one('t')]),
  list: (...values: Uint8Array[]): Buffer => Buffer.concat([one(']('), ...values, one('e')]),
  call: (fn: Uint8Array, argument: Uint8Array): Buffer => Buffer.concat([fn, argument, one('R')]),
  /** A tensor of float32 over a record. */
  tensor: (record: string, elements: number, offset: number, size: number[], stride: number[]): Buffer =>
    ops.call(
      ops.global('torch._utils', '_rebuild_tensor_v2'),
      ops.tuple(
        Buffer.concat([
          ops.tuple(
            ops.string('storage'),
            ops.global('torch', 'FloatStorage'),
            ops.string(record),
            ops.string('cpu'),
            ops.int(elements),
          ),
          one('Q'),
        ]),
        ops.int(offset),
        ops.tuple(...size.map(ops.int)),
        ops.tuple(...stride.map(ops.int)),
        ops.false,
        ops.call(ops.global('collections', 'OrderedDict'), one(')')),
      ),
    ),
};
