// The thread that long bodies are parsed on, one after the other.
import { parentPort } from 'node:worker_threads';
import { TorchError } from '../core/errors';
import { reasonOf } from '../core/validate';
import { type InferRequest, parseInferRequest } from './infer-request';
import type { Parsed, ParseTask } from './parse-thread';

parentPort?.on('message', ({ number, body, headerLength }: ParseTask) => {
  let parsed: Parsed;
  try {
    parsed = { number, request: parseInferRequest(body, headerLength) };
  } catch (error) {
    const code = error instanceof TorchError ? error.code : undefined;
    parsed = { number, error: { code, message: reasonOf(error) } };
  }
  parentPort?.postMessage(parsed, 'request' in parsed ? memoryOf(parsed.request) : []);
});

/** The memory of a request's tensors, which goes to who asked; texts, whose memory may be part of a pool, are copied. */
function memoryOf({ inputs }: InferRequest): ArrayBuffer[] {
  const tensors = [...inputs.values()];
  return [...new Set(tensors.flatMap((tensor) => ('bytes' in tensor ? [tensor.bytes.buffer as ArrayBuffer] : [])))];
}
