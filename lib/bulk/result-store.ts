import { TorchError } from '../core/errors';
import { reasonOf, shortened } from '../core/validate';

/**
 * Where the results of a bulk run are kept: objects by name, as in a folder or a bucket. Whoever reads sees an object as a whole or
 * not at all, and what was put is there to stay.
 *
 * @example
 * const store: ResultStore = folderStore('results');
 * await bulk({ model: 'bert.pt2', inputs: 'data/*.safetensors', out: store });
 */
export interface ResultStore {
  /** How it is called in messages: `'results'`, `'s3://bucket/run-1'`. */
  readonly name: string;
  /** A folder of this machine where files are made before they are put. */
  readonly scratch: string;
  /**
   * Keeps bytes, or a file below `scratch`, which may be moved, under a name; over what is there.
   *
   * @param name A path of names with slashes between them.
   * @param content Bytes, or a file below `scratch`.
   * @throws TorchError `ERR_NO_SPACE` where there is no room, `ERR_RESULT_STORE` for any other reason.
   */
  put(name: string, content: Uint8Array | { path: string }): Promise<void>;
  /**
   * The bytes under a name; undefined where there is nothing.
   *
   * @param name As it was put.
   * @returns The bytes, as a whole.
   * @throws TorchError `ERR_RESULT_STORE` where it can not be read.
   */
  get(name: string): Promise<Uint8Array | undefined>;
  /**
   * What is there below a prefix, which ends with a slash or is part of a name, in any order.
   *
   * @param prefix `''` for all of it.
   * @returns Names and sizes.
   * @throws TorchError `ERR_RESULT_STORE`.
   */
  list(prefix: string): Promise<StoredResult[]>;
  /**
   * Removes what is there under a name, if anything.
   *
   * @param name As it was put.
   * @throws TorchError `ERR_RESULT_STORE`.
   */
  remove(name: string): Promise<void>;
}

/**
 * An object of a store.
 *
 * @example
 * const bytes = (results: readonly StoredResult[]) => results.reduce((sum, { size }) => sum + size, 0);
 */
export interface StoredResult {
  /** The name that it was put under. */
  name: string;
  /** Its bytes. */
  size: number;
}

/** The error for what can't be written to a store, or read. */
export function storeError(store: string, doing: string, error: unknown): TorchError {
  if (error instanceof TorchError) return error;
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new TorchError(
      'ERR_NO_SPACE',
      `Expected room in ${shortened(store)} for ${doing} but the disk is full, or the quota used up (${code}): make room, and go on with --resume`,
      { cause: error },
    );
  }
  return new TorchError(
    'ERR_RESULT_STORE',
    `Expected ${shortened(store)} to take part in ${doing}: ${reasonOf(error)}`,
    {
      cause: error,
    },
  );
}
