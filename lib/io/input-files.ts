import { extname } from 'node:path';
import { TorchError } from '../core/errors';
import type { Entries, Entry } from '../formats/entry';
import { readJson } from '../formats/json';
import { readNpz } from '../formats/npz';
import { readSafetensors } from '../formats/safetensors';

const READERS: Record<string, (path: string) => Promise<Entries>> = {
  '.safetensors': readSafetensors,
  '.npz': readNpz,
  '.json': readJson,
};

/** Reads the tensors of an input file, by its extension. */
export async function readInputs(path: string): Promise<Entry[]> {
  const reader = READERS[extname(path).toLowerCase()];
  if (!reader) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected inputs in a .safetensors, .npz or .json file but received ${path}`,
    );
  }
  let entries: Entry[];
  try {
    ({ entries } = await reader(path));
  } catch (error) {
    if (error instanceof TorchError) throw error;
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a readable file of inputs: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (!entries.length)
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected at least one tensor in ${path} but received none`);
  return entries;
}
