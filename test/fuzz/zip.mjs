import { crc32, deflateRawSync } from 'node:zlib';
import { unzipSync } from 'fflate';

// Libraries write valid archives only. This writer says where each field of its archive is, so that any can be broken,
// and leaves all others right, so that what is broken is reached.

const ALIGNMENT = 64; // as PyTorch has it
const LATEST = 0xffffffff;

/** The files of an archive in order: { name, data, deflated }. */
export function readZip(bytes) {
  const deflated = new Map();
  const files = unzipSync(bytes, {
    filter: ({ name, compression }) => deflated.set(name, compression !== 0),
  });
  return Object.entries(files).map(([name, data]) => ({ name, data, deflated: deflated.get(name) }));
}

/**
 * Writes an archive.
 *
 * @param files each { name, data, deflated }, and what is to be said instead of the truth: { method, crc, size,
 *   compressedSize, localName, zip64 }
 * @returns its bytes, and the fields in them: { name, at, size }
 */
export function writeZip(files) {
  const parts = [];
  const fields = [];
  let at = 0;
  const put = (bytes) => {
    parts.push(bytes);
    at += bytes.length;
  };
  const record = (layout) => {
    const bytes = Buffer.alloc(layout.reduce((sum, [, size]) => sum + size, 0));
    let offset = 0;
    for (const [name, size, value] of layout) {
      if (size === 8) bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), offset);
      else bytes.writeUIntLE(Number(BigInt.asUintN(8 * size, BigInt(value))), offset, size);
      if (name) fields.push({ name, at: at + offset, size });
      offset += size;
    }
    put(bytes);
  };

  const directory = [];
  for (const file of files) {
    const { data, deflated, zip64 } = file;
    const content = deflated ? deflateRawSync(data) : data;
    const crc = file.crc ?? crc32(data);
    const size = file.size ?? data.length;
    const compressedSize = file.compressedSize ?? content.length;
    const method = file.method ?? (deflated ? 8 : 0);
    const name = Buffer.from(file.name);
    const localName = Buffer.from(file.localName ?? file.name);
    const offset = at;
    const padding = (ALIGNMENT - ((at + 30 + localName.length + 4) % ALIGNMENT)) % ALIGNMENT;
    record([
      ['', 4, 0x04034b50],
      ['local version', 2, 45],
      ['local flags', 2, 0],
      ['local method', 2, method],
      ['', 4, 0],
      ['local crc', 4, crc],
      ['local compressed size', 4, compressedSize],
      ['local size', 4, size],
      ['local name length', 2, localName.length],
      ['local extra length', 2, 4 + padding],
    ]);
    put(localName);
    record([
      ['local extra id', 2, 0x4246],
      ['local extra size', 2, padding],
    ]);
    put(Buffer.alloc(padding, 'Z'));
    put(content);
    directory.push({ name, method, crc, size, compressedSize, offset, zip64 });
  }

  const start = at;
  for (const { name, method, crc, size, compressedSize, offset, zip64 } of directory) {
    record([
      ['', 4, 0x02014b50],
      ['version made by', 2, 0],
      ['version needed', 2, 45],
      ['flags', 2, 0],
      ['method', 2, method],
      ['', 4, 0],
      ['crc', 4, crc],
      ['compressed size', 4, zip64 ? LATEST : compressedSize],
      ['size', 4, zip64 ? LATEST : size],
      ['name length', 2, name.length],
      ['extra length', 2, zip64 ? 28 : 0],
      ['comment length', 2, 0],
      ['disk', 2, 0],
      ['', 2, 0],
      ['attributes', 4, 0],
      ['offset', 4, zip64 ? LATEST : offset],
    ]);
    if (name.length > 0) fields.push({ name: 'name', at, size: name.length });
    put(name);
    if (zip64) {
      record([
        ['zip64 id', 2, 1],
        ['zip64 length', 2, 24],
        ['zip64 size', 8, size],
        ['zip64 compressed size', 8, compressedSize],
        ['zip64 offset', 8, offset],
      ]);
    }
  }
  const length = at - start;
  const end = at;
  record([
    ['', 4, 0x06064b50],
    ['end64 size', 8, 44],
    ['', 4, 0x2d002d],
    ['end64 disk', 4, 0],
    ['end64 directory disk', 4, 0],
    ['end64 entries here', 8, directory.length],
    ['end64 entries', 8, directory.length],
    ['end64 directory size', 8, length],
    ['end64 directory offset', 8, start],
    ['', 4, 0x07064b50],
    ['locator disk', 4, 0],
    ['locator offset', 8, end],
    ['locator disks', 4, 1],
    ['', 4, 0x06054b50],
    ['end disk', 2, 0],
    ['end directory disk', 2, 0],
    ['end entries here', 2, directory.length],
    ['end entries', 2, directory.length],
    ['end directory size', 4, length],
    ['end directory offset', 4, start],
    ['end comment length', 2, 0],
  ]);
  return { bytes: new Uint8Array(Buffer.concat(parts)), fields };
}
