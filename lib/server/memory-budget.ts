import { TorchError } from '../core/errors';

/** A model that can be loaded again when it is asked for. */
export interface Evictable {
  /** What it takes. */
  readonly bytes: number;
  /** Whether nobody uses it. */
  readonly idle: boolean;
  /** When it was used the last time, in milliseconds. */
  readonly lastUsed: number;
  /** Frees it, and gives its share back. */
  evict(): void;
}

/** The part of a budget that one model has. */
export interface Share {
  readonly bytes: number;
  /**
   * Makes it as large as the model is.
   *
   * @throws TorchError `ERR_MEMORY_LIMIT`.
   */
  resize(bytes: number): void;
  /** Gives it back, once. */
  release(): void;
}

/** Thrown where there will be room once others are idle. */
export class RoomInUse extends TorchError {}

/** The memory that the models of a server may take together. Idle ones that can be loaded again make room for others. */
export class MemoryBudget {
  #taken = 0;
  readonly #evictable = new Set<Evictable>();

  /** @param most Bytes. */
  constructor(private readonly most: number) {}

  /** What is taken, in bytes. */
  get taken(): number {
    return this.#taken;
  }

  /**
   * Takes as much.
   *
   * @param model Its name, for the error.
   * @throws TorchError `ERR_MEMORY_LIMIT`.
   */
  take(bytes: number, model: string): Share {
    this.#makeRoom(bytes, model);
    let size = bytes;
    this.#taken += size;
    let released = false;
    return {
      get bytes() {
        return size;
      },
      resize: (wanted) => {
        if (wanted > size) this.#makeRoom(wanted - size, model, wanted);
        this.#taken += wanted - size;
        size = wanted;
      },
      release: () => {
        if (!released) this.#taken -= size;
        released = true;
      },
    };
  }

  /** From here on, until the function that it returns is called, a model may make room for others while it is idle. */
  offer(model: Evictable): () => void {
    this.#evictable.add(model);
    return () => this.#evictable.delete(model);
  }

  /** The least recently used ones go first, and none where that isn't enough. */
  #makeRoom(bytes: number, model: string, whole = bytes): void {
    const all = [...this.#evictable];
    const idle = all.filter((each) => each.idle).sort((a, b) => a.lastUsed - b.lastUsed);
    const sum = (models: readonly Evictable[]) => models.reduce((total, each) => total + each.bytes, 0);
    const excess = (): number => this.#taken + bytes - this.most;
    if (excess() > sum(idle)) {
      const message = `Expected models of at most ${this.most} bytes together (memoryBudget) but received '${model}' of ${whole} beside ${this.#taken}`;
      throw excess() > sum(all)
        ? new TorchError('ERR_MEMORY_LIMIT', message)
        : new RoomInUse('ERR_MEMORY_LIMIT', `${message}, of models that are in use`);
    }
    for (const each of idle) {
      if (excess() <= 0) return;
      each.evict();
    }
  }
}
