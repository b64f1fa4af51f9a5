import { promisify } from 'node:util';
import { constants, deflateRaw } from 'node:zlib';

const deflate = promisify(deflateRaw);

/** Bytes as they lie in the page, before base64. */
export type Block = Buffer;

export async function pack(array: Uint8Array | Uint16Array | Uint32Array | Float32Array): Promise<Block> {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const level = bytes.length > 2 ** 22 ? 4 : constants.Z_DEFAULT_COMPRESSION;
  return await deflate(byteplanes(bytes, array.BYTES_PER_ELEMENT), { level });
}

/** Characters that a block takes in the page, with the end of its line. */
export function blockSize(block: Block): number {
  return Math.ceil(block.length / 3) * 4 + 1;
}

/** First the least significant byte of all elements, then the next: like bytes lie together, and deflate better. */
function byteplanes(bytes: Uint8Array, width: number): Uint8Array {
  if (width === 1) return bytes;
  const count = bytes.length / width;
  const planes = new Uint8Array(bytes.length);
  for (let byte = 0; byte < width; byte++) {
    const start = byte * count;
    for (let i = 0, from = byte; i < count; i++, from += width) planes[start + i] = bytes[from] as number;
  }
  return planes;
}
