import * as zlib from 'node:zlib';
import { crc32, crc32ByTable } from '../../lib/core/crc32';

test.each([
  ['', 0],
  ['123456789', 0xcbf43926],
  ['a', 0xe8b7be43],
])('the CRC-32 of %p', (text, expected) => {
  expect(crc32ByTable(Buffer.from(text))).toBe(expected);
  expect(crc32(Buffer.from(text))).toBe(expected);
});

test('goes on from that of the bytes before', () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7919) >>> 3);
  const before = crc32ByTable(bytes.subarray(0, 333));
  expect(crc32ByTable(bytes.subarray(333), before)).toBe(crc32ByTable(bytes));
  expect(crc32ByTable(bytes)).toBe((zlib.crc32 ?? crc32ByTable)(bytes));
});
