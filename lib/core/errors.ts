/** The codes that an error of this package can carry. */
export type ErrorCode =
  | 'ERR_LIBTORCH_NOT_FOUND'
  | 'ERR_LIBTORCH_VERSION'
  | 'ERR_ADDON_LOAD'
  | 'ERR_MODEL_LOAD'
  | 'ERR_MODEL_RUN'
  | 'ERR_UNTRUSTED'
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_UNKNOWN_MODULE'
  | 'ERR_HOOK_NAME_IN_USE'
  | 'ERR_HOOK_FAILED'
  | 'ERR_NO_ATTENTION'
  | 'ERR_CAPTURE_TOO_LARGE'
  | 'ERR_TIME_LIMIT'
  | 'ERR_MEMORY_LIMIT'
  | 'ERR_DEVICE_UNAVAILABLE'
  | 'ERR_DISPOSED';

/**
 * Every error that this package throws or rejects with: an `Error` with a `code`, and a message that says what was
 * expected and what was received.
 */
export class TorchError extends Error {
  override readonly name = 'TorchError';
  readonly code: ErrorCode;
  /** What libtorch said below the message: its C++ backtrace or TorchScript trace, where there is one. */
  declare readonly nativeStack?: string;

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; nativeStack?: string } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    if (options.nativeStack) this.nativeStack = options.nativeStack;
  }
}
