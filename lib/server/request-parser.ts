import { type InferRequest, parseInferRequest } from './infer-request';
import { loopTurn } from './loop-turn';
import { ParseThread } from './parse-thread';

/** Shorter JSON, in bytes, is parsed on the event loop's thread, in a few milliseconds. */
const SHORT = 2 ** 18;
/** Milliseconds without work after which the thread ends: what it took doesn't come back before. */
const IDLE = 10_000;

/**
 * Reads bodies of requests: long ones on a thread of their own, so that nobody waits for them on the event loop, and one that is made
 * to take all memory doesn't take the process with it.
 */
export class RequestParser {
  #thread: ParseThread | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param limits Bytes that a body may have, and milliseconds that it may take. */
  constructor(private readonly limits: { bodyLimit: number; timeLimit: number }) {}

  /**
   * @throws TorchError `ERR_INVALID_ARGUMENT` for a body that is no request; `ERR_TIME_LIMIT`; RequestError `ERR_TOO_LARGE`,
   *   `ERR_NOT_READY`.
   */
  async parse(body: Uint8Array, headerLength: string | undefined): Promise<InferRequest> {
    const isLong = Number(headerLength ?? body.length) > SHORT;
    if (!isLong) {
      await loopTurn();
      return parseInferRequest(body, headerLength);
    }
    clearTimeout(this.#timer);
    const thread = this.#thread ?? this.#start();
    try {
      return await thread.parse(body, headerLength);
    } finally {
      if (thread.idle && thread === this.#thread) {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => void this.end(), IDLE).unref();
      }
    }
  }

  #start(): ParseThread {
    const { bodyLimit, timeLimit } = this.limits;
    const thread = new ParseThread(bodyLimit, timeLimit, () => {
      if (this.#thread === thread) this.#thread = undefined;
    });
    this.#thread = thread;
    return thread;
  }

  /** Ends the thread, and what it is at. */
  async end(): Promise<void> {
    clearTimeout(this.#timer);
    const thread = this.#thread;
    this.#thread = undefined;
    const ended = thread?.end();
    if (thread?.idle) await ended; // one that is at a body may take a minute
  }
}
