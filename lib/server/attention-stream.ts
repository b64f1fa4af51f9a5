import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import type { FastifyReply } from 'fastify';
import { unlessAborted } from '../core/cancellable';
import { byteLength, encodeResponse, type ResponseHead, type WireOutput } from './infer-response';
import { errorAnswer } from './request-error';

/** The type of a stream of frames. */
export const FRAMES = 'application/vnd.libtorch-attention.frames';

/**
 * A stream of frames to one client. Each is four bytes with the length of its JSON (little-endian), the JSON of a response of the
 * protocol, and the bytes of its tensors, as `binary_data_size` says. Who writes waits until the client has read.
 */
export class FrameStream {
  readonly #stream = new PassThrough();
  #begun = false;

  constructor(
    private readonly reply: FastifyReply,
    private readonly head: ResponseHead,
  ) {}

  /** Whether the status is sent, so that an error is a frame. */
  get begun(): boolean {
    return this.#begun;
  }

  async write(
    outputs: readonly WireOutput[],
    parameters: Record<string, unknown> | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const head = { ...this.head, ...(parameters && { parameters }) };
    const { json, binary } = await encodeResponse(head, outputs, { binary: true });
    await this.#send(frameOf(json, binary), signal);
  }

  async #send(frame: Uint8Array[], signal: AbortSignal): Promise<void> {
    if (!this.#begun) {
      this.#begun = true;
      void this.reply.type(FRAMES).send(this.#stream);
    }
    let room = true;
    for (const part of frame) room = this.#stream.write(part);
    if (!room) await unlessAborted(once(this.#stream, 'drain'), signal);
  }

  end(): void {
    this.#stream.end();
  }

  /** Ends with the error instead of what was to come. */
  fail(error: unknown): void {
    const body = Buffer.from(JSON.stringify(errorAnswer(error).body));
    for (const part of frameOf([body], [])) this.#stream.write(part);
    this.#stream.end();
  }
}

function frameOf(json: Buffer[], binary: Uint8Array[]): Uint8Array[] {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(byteLength(json));
  return [length, ...json, ...binary];
}
