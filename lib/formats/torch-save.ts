import { shortened } from '../core/validate';
import { type Entry, malformed, Room, type StateEntries } from './entry';
import type { OpenFile } from './file';
import { findStateDict, type Wanted } from './find-state-dict';
import { readPickle } from './pickle';
import { entryOf, ForeignTensor, handlersFor } from './saved-tensors';
import { withArchive } from './zip';

// torch.save: a zip archive with the pickle <name>/data.pkl and one file <name>/data/<key> for each storage.

/**
 * Reads the tensors of a state dictionary that `torch.save` wrote, those below the wanted prefix: of the saved dictionary
 * itself, or of the one in it that fits. Nothing in the file is run.
 *
 * @param verify Whether the CRC-32 of each record is compared: `torch.save` can be told to leave it out.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file without such a dictionary.
 */
export async function readTorchSave(file: OpenFile, wanted: Wanted, verify: boolean): Promise<StateEntries> {
  const { path } = file;
  return await withArchive(file, { verify, expected: 'a zip archive' }, async (files) => {
    const pickle = files.names.find((name) => /^[^/]+\/data\.pkl$/.test(name));
    if (pickle === undefined) throw malformed(path, 'a file written by torch.save', 'a zip archive without data.pkl');
    const root = pickle.slice(0, -'data.pkl'.length);
    const byteorder = files.has(`${root}byteorder`)
      ? new TextDecoder().decode(await files.read(`${root}byteorder`)).trim()
      : 'little';
    if (byteorder !== 'little') throw malformed(path, 'little-endian tensors', `${shortened(byteorder)}-endian ones`);

    const { value } = readPickle(await files.read(pickle), path, handlersFor(path));
    return await readState(value, file, wanted, (key) => files.read(`${root}data/${key}`));
  });
}

/** The tensors of a state dictionary in what was saved; `read` gives the bytes of a storage by its key. */
export async function readState(
  saved: unknown,
  { path, size }: Pick<OpenFile, 'path' | 'size'>,
  wanted: Wanted,
  read: (key: string) => Promise<Uint8Array>,
): Promise<StateEntries> {
  const room = new Room(path, size);
  const storages = new Map<string, Uint8Array>();
  const entries: Entry[] = [];
  const foreign = new Map<string, string>();
  for (const [name, tensor] of findStateDict(saved, path, wanted)) {
    if (!name.startsWith(wanted.prefix)) continue;
    if (tensor instanceof ForeignTensor) {
      foreign.set(name, tensor.dtype);
      continue;
    }
    const bytes = storages.get(tensor.storage.key) ?? (await read(tensor.storage.key));
    storages.set(tensor.storage.key, bytes);
    entries.push(entryOf(name, tensor, bytes, path, room));
  }
  return { entries, foreign };
}
