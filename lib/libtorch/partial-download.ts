import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** How folders of downloads that were broken off begin. */
export const PARTIAL = 'partial-';

/**
 * A file that is being downloaded, in a folder of its own with what tells this version of it from others. While it grows it lies in
 * the folder of its process; broken off, it is kept in the cache directory, where the next process takes it: renaming a folder lets
 * one have it.
 */
export class PartialDownload {
  readonly #name: string;
  readonly #folder: string;
  /** Of the file. */
  readonly path: string;
  readonly #validator: string;

  /**
   * @param url where it comes from
   * @param temporary the folder of this process
   * @param directory the cache directory
   */
  constructor(
    url: string,
    temporary: string,
    readonly directory: string,
  ) {
    this.#name = `${PARTIAL}${createHash('sha256').update(url).digest('hex').slice(0, 16)}`;
    this.#folder = join(temporary, this.#name);
    this.path = join(this.#folder, 'archive');
    this.#validator = join(this.#folder, 'validator');
    if (!rename(join(directory, this.#name), this.#folder)) mkdirSync(this.#folder, { recursive: true });
  }

  /** How many bytes are there. */
  size(): number {
    return statSync(this.path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Whether the server said what it takes to go on behind what is there. */
  canGoOn(): boolean {
    return this.size() > 0 && this.#validatorOrEmpty() !== '';
  }

  /** Asks for what is missing, of the same version of the file; or for all of it. */
  rangeHeaders(): Record<string, string> {
    return this.canGoOn() ? { range: `bytes=${this.size()}-`, 'if-range': this.#validatorOrEmpty() } : {};
  }

  /** Makes ready for what a server sends, and returns how many bytes of the file are ahead of it. */
  begin({ status, headers }: Response): number {
    const size = this.size();
    if (status === 206 && headers.get('content-range')?.startsWith(`bytes ${size}-`)) return size;
    this.remove();
    const etag = headers.get('etag') ?? '';
    // A weak one may stand for other bytes.
    const validator = etag.startsWith('"') ? etag : (headers.get('last-modified') ?? '');
    const serves = headers.get('accept-ranges') === 'bytes' && !headers.has('content-encoding');
    if (serves) writeFileSync(this.#validator, validator);
    return 0;
  }

  remove(): void {
    for (const file of [this.path, this.#validator]) rmSync(file, { force: true });
  }

  /** Leaves what is there for the next process, if it can go on with it. */
  keep(): void {
    if (this.canGoOn()) rename(this.#folder, join(this.directory, this.#name));
  }

  #validatorOrEmpty(): string {
    try {
      return readFileSync(this.#validator, 'latin1');
    } catch {
      return '';
    }
  }
}

/** Whether it worked: something may have been faster, or be in the way. */
export function rename(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch {
    return false;
  }
}
