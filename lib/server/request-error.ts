import { type ErrorCode, TorchError } from '../core/errors';

/**
 * The codes of answers that are errors, beside those of `TorchError`.
 *
 * | code | status | |
 * | --- | --- | --- |
 * | `ERR_UNAUTHORIZED` | 401 | no key, or an unknown one |
 * | `ERR_FORBIDDEN` | 403 | a key of other models, a host or an origin that isn't allowed, an address that isn't this machine's |
 * | `ERR_UNKNOWN_MODEL`, `ERR_NOT_FOUND` | 404 | no model, or nothing, of that name |
 * | `ERR_TOO_LARGE` | 413 | a body beyond the limit |
 * | `ERR_OVERLOADED` | 429 | the model's queue is full; `Retry-After` says when to come back |
 * | `ERR_CLIENT_LEFT` | 499 | seen in logs and metrics alone: nobody gets that answer |
 * | `ERR_NOT_READY` | 503 | the model isn't loaded, or the server is ending |
 *
 * @example
 * const worthRetrying = new Set<ServerErrorCode>(['ERR_OVERLOADED', 'ERR_NOT_READY']);
 */
export type ServerErrorCode =
  | 'ERR_UNAUTHORIZED'
  | 'ERR_FORBIDDEN'
  | 'ERR_UNKNOWN_MODEL'
  | 'ERR_NOT_FOUND'
  | 'ERR_TOO_LARGE'
  | 'ERR_OVERLOADED'
  | 'ERR_CLIENT_LEFT'
  | 'ERR_NOT_READY';

/** The statuses of those answers. */
export const SERVER_STATUS: Readonly<Record<ServerErrorCode, number>> = {
  ERR_UNAUTHORIZED: 401,
  ERR_FORBIDDEN: 403,
  ERR_UNKNOWN_MODEL: 404,
  ERR_NOT_FOUND: 404,
  ERR_TOO_LARGE: 413,
  ERR_OVERLOADED: 429,
  ERR_CLIENT_LEFT: 499,
  ERR_NOT_READY: 503,
};

/** The status of what the model, or the reading of its inputs, failed with; 500 for all others. */
export const MODEL_STATUS: Partial<Record<ErrorCode, number>> = {
  ERR_INVALID_ARGUMENT: 400,
  ERR_UNKNOWN_MODULE: 400,
  ERR_NO_ATTENTION: 400,
  ERR_CAPTURE_TOO_LARGE: 413,
  ERR_MEMORY_LIMIT: 413,
  // What a model can't compute is what it was given, nearly always: asking again doesn't help.
  ERR_MODEL_RUN: 422,
  ERR_UNTRUSTED: 422,
  ERR_DISPOSED: 503,
  ERR_TIME_LIMIT: 504,
};

/** Why a request isn't served. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly statusCode: number;

  constructor(
    readonly code: ServerErrorCode,
    message: string,
    /** Seconds after which to come back. */
    readonly retryAfter?: number,
  ) {
    super(message);
    this.statusCode = SERVER_STATUS[code];
  }
}

/** An error as it is answered. */
export interface ErrorAnswer {
  status: number;
  body: { error: string; code?: string };
  retryAfter?: number;
}

/** The status and the body of the answer that an error makes. What isn't known to be meant for clients stays inside. */
export function errorAnswer(error: unknown): ErrorAnswer {
  if (error instanceof RequestError) {
    const { statusCode: status, code, message, retryAfter } = error;
    return { status, body: { error: message, code }, ...(retryAfter === undefined ? {} : { retryAfter }) };
  }
  if (error instanceof TorchError) {
    return { status: MODEL_STATUS[error.code] ?? 500, body: { error: error.message, code: error.code } };
  }
  const { statusCode, code, message } = error as { statusCode?: number; code?: string; message?: string };
  // Fastify's own, of a body that is too large or no body at all.
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    const own = statusCode === 413 ? 'ERR_TOO_LARGE' : code;
    return { status: statusCode, body: { error: String(message), ...(own === undefined ? {} : { code: own }) } };
  }
  return { status: 500, body: { error: 'The server failed; its log says why' } };
}
