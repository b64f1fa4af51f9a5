import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

// What can be read in a shared library of Linux (ELF, 64 bits, little-endian) without loading it. Loading a truncated one
// ends the process: the system maps it whole, and the first access beyond its end is a SIGBUS.

const HEADER_BYTES = 64;
const SEGMENT_BYTES = 56;
const SECTION_BYTES = 64;
const LOADED = 1;
const VERSIONS_NEEDED = 0x6ffffffe;

type Read = (offset: number, length: number) => Buffer;

/** Looks into a file; undefined for what is no ELF file of 64 bits. */
function look<Seen>(path: string, see: (header: Buffer, read: Read, size: number) => Seen): Seen | undefined {
  const file = openSync(path, 'r');
  try {
    const read: Read = (offset, length) => {
      const bytes = Buffer.alloc(length);
      return bytes.subarray(0, readSync(file, bytes, 0, length, offset));
    };
    const header = read(0, HEADER_BYTES);
    const isElf = header.length >= 6 && header.toString('latin1', 0, 4) === '\x7fELF';
    return isElf && header[4] === 2 && header[5] === 1 ? see(header, read, fstatSync(file).size) : undefined;
  } finally {
    closeSync(file);
  }
}

/** Why a file can't be the whole of a library; undefined where nothing says so. */
export function damageOf(path: string): string | undefined {
  return look(path, (header, read, size) => {
    const end = header.length < HEADER_BYTES ? HEADER_BYTES : endOf(header, read);
    return size < end ? `it has ${size} bytes where its own tables say at least ${end}` : undefined;
  });
}

/** The newest versions of symbols that a whole library needs of others, by their family: `{ GLIBC: '2.34', GLIBCXX: '3.4.30' }`. */
export function versionsNeeded(path: string): Record<string, string> {
  return look(path, neededVersions) ?? {};
}

/** Where what is loaded of a library, and its table of sections, end in the file. */
function endOf(header: Buffer, read: Read): number {
  const [offset, count] = [Number(header.readBigUInt64LE(32)), header.readUInt16LE(56)];
  const segments = read(offset, count * SEGMENT_BYTES);
  let end = Math.max(offset + count * SEGMENT_BYTES, sectionsEnd(header));
  for (let at = 0; at + SEGMENT_BYTES <= segments.length; at += SEGMENT_BYTES) {
    if (segments.readUInt32LE(at) !== LOADED) continue;
    end = Math.max(end, Number(segments.readBigUInt64LE(at + 8) + segments.readBigUInt64LE(at + 32)));
  }
  return end;
}

function sectionsEnd(header: Buffer): number {
  return Number(header.readBigUInt64LE(40)) + header.readUInt16LE(60) * SECTION_BYTES;
}

/** The table of versions that are needed of other libraries, the newest of each family. */
function neededVersions(header: Buffer, read: Read): Record<string, string> {
  const [offset, count] = [Number(header.readBigUInt64LE(40)), header.readUInt16LE(60)];
  const sections = read(offset, count * SECTION_BYTES);
  const section = (index: number) => {
    const at = index * SECTION_BYTES;
    if (at + SECTION_BYTES > sections.length) return undefined;
    return {
      type: sections.readUInt32LE(at + 4),
      bytes: () => read(Number(sections.readBigUInt64LE(at + 24)), Number(sections.readBigUInt64LE(at + 32))),
      link: sections.readUInt32LE(at + 40),
      entries: sections.readUInt32LE(at + 44),
    };
  };
  const table = Array.from({ length: count }, (_, i) => section(i)).find((each) => each?.type === VERSIONS_NEEDED);
  const names = table && section(table.link)?.bytes();
  const newest: Record<string, string> = {};
  if (!table || !names) return newest;
  const bytes = table.bytes();
  for (let library = 0, i = 0; i < table.entries; ++i) {
    const versions = bytes.readUInt16LE(library + 2);
    for (let version = library + bytes.readUInt32LE(library + 8), j = 0; j < versions; ++j) {
      const start = bytes.readUInt32LE(version + 8);
      const name = names.toString('latin1', start, names.indexOf(0, start));
      const [, family, number] = /^([A-Z]+)_(\d[\d.]*)$/.exec(name) ?? [];
      if (family && number && isNewer(number, newest[family])) newest[family] = number;
      version += bytes.readUInt32LE(version + 12);
    }
    library += bytes.readUInt32LE(library + 12);
  }
  return newest;
}

/** Whether a version is newer than another: `2.34` than `2.4`. */
function isNewer(version: string, than: string | undefined): boolean {
  if (than === undefined) return true;
  const [left, right] = [version, than].map((each) => each.split('.').map(Number)) as [number[], number[]];
  for (let i = 0; i < Math.max(left.length, right.length); ++i) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}
