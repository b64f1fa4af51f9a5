import { stat } from 'node:fs/promises';

/** Notices that a file has become another, by asking the file system, which works wherever the file is. */
export class FileWatch {
  readonly #timer: NodeJS.Timeout;
  #seen: string | undefined;
  #busy = false;

  private constructor(
    private readonly path: string,
    interval: number,
    private readonly changed: () => Promise<void>,
    private known: string | undefined,
  ) {
    this.#seen = known;
    this.#timer = setInterval(() => void this.#look(), interval);
    this.#timer.unref();
  }

  /**
   * @param interval Milliseconds between two looks.
   * @param changed Called when the file is another, and was the same at two looks: nobody writes it any more.
   */
  static async begin(path: string, interval: number, changed: () => Promise<void>): Promise<FileWatch> {
    return new FileWatch(path, interval, changed, await markOf(path));
  }

  async #look(): Promise<void> {
    if (this.#busy) return;
    this.#busy = true;
    try {
      const mark = await markOf(this.path);
      const settled = mark === this.#seen;
      this.#seen = mark;
      if (!settled || mark === this.known || mark === undefined) return;
      this.known = mark;
      await this.changed();
    } finally {
      this.#busy = false;
    }
  }

  end(): void {
    clearInterval(this.#timer);
  }
}

/** What differs when a file is written or replaced; undefined while there is none. */
async function markOf(path: string): Promise<string | undefined> {
  try {
    const { ino, size, mtimeNs } = await stat(path, { bigint: true });
    return `${ino} ${size} ${mtimeNs}`;
  } catch {
    return undefined;
  }
}
