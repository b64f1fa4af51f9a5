import { promisify } from 'node:util';
import { inflateRaw } from 'node:zlib';
import { fromRandomAccessReaderPromise, RandomAccessReader, type Entry as ZipEntry, type ZipFile } from 'yauzl';
import { crc32 } from '../core/crc32';
import { TorchError } from '../core/errors';
import { shortened } from '../core/validate';
import { malformed } from './entry';
import type { OpenFile } from './file';

/** The files in a zip archive. */
export interface Archive {
  /** In the archive's order; those of folders end in a slash. */
  names: string[];
  has(name: string): boolean;
  /** @throws {TorchError} ERR_INVALID_ARGUMENT where it isn't there, or isn't what the archive says of it. */
  read(name: string): Promise<Uint8Array<ArrayBuffer>>;
}

/** The most files in an archive. */
const MAX_ENTRIES = 2 ** 20;
/** Deflate makes no more of a byte than this, and some of nothing. */
const DEFLATE_RATIO = 1032;
/** What the files of an archive may have inflated: this, or so many times the archive's own size. */
const MAX_INFLATED = 2 ** 30;
const MAX_INFLATED_RATIO = 16;
/** The archive's directory is read in pieces of so many bytes. */
const WINDOW = 2 ** 16;

const inflate = promisify(inflateRaw) as (
  bytes: Uint8Array,
  options: { maxOutputLength: number },
) => Promise<Buffer<ArrayBuffer>>;

/**
 * What the zip library reads the archive's directory through. It parses in callbacks, where nothing would catch what is
 * thrown: a place beyond the file is an error that it is called back with, and what it throws itself is `failure`.
 */
class Directory extends RandomAccessReader {
  #fail: (error: unknown) => void = () => {};
  readonly failure = new Promise<never>((_, reject) => {
    this.#fail = reject;
  });
  #at = 0;
  #window: Uint8Array = new Uint8Array(0);

  constructor(private readonly file: OpenFile) {
    super();
    this.failure.catch(() => {}); // whoever waits hears of it
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    const done = callback as (error: Error | null, bytesRead: number) => void;
    this.#bytes(position, length)
      .then(
        (bytes) => {
          buffer.set(bytes, offset);
          done(null, bytes.length);
        },
        (error: Error) => done(error, 0),
      )
      .catch(this.#fail);
  }

  async #bytes(position: number, length: number): Promise<Uint8Array> {
    const { size } = this.file;
    if (!Number.isSafeInteger(position) || position < 0 || position + length > size) {
      throw new Error(`it refers to ${length} bytes at ${position} of its ${size}`);
    }
    if (position < this.#at || position + length > this.#at + this.#window.length) {
      this.#window = await this.file.read(position, Math.min(size, position + Math.max(length, WINDOW)));
      this.#at = position;
    }
    return this.#window.subarray(position - this.#at, position - this.#at + length);
  }
}

/**
 * Reads the directory of a zip archive and lends its files to `use`. Sizes are checked against the archive before anything is
 * allocated: files that lie in each other, or inflate to far more than the archive has, are refused.
 *
 * @param options `verify`: whether the CRC-32 of each file that is read is compared; `expected`: what the archive is, for
 *   errors.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for what is no such archive.
 */
export async function withArchive<Result>(
  file: OpenFile,
  { verify, expected }: { verify: boolean; expected: string },
  use: (archive: Archive) => Promise<Result>,
): Promise<Result> {
  const directory = new Directory(file);
  const { zip, entries } = await Promise.race([entriesOf(directory, file, expected), directory.failure]);
  const read = async (name: string): Promise<Uint8Array<ArrayBuffer>> => {
    const entry = entries.get(name);
    const label = `the file '${shortened(name)}' in the archive`;
    if (!entry) throw malformed(file.path, label, 'none');
    const bytes = await Promise.race([contentOf(zip, entry, file, label), directory.failure]);
    if (verify) {
      const crc = crc32(bytes);
      if (crc !== entry.crc32) throw malformed(file.path, `${label} to have the CRC-32 ${hex(entry.crc32)}`, hex(crc));
    }
    return bytes;
  };
  return await use({ names: [...entries.keys()], has: (name) => entries.has(name), read });
}

/** The directory of an archive, checked. */
async function entriesOf(
  directory: Directory,
  { path, size }: OpenFile,
  expected: string,
): Promise<{ zip: ZipFile; entries: Map<string, ZipEntry> }> {
  const entries = new Map<string, ZipEntry>();
  let compressed = 0;
  let inflated = 0;
  try {
    const zip = await fromRandomAccessReaderPromise(directory, size, { autoClose: false });
    for await (const entry of zip.eachEntry()) {
      const { fileName: name } = entry;
      if (entries.has(name)) throw malformed(path, 'files of different names', `two called '${shortened(name)}'`);
      compressed += entry.compressedSize;
      inflated += entry.uncompressedSize;
      // Each byte of an archive belongs to one file.
      if (compressed > size) throw malformed(path, `files within its ${size} bytes`, `files of ${compressed}`);
      if (inflated > Math.max(MAX_INFLATED, MAX_INFLATED_RATIO * size)) {
        throw malformed(
          path,
          'files that inflate to a size in keeping with the archive',
          `${inflated} bytes of ${size}`,
        );
      }
      if (entry.uncompressedSize > DEFLATE_RATIO * (entry.compressedSize + 1)) {
        throw malformed(
          path,
          `a size that ${entry.compressedSize} bytes can inflate to for '${shortened(name)}'`,
          `${entry.uncompressedSize}`,
        );
      }
      entries.set(name, entry);
      if (entries.size > MAX_ENTRIES) throw malformed(path, `at most ${MAX_ENTRIES} files`, 'more');
    }
    return { zip, entries };
  } catch (error) {
    if (error instanceof TorchError) throw error;
    throw malformed(path, expected, `a file that isn't one: ${(error as Error).message}`, error);
  }
}

function hex(crc: number): string {
  return `0x${crc.toString(16).padStart(8, '0')}`;
}

async function contentOf(
  zip: ZipFile,
  entry: ZipEntry,
  file: OpenFile,
  label: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const { path } = file;
  const { compressedSize, uncompressedSize, compressionMethod } = entry;
  if (entry.isEncrypted()) throw malformed(path, `${label} to be in the clear`, 'an encrypted one');
  if (compressionMethod !== 0 && compressionMethod !== 8) {
    throw malformed(path, `${label} to be stored or deflated`, `compression method ${compressionMethod}`);
  }
  let begin: number;
  try {
    begin = (await zip.readLocalFileHeaderPromise(entry, { minimal: true })).fileDataStart;
  } catch (error) {
    throw malformed(path, `${label} to be where the archive says`, `another: ${(error as Error).message}`, error);
  }
  const raw = await file.read(begin, begin + compressedSize);
  if (compressionMethod === 0) return raw;
  let bytes: Buffer<ArrayBuffer>;
  try {
    bytes = await inflate(raw, { maxOutputLength: Math.max(1, uncompressedSize) });
  } catch (error) {
    throw malformed(path, `${label} to inflate to ${uncompressedSize} bytes`, (error as Error).message, error);
  }
  if (bytes.length !== uncompressedSize) {
    throw malformed(path, `${label} to inflate to ${uncompressedSize} bytes`, `${bytes.length}`);
  }
  // In a buffer of its own: tensors begin where it does.
  return bytes.byteLength === bytes.buffer.byteLength ? new Uint8Array(bytes.buffer) : new Uint8Array(bytes);
}
