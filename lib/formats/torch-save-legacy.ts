import { shortened, shown } from '../core/validate';
import { malformed, type StateEntries } from './entry';
import type { OpenFile } from './file';
import type { Wanted } from './find-state-dict';
import { readPickle } from './pickle';
import { handlersFor, type Storage } from './saved-tensors';
import { readState } from './torch-save';

// torch.save before PyTorch 1.6, or with _use_new_zipfile_serialization=False: one pickle after the other (a magic number,
// the version, the system, what was saved, the keys of the storages), then the storages in the order of their keys, each
// as its number of elements (int64) and these. All is little-endian, on whatever system it was written.

const MAGIC_NUMBER = 0x1950a86a20f9469cfc6cn;
const VERSION = 1001;
/** How much of a file is looked at for its pickles at first, and at most. */
const FIRST_BYTES = 2 ** 20;
const MOST_BYTES = 2 ** 30;

interface Pickles {
  saved: unknown;
  /** The storages that tensors refer to, by key. */
  storages: Map<string, Storage>;
  keys: string[];
  /** Where the first storage begins. */
  end: number;
}

/**
 * Reads the tensors of a state dictionary as `readTorchSave`, from a file in the format before PyTorch 1.6. Nothing in it
 * is run.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file without such a dictionary.
 */
export async function readLegacyTorchSave(file: OpenFile, wanted: Wanted): Promise<StateEntries> {
  const { path, size, read } = file;
  const { saved, storages, keys, end } = await readPickles(file);
  const places = new Map<string, { begin: number; length: number }>();
  let at = end;
  for (const key of keys) {
    const storage = storages.get(key);
    if (!storage) throw malformed(path, 'storages that tensors refer to', `another one, '${shortened(key)}'`);
    const count = Number(new DataView((await read(at, at + 8)).buffer).getBigInt64(0, true));
    const length = count * storage.size;
    if (count < 0 || at + 8 + length > size) {
      throw malformed(
        path,
        `a storage '${shortened(key)}' within its ${size} bytes`,
        `one of ${length} bytes at ${at + 8}`,
      );
    }
    places.set(key, { begin: at + 8, length });
    at += 8 + length;
  }
  return await readState(saved, file, wanted, async (key) => {
    const place = places.get(key);
    if (!place) throw malformed(path, `a storage '${shortened(key)}' in the file`, 'none');
    return await read(place.begin, place.begin + place.length);
  });
}

/** Reads the pickles of a file. Where they end only they tell: of a large file more and more is looked at. */
async function readPickles({ path, size, read }: OpenFile): Promise<Pickles> {
  for (let length = FIRST_BYTES; ; length *= 2) {
    const bytes = await read(0, Math.min(length, size));
    try {
      return picklesIn(bytes, path);
    } catch (error) {
      if (length >= Math.min(size, MOST_BYTES) || !startsLegacy(bytes, path)) throw error;
    }
  }
}

function startsLegacy(bytes: Uint8Array, path: string): boolean {
  return readPickle(bytes, path, handlersFor(path)).value === MAGIC_NUMBER;
}

function picklesIn(bytes: Uint8Array, path: string): Pickles {
  const storages = new Map<string, Storage>();
  const handlers = handlersFor(path, (storage) => {
    if (!storages.has(storage.key)) storages.set(storage.key, storage);
  });
  let end = 0;
  const next = (): unknown => {
    const pickle = readPickle(bytes, path, handlers, end);
    end = pickle.end;
    return pickle.value;
  };
  const expected = 'a file written by torch.save';
  if (next() !== MAGIC_NUMBER) throw malformed(path, expected, 'a pickle of something else');
  const version = next();
  if (version !== VERSION) throw malformed(path, `${expected} in version ${VERSION}`, `version ${shown(version)}`);
  next(); // the system it was written on
  const saved = next();
  const keys = next();
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string' || typeof key === 'number'))
    throw malformed(path, 'a list of the storages', 'something else');
  return { saved, storages, keys: keys.map(String), end };
}
