import type { CodeGuide } from '../core/error-codes';
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

/** Of all of them: what users are told, and the status of the answer. */
export const SERVER_ERROR_CODES: Readonly<Record<ServerErrorCode, CodeGuide & { status: number }>> = {
  ERR_UNAUTHORIZED: {
    status: 401,
    meaning: 'The request has no key, or an unknown one.',
    cause: 'The server has `apiKeys`, and the request no `Authorization: Bearer …` with one of them.',
    remedy: 'Send a key; the value of one is in the environment variable that `apiKeys` names, where the server runs.',
  },
  ERR_FORBIDDEN: {
    status: 403,
    meaning: 'This client may not ask for that.',
    cause: "A key of other models, a host or an origin that isn't allowed, or an address that isn't this machine's.",
    remedy: 'Use a key of that model, or allow the host, origin or address in the options of the server.',
  },
  ERR_UNKNOWN_MODEL: {
    status: 404,
    meaning: 'The server has no model, or no version of it, of that name.',
    cause: 'A wrong name, or a model that was not given to the server.',
    remedy: '`POST /v2/repository/index` lists the models.',
  },
  ERR_NOT_FOUND: {
    status: 404,
    meaning: 'Nothing is at that path.',
    cause: 'A wrong path or method, or a `prefix` of the plugin that is missing.',
    remedy: 'docs/serving.md lists the paths.',
  },
  ERR_TOO_LARGE: {
    status: 413,
    meaning: 'The body is larger than the server takes.',
    cause: 'Large inputs, above all as JSON.',
    remedy: 'Send tensors as bytes (the binary extension of the protocol), or raise the limit of bodies.',
  },
  ERR_OVERLOADED: {
    status: 429,
    meaning: "The model's queue is full.",
    cause: 'More requests come than the model can compute.',
    remedy: 'Come back after the seconds of `Retry-After`; add machines, batches, or room in the queue.',
  },
  ERR_CLIENT_LEFT: {
    status: 499,
    meaning: 'The client closed the connection ahead of its answer; seen in logs and metrics alone.',
    cause: 'A time limit of the client, or a user who left.',
    remedy: 'Raise the limit of the client where that was not meant: its run was stopped.',
  },
  ERR_NOT_READY: {
    status: 503,
    meaning: "The model isn't loaded, or the server is ending.",
    cause: 'The server has just begun, loads another version, or was told to end.',
    remedy: 'Come back after the seconds of `Retry-After`, or wait for `GET /v2/health/ready`.',
  },
};

/** The status of what the model, or the reading of its inputs, failed with; 500 for all others. */
const MODEL_STATUS: Partial<Record<ErrorCode, number>> = {
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
    this.statusCode = SERVER_ERROR_CODES[code].status;
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
