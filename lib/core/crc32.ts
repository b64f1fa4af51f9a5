import * as zlib from 'node:zlib';

let table: Uint32Array | undefined;

function remainders(): Uint32Array {
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    let remainder = byte;
    for (let bit = 0; bit < 8; ++bit) remainder = remainder & 1 ? (remainder >>> 1) ^ 0xedb88320 : remainder >>> 1;
    return remainder;
  });
}

/** The same as zlib's, many times slower. */
export function crc32ByTable(bytes: Uint8Array, before = 0): number {
  table ??= remainders();
  let crc = ~before;
  for (const byte of bytes) crc = (crc >>> 8) ^ (table[(crc ^ byte) & 0xff] as number);
  return ~crc >>> 0;
}

/** The CRC-32 of bytes, going on from that of those before them. Node has its own since 20.15. */
export const crc32: (bytes: Uint8Array, before?: number) => number = zlib.crc32 ?? crc32ByTable;
