import { TorchError } from '../core/errors';

/** The memory that the models of a server may take together. */
export class MemoryBudget {
  #taken = 0;

  /** @param most Bytes. */
  constructor(private readonly most: number) {}

  /**
   * Refuses what there is no room for.
   *
   * @param model Its name, for the error.
   * @throws TorchError `ERR_MEMORY_LIMIT`.
   */
  check(bytes: number, model: string): void {
    if (this.#taken + bytes <= this.most) return;
    throw new TorchError(
      'ERR_MEMORY_LIMIT',
      `Expected models of at most ${this.most} bytes together (memoryBudget) but received '${model}' of ${bytes} beside ${this.#taken}`,
    );
  }

  /** Takes as much, until the function that it returns is called. */
  take(bytes: number, model: string): () => void {
    this.check(bytes, model);
    this.#taken += bytes;
    return () => {
      this.#taken -= bytes;
    };
  }
}
