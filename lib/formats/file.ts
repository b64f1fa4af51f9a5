import { constants, type Stats } from 'node:fs';
import { access, type FileHandle, open, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type ErrorCode, TorchError } from '../core/errors';
import { shortened } from '../core/validate';
import { malformed } from './entry';

/** A file that is being read: bytes at places that were checked to be in it. */
export interface OpenFile {
  path: string;
  size: number;
  /** The bytes from `begin` to before `end`, which have to be in the file. */
  read(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
}

/** How many bytes the system is asked for at once. */
const CHUNK = 2 ** 30;

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a named pipe';
  if (stats.isSocket()) return 'a socket';
  if (stats.isCharacterDevice() || stats.isBlockDevice()) return 'a device';
  return 'something else';
}

function checkKind(path: string, stats: Stats): void {
  if (!stats.isFile()) throw malformed(shortened(path), 'a file', kindOf(stats));
  if (stats.size === 0) throw malformed(shortened(path), 'a file with something in it', 'an empty one');
}

/**
 * Checks that a string can be the path of a file.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT
 */
function checkPath(path: string): void {
  if (path === '') throw malformed("''", 'the path of a file', 'an empty string');
  if (path.includes('\0'))
    throw malformed(`'${shortened(path.replaceAll('\0', '\\0'))}'`, 'the path of a file', 'one with a null character');
}

function unreadable(path: string, error: unknown): Error {
  return malformed(shortened(path), 'a readable file', `none: ${(error as Error).message}`, error);
}

/**
 * Checks that there is a file at a path: no directory, and no pipe, socket or device, which could be waited for or read
 * without end.
 *
 * @param code Of the error where there is none.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a string that can't be a path.
 */
export async function checkFile(path: string, code: ErrorCode = 'ERR_INVALID_ARGUMENT'): Promise<void> {
  checkPath(path);
  try {
    checkKind(path, await statsOf(path));
  } catch (error) {
    if (code === 'ERR_INVALID_ARGUMENT') throw error;
    throw new TorchError(code, (error as Error).message, { cause: error });
  }
}

async function statsOf(path: string): Promise<Stats> {
  try {
    return await stat(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

/**
 * Opens the file at a path, lends it to `use`, and closes it. Every reader of files goes through here.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT where there is none, or what is there is none (see `checkFile`).
 */
export async function withFile<Result>(path: string, use: (file: OpenFile) => Promise<Result>): Promise<Result> {
  await checkFile(path);
  let file: FileHandle;
  try {
    // Without waiting: it may be a pipe by now.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw unreadable(path, error);
  }
  try {
    const stats = await file.stat();
    checkKind(path, stats);
    const { size } = stats;
    return await use({ path, size, read: (begin, end) => readRange(file, path, size, begin, end) });
  } finally {
    await file.close();
  }
}

async function readRange(
  file: FileHandle,
  path: string,
  size: number,
  begin: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer>> {
  if (!Number.isSafeInteger(begin) || !Number.isSafeInteger(end) || begin < 0 || end < begin || end > size) {
    throw malformed(path, `bytes within its ${size}`, `those from ${begin} to ${end}`);
  }
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(end - begin);
  } catch (error) {
    throw malformed(path, 'no more bytes at once than an ArrayBuffer holds', `${end - begin}`, error);
  }
  for (let done = 0; done < bytes.length; ) {
    const length = Math.min(bytes.length - done, CHUNK);
    let bytesRead: number;
    try {
      ({ bytesRead } = await file.read(bytes, done, length, begin + done));
    } catch (error) {
      throw unreadable(path, error);
    }
    if (bytesRead === 0) throw malformed(path, `${end} bytes`, `${begin + done}: it shrank while it was read`);
    done += bytesRead;
  }
  return bytes;
}

/** The whole of a file. @param most The most bytes that it may have. */
export async function readWhole(path: string, most: number): Promise<Uint8Array<ArrayBuffer>> {
  return await withFile(path, async ({ size, read }) => {
    if (size > most) throw malformed(shortened(path), `a file of at most ${most} bytes`, `one of ${size}`);
    return await read(0, size);
  });
}

/** The error for a file that can't be written: what the system says of it, without the name that it had meanwhile. */
export function unwritable(path: string, error: unknown): TorchError {
  const { message } = error as Error;
  const [reason] = message.split(/, (?:open|write|close|rename|fsync|stat|access)\b/);
  return new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected a path that can be written but received '${shortened(path)}': ${reason}`,
    {
      cause: error,
    },
  );
}

/**
 * Checks that a file can be written at a path, ahead of the work that makes what is to be written: nothing is written, and what
 * is there stays as it is.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT
 */
export async function checkWritable(path: string): Promise<void> {
  checkPath(path);
  try {
    const there = await stat(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (there?.isDirectory()) throw new Error('EISDIR: illegal operation on a directory');
    const folder = dirname(path);
    if (!there && !(await stat(folder)).isDirectory()) throw new Error('ENOTDIR: not a directory');
    await access(there ? path : folder, constants.W_OK);
  } catch (error) {
    throw unwritable(path, error);
  }
}

/**
 * Writes a file, over what is there.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a path that can't be written.
 */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  try {
    await writeFile(path, content);
  } catch (error) {
    throw unwritable(path, error);
  }
}

/** Bytes in memory as a file of that name. */
export function fileOf(bytes: Uint8Array, name: string): OpenFile {
  return {
    path: name,
    size: bytes.length,
    async read(begin, end) {
      if (!(begin >= 0 && end >= begin && end <= bytes.length))
        throw malformed(name, `bytes within its ${bytes.length}`, `those from ${begin} to ${end}`);
      return new Uint8Array(bytes.subarray(begin, end));
    },
  };
}
