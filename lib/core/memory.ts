import { freemem, totalmem } from 'node:os';
import { TorchError } from './errors';

/** The memory that this process may have, of the machine or of its container. */
export function mostMemory(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
}

/** Less is never looked into. */
const SMALL = 2 ** 28;

/**
 * Refuses to take more memory than there is: the system would hand it out, and end the process when it is written to.
 *
 * @param what What would take it: `'a tensor of shape [100000, 100000]'`.
 */
export function checkRoom(bytes: number, what: () => string): void {
  if (bytes <= SMALL) return;
  const room = Math.min(freemem(), mostMemory());
  if (bytes <= room) return;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected what fits into the memory that is free, ${room} bytes, but received ${what()}, which takes ${bytes}`,
  );
}
