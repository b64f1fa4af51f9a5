import type { FastifyReply } from 'fastify';
import { TorchError } from '../core/errors';
import type { Models } from './models';
import { RequestError } from './request-error';

/**
 * Does what a request asks for, with a signal that stops it when its time is over, when the client has left, or when the server
 * can't wait for it any longer.
 *
 * @param limit Milliseconds.
 */
export async function withStop<Result>(
  { raw }: FastifyReply,
  limit: number,
  models: Models,
  task: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const stop = new AbortController();
  const timer = setTimeout(() => {
    stop.abort(new TorchError('ERR_TIME_LIMIT', `Expected an answer within ${limit} ms but the request takes longer`));
  }, limit);
  const leave = (): void => {
    if (!raw.writableFinished) stop.abort(clientLeft());
  };
  if (raw.destroyed) leave();
  raw.once('close', leave);
  try {
    return await models.serve(stop, () => task(stop.signal));
  } finally {
    clearTimeout(timer);
    raw.off('close', leave);
  }
}

/** Why nobody gets the answer of a request. */
export function clientLeft(): RequestError {
  return new RequestError('ERR_CLIENT_LEFT', 'Expected a client that waits but it left');
}
