import type { Unseen } from './unseen';

/**
 * The codes that an error of this package can carry.
 *
 * | code | what it says |
 * | --- | --- |
 * | `ERR_LIBTORCH_NOT_FOUND`, `ERR_LIBTORCH_VERSION`, `ERR_ADDON_LOAD` | libtorch is missing, of another release, or can't be loaded |
 * | `ERR_MODEL_LOAD`, `ERR_UNSUPPORTED_FILE`, `ERR_UNTRUSTED` | a file is none, is another kind of file, or does more than an untrusted one may |
 * | `ERR_UNKNOWN_OPERATOR` | a program uses an operator that this libtorch doesn't have |
 * | `ERR_MODEL_RUN`, `ERR_HOOK_FAILED` | the model, or a hook (its `cause`), failed |
 * | `ERR_INVALID_ARGUMENT`, `ERR_UNKNOWN_MODULE`, `ERR_HOOK_NAME_IN_USE`, `ERR_DISPOSED` | what was given can't be used |
 * | `ERR_NOT_HOOKABLE` | nothing tells what passes a module |
 * | `ERR_NO_ATTENTION`, `ERR_CAPTURE_TOO_LARGE` | there is nothing to capture, or more than `maxBytes` |
 * | `ERR_TIME_LIMIT`, `ERR_MEMORY_LIMIT` | a run went beyond a limit |
 * | `ERR_DEVICE_UNAVAILABLE` | a device isn't there, or can't be used |
 * | `ERR_MISSING_PACKAGE` | a package that only some users need isn't installed |
 * | `ERR_NO_SPACE`, `ERR_RESULT_STORE` | results of a bulk run can't be written or read: the disk is full, or another reason |
 * | `ERR_WORKER_ENDED` | the process that ran an input of a bulk run ended, each time that it was tried |
 * | `ERR_TOO_MANY_FAILURES` | more inputs of a bulk run failed than `maxFailures` |
 * | `ERR_QUEUE` | the queue of a bulk run can't be reached, or gave up on a part of it |
 *
 * @example
 * const worthRetrying = new Set<ErrorCode>(['ERR_TIME_LIMIT', 'ERR_MEMORY_LIMIT']);
 */
export type ErrorCode =
  | 'ERR_LIBTORCH_NOT_FOUND'
  | 'ERR_LIBTORCH_VERSION'
  | 'ERR_ADDON_LOAD'
  | 'ERR_MODEL_LOAD'
  | 'ERR_MODEL_RUN'
  | 'ERR_UNSUPPORTED_FILE'
  | 'ERR_UNKNOWN_OPERATOR'
  | 'ERR_UNTRUSTED'
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_UNKNOWN_MODULE'
  | 'ERR_HOOK_NAME_IN_USE'
  | 'ERR_NOT_HOOKABLE'
  | 'ERR_HOOK_FAILED'
  | 'ERR_NO_ATTENTION'
  | 'ERR_CAPTURE_TOO_LARGE'
  | 'ERR_TIME_LIMIT'
  | 'ERR_MEMORY_LIMIT'
  | 'ERR_DEVICE_UNAVAILABLE'
  | 'ERR_MISSING_PACKAGE'
  | 'ERR_NO_SPACE'
  | 'ERR_RESULT_STORE'
  | 'ERR_WORKER_ENDED'
  | 'ERR_TOO_MANY_FAILURES'
  | 'ERR_QUEUE'
  | 'ERR_DISPOSED';

/**
 * Every error that this package throws or rejects with: an `Error` with a `code`, and a message that says what was
 * expected and what was received. An aborted call rejects with the signal's reason instead.
 *
 * @example
 * try {
 *   await model.forward([ids], { timeLimit: 1000 });
 * } catch (error) {
 *   if (!(error instanceof TorchError) || error.code !== 'ERR_TIME_LIMIT') throw error;
 * }
 */
export class TorchError extends Error {
  /**
   * `'TorchError'`.
   *
   * @example
   * const isOurs = (error: unknown) => (error as Error).name === 'TorchError';
   */
  override readonly name = 'TorchError';
  /**
   * Says what went wrong, in a word that stays as it is.
   *
   * @example
   * model.forward([ids]).catch((error: TorchError) => console.error(error.code));
   */
  readonly code: ErrorCode;
  /**
   * What libtorch said below the message: its C++ backtrace or TorchScript trace, where there is one.
   *
   * @example
   * model.forward([ids]).catch((error: TorchError) => console.error(error.nativeStack ?? error.stack));
   */
  declare readonly nativeStack?: string;
  /**
   * Of `ERR_NO_ATTENTION`: what looked like attention and could not be recorded.
   *
   * @example
   * model.captureAttention([ids]).catch((error: TorchError) => console.error(error.unseen?.map(({ reason }) => reason)));
   */
  declare readonly unseen?: readonly Unseen[];

  /**
   * Errors are made by this package; a mock in a test may make one.
   *
   * @param code What went wrong.
   * @param message What was expected, and what was received.
   * @param options The `cause`, the native stack, and what was `unseen`.
   * @throws Nothing.
   */
  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; nativeStack?: string; unseen?: readonly Unseen[] } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    if (options.nativeStack) this.nativeStack = options.nativeStack;
    if (options.unseen) this.unseen = options.unseen;
  }
}
