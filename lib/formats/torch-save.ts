import { openPromise, type Entry as ZipEntry, type ZipFile } from 'yauzl';
import { type Entry, malformed, type StateEntries } from './entry';
import { findStateDict, type Wanted } from './find-state-dict';
import { readPickle } from './pickle';
import { entryOf, ForeignTensor, handlersFor } from './saved-tensors';

// torch.save: a zip archive with the pickle <name>/data.pkl and one file <name>/data/<key> for each storage.

/** Whether a zip archive is TorchScript's (`torch.jit.save`) or `torch.save`'s; undefined for others. */
export async function kindOfArchive(path: string): Promise<'torch-script' | 'torch-save' | undefined> {
  return await withArchive(path, async (files) => {
    const names = [...files.entries.keys()];
    if (names.some((name) => /^[^/]+\/constants\.pkl$/.test(name))) return 'torch-script';
    return names.some((name) => /^[^/]+\/data\.pkl$/.test(name)) ? 'torch-save' : undefined;
  });
}

/**
 * Reads the tensors of a state dictionary that `torch.save` wrote, those below the wanted prefix: of the saved dictionary
 * itself, or of the one in it that fits. Nothing in the file is run.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file without such a dictionary.
 */
export async function readTorchSave(path: string, wanted: Wanted): Promise<StateEntries> {
  return await withArchive(path, async (files) => {
    const pickle = [...files.entries.keys()].find((name) => /^[^/]+\/data\.pkl$/.test(name));
    if (pickle === undefined) throw malformed(path, 'a file written by torch.save', 'a zip archive without data.pkl');
    const root = pickle.slice(0, -'data.pkl'.length);
    const byteorder = files.entries.has(`${root}byteorder`)
      ? new TextDecoder().decode(await files.read(`${root}byteorder`)).trim()
      : 'little';
    if (byteorder !== 'little') throw malformed(path, 'little-endian tensors', `${byteorder}-endian ones`);

    const { value } = readPickle(await files.read(pickle), path, handlersFor(path));
    return await readState(value, path, wanted, (key) => files.read(`${root}data/${key}`));
  });
}

/** The tensors of a state dictionary in what was saved; `read` gives the bytes of a storage by its key. */
export async function readState(
  saved: unknown,
  path: string,
  wanted: Wanted,
  read: (key: string) => Promise<Uint8Array>,
): Promise<StateEntries> {
  const storages = new Map<string, Uint8Array>();
  const entries: Entry[] = [];
  const foreign = new Map<string, string>();
  for (const [name, tensor] of findStateDict(saved, path, wanted)) {
    if (!name.startsWith(wanted.prefix)) continue;
    if (tensor instanceof ForeignTensor) {
      foreign.set(name, tensor.dtype);
      continue;
    }
    const bytes = storages.get(tensor.key) ?? (await read(tensor.key));
    storages.set(tensor.key, bytes);
    entries.push(entryOf(name, tensor, bytes, path));
  }
  return { entries, foreign };
}

interface Archive {
  entries: Map<string, ZipEntry>;
  read(name: string): Promise<Uint8Array>;
}

async function withArchive<Result>(path: string, use: (archive: Archive) => Promise<Result>): Promise<Result> {
  let zip: ZipFile;
  try {
    zip = await openPromise(path, { autoClose: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code?.startsWith('E')) throw error;
    throw malformed(path, 'a zip archive', `a file that isn't one: ${(error as Error).message}`, error);
  }
  try {
    const entries = new Map<string, ZipEntry>();
    for await (const entry of zip.eachEntry()) entries.set(entry.fileName, entry);
    const read = async (name: string): Promise<Uint8Array> => {
      const entry = entries.get(name);
      if (!entry) throw malformed(path, `the file ${name} in the archive`, 'none');
      const bytes = new Uint8Array(entry.uncompressedSize);
      let at = 0;
      for await (const chunk of await zip.openReadStreamPromise(entry)) {
        bytes.set(chunk as Uint8Array, at);
        at += (chunk as Uint8Array).length;
      }
      return bytes;
    };
    return await use({ entries, read });
  } finally {
    zip.close();
  }
}
