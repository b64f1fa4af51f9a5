import { openPromise, type Entry as ZipEntry, type ZipFile } from 'yauzl';
import {
  ARRAY_OF,
  arrayOf,
  type Entries,
  type Entry,
  type EntryDType,
  elementCount,
  isShape,
  malformed,
} from './entry';
import { Global, Opaque, readPickle } from './pickle';

// torch.save: a zip archive with the pickle <name>/data.pkl and one file <name>/data/<key> for each storage.

const STORAGES: Record<string, EntryDType> = {
  FloatStorage: 'float32',
  DoubleStorage: 'float64',
  HalfStorage: 'float16',
  BFloat16Storage: 'bfloat16',
  LongStorage: 'int64',
  IntStorage: 'int32',
  ShortStorage: 'int16',
  CharStorage: 'int8',
  ByteStorage: 'uint8',
  BoolStorage: 'bool',
};

/** Keys under which training scripts keep the state dictionary of a model among other things. */
const NESTED = ['state_dict', 'model_state_dict', 'model', 'module', 'net'];

interface Storage {
  dtype: EntryDType;
  key: string;
}

class SavedTensor {
  constructor(
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: number[],
    readonly strides: number[],
  ) {}
}

/** Whether a zip archive is TorchScript's (`torch.jit.save`) or `torch.save`'s; undefined for others. */
export async function kindOfArchive(path: string): Promise<'torch-script' | 'torch-save' | undefined> {
  return await withArchive(path, async (files) => {
    const names = [...files.entries.keys()];
    if (names.some((name) => /^[^/]+\/constants\.pkl$/.test(name))) return 'torch-script';
    return names.some((name) => /^[^/]+\/data\.pkl$/.test(name)) ? 'torch-save' : undefined;
  });
}

/**
 * Reads the tensors of a state dictionary that `torch.save` wrote: of the saved dictionary itself, or of the one that it
 * has under a usual key such as `state_dict` or `model`. Nothing in the file is run.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file without such a dictionary.
 */
export async function readTorchSave(path: string): Promise<Entries> {
  return await withArchive(path, async (files) => {
    const pickle = [...files.entries.keys()].find((name) => /^[^/]+\/data\.pkl$/.test(name));
    if (pickle === undefined) throw malformed(path, 'a file written by torch.save', 'a zip archive without data.pkl');
    const root = pickle.slice(0, -'data.pkl'.length);
    const byteorder = files.entries.has(`${root}byteorder`)
      ? new TextDecoder().decode(await files.read(`${root}byteorder`)).trim()
      : 'little';
    if (byteorder !== 'little') throw malformed(path, 'little-endian tensors', `${byteorder}-endian ones`);

    const saved = readPickle(await files.read(pickle), path, {
      call,
      persistent: (id) => storageOf(id, path),
    });
    const found = stateDictIn(saved, path);
    const storages = new Map<string, Uint8Array>();
    const entries: Entry[] = [];
    for (const [name, tensor] of found) {
      const { key } = tensor.storage;
      let bytes = storages.get(key);
      if (!bytes) {
        bytes = await files.read(`${root}data/${key}`);
        storages.set(key, bytes);
      }
      entries.push(entryOf(name, tensor, bytes, path));
    }
    return { entries };
  });
}

function call(name: string, args: unknown[]): unknown {
  if (name === 'collections.OrderedDict')
    return new Map(Array.isArray(args[0]) ? (args[0] as [unknown, unknown][]) : []);
  if (name === 'torch._utils._rebuild_tensor_v2' || name === 'torch._utils._rebuild_tensor') {
    const [storage, offset, shape, strides] = args;
    if (!isStorage(storage) || typeof offset !== 'number' || !isShape(shape) || !isShape(strides)) return undefined;
    return new SavedTensor(storage, offset, shape, strides);
  }
  if (name === 'torch._utils._rebuild_parameter' || name === 'torch._utils._rebuild_parameter_with_state')
    return args[0];
  return undefined;
}

function isStorage(value: unknown): value is Storage {
  return typeof value === 'object' && value !== null && 'dtype' in value && 'key' in value;
}

/** A storage: ('storage', its class, key, device, elements). */
function storageOf(id: unknown, path: string): Storage | Opaque {
  const [kind, type, key] = Array.isArray(id) ? id : [];
  if (kind !== 'storage' || !(type instanceof Global))
    throw malformed(path, 'storages of tensors', 'another reference');
  const name = type.name.slice(type.name.lastIndexOf('.') + 1);
  const dtype = Object.hasOwn(STORAGES, name) ? STORAGES[name] : undefined;
  return dtype ? { dtype, key: String(key) } : new Opaque(type.name);
}

/** The tensors of a dictionary, with those of dictionaries in it under dotted names. */
function tensorsIn(value: unknown): Map<string, SavedTensor> {
  const found = new Map<string, SavedTensor>();
  if (!(value instanceof Map)) return found;
  for (const [name, item] of value) {
    if (typeof name === 'string' && item instanceof SavedTensor) found.set(name, item);
  }
  return found;
}

function stateDictIn(saved: unknown, path: string): Map<string, SavedTensor> {
  const direct = tensorsIn(saved);
  if (direct.size > 0) return direct;
  if (saved instanceof Map) {
    for (const key of NESTED) {
      const nested = tensorsIn(saved.get(key));
      if (nested.size > 0) return nested;
    }
  }
  const received =
    saved instanceof Map
      ? `one with ${saved.size === 0 ? 'nothing' : [...saved.keys()].slice(0, 8).join(', ')}`
      : saved instanceof Opaque
        ? `an object of ${saved.type}: save its state_dict() instead`
        : 'something else';
  throw malformed(path, `a dictionary of tensors, or one that has such a dictionary as ${NESTED.join(', ')}`, received);
}

function entryOf(name: string, tensor: SavedTensor, bytes: Uint8Array, path: string): Entry {
  const { shape, strides, offset, storage } = tensor;
  const size = ARRAY_OF[storage.dtype].BYTES_PER_ELEMENT;
  const count = elementCount(shape);
  const last = shape.reduce((sum, length, i) => sum + (length - 1) * (strides[i] as number), offset);
  if (count > 0 && (strides.length !== shape.length || (last + 1) * size > bytes.length)) {
    throw malformed(
      path,
      `a storage of at least ${(last + 1) * size} bytes for tensor '${name}'`,
      `${bytes.length} bytes`,
    );
  }
  const contiguous = shape.every((length, i) => length === 1 || strides[i] === elementCount(shape.slice(i + 1)));
  const elements = new Uint8Array(count * size);
  if (contiguous) {
    elements.set(bytes.subarray(offset * size, (offset + count) * size));
  } else {
    const index = new Array<number>(shape.length).fill(0);
    for (let to = 0, from = offset; to < count; to++) {
      elements.set(bytes.subarray(from * size, (from + 1) * size), to * size);
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        from += strides[axis] as number;
        index[axis] = (index[axis] as number) + 1;
        if ((index[axis] as number) < (shape[axis] as number)) break;
        from -= (shape[axis] as number) * (strides[axis] as number);
        index[axis] = 0;
      }
    }
  }
  return { name, dtype: storage.dtype, shape, data: arrayOf(storage.dtype, elements.buffer) };
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
