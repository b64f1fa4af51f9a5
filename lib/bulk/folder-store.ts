import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { invalid } from '../core/validate';
import { type ResultStore, type StoredResult, storeError } from './result-store';

/** The folder below it where files are made: a rename has to stay in one file system. */
const SCRATCH = '.scratch';

/**
 * A store in a folder of this machine, or of a file system that several share. Each object is written under another name, reaches
 * the disk (fsync), is renamed, and so does its folder: a crash leaves it as a whole or not at all.
 *
 * @param path The folder, which is made with the first object where it isn't there.
 * @returns The store; nothing is made yet.
 * @throws TorchError `ERR_INVALID_ARGUMENT` for an empty path.
 *
 * @example
 * const store = folderStore('results');
 */
export function folderStore(path: string): ResultStore {
  if (typeof path !== 'string' || path === '') throw invalid('the path of a folder', 'path', path);
  return new FolderStore(resolve(path), path);
}

/** The folder of a store, where it is one of this kind. */
export function folderOf(store: ResultStore): string | undefined {
  return store instanceof FolderStore ? store.folder : undefined;
}

class FolderStore implements ResultStore {
  readonly scratch: string;

  constructor(
    readonly folder: string,
    readonly name: string,
  ) {
    this.scratch = join(folder, SCRATCH);
  }

  async put(name: string, content: Uint8Array | { path: string }): Promise<void> {
    const target = join(this.folder, name);
    let part: string | undefined;
    try {
      await mkdir(this.scratch, { recursive: true });
      if (content instanceof Uint8Array) {
        part = join(this.scratch, `${randomBytes(8).toString('hex')}.part`);
        await writeNew(part, [content], true);
      } else {
        part = content.path;
        await syncPath(part);
      }
      const folder = dirname(target);
      if (!existsSync(folder)) {
        await mkdir(folder, { recursive: true });
        await syncPath(dirname(folder));
      }
      await rename(part, target);
      await syncPath(folder);
    } catch (error) {
      if (part !== undefined) await rm(part, { force: true }).catch(() => {});
      throw storeError(this.name, `writing ${name}`, error);
    }
  }

  async get(name: string): Promise<Uint8Array | undefined> {
    try {
      return await readFile(join(this.folder, name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw storeError(this.name, `reading ${name}`, error);
    }
  }

  async list(prefix: string): Promise<StoredResult[]> {
    const slash = prefix.lastIndexOf('/') + 1;
    const [folder, begin] = [prefix.slice(0, slash), prefix.slice(slash)];
    try {
      const names = (await readdir(join(this.folder, folder), { withFileTypes: true })).filter(
        (entry) => entry.isFile() && entry.name.startsWith(begin),
      );
      const found: StoredResult[] = [];
      for (const entry of names) {
        // One that was replaced meanwhile is there all the same; one that was removed isn't.
        const stats = await stat(join(this.folder, folder, entry.name)).catch(() => undefined);
        if (stats) found.push({ name: `${folder}${entry.name}`, size: stats.size });
      }
      return found;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw storeError(this.name, `listing ${prefix}`, error);
    }
  }

  async remove(name: string): Promise<void> {
    try {
      await rm(join(this.folder, name), { force: true });
    } catch (error) {
      throw storeError(this.name, `removing ${name}`, error);
    }
  }
}

/** Writes a new file; leaves none where it can't. All of it has reached the disk when this resolves, with `sync`. */
export async function writeNew(path: string, parts: Iterable<Uint8Array>, sync: boolean): Promise<number> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'wx');
    let bytes = 0;
    for (const part of parts) {
      await file.writeFile(part);
      bytes += part.byteLength;
    }
    if (sync) await file.sync();
    await file.close();
    return bytes;
  } catch (error) {
    await file?.close().catch(() => {});
    if (file) await rm(path, { force: true }).catch(() => {});
    throw error;
  }
}

/** Waits until a file, or the names in a folder, have reached the disk. */
async function syncPath(path: string): Promise<void> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    // Windows opens no folders, and keeps their names by itself.
    if (process.platform === 'win32' && ['EISDIR', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? ''))
      return;
    throw error;
  }
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
