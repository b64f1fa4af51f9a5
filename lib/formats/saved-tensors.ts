import { bytesPerElement, type DType, dtypesBy, isDType } from '../core/dtype';
import { elementCount, isShape } from '../core/shape';
import { shortened } from '../core/validate';
import { arrayOf, type Entry, malformed, type Room } from './entry';
import { Global, Opaque, type PickleHandlers } from './pickle';
import { rowMajor } from './row-major';

// What torch.save's pickles hold: tensors that name a storage by its key. Where the storages lie is the container's affair.

/** PyTorch's classes of storages: the type of their elements and its bytes. Those of types that tensors here lack, too. */
const STORAGES: Record<string, [dtype: string, bytes: number]> = {
  ...Object.fromEntries(
    Object.entries(dtypesBy('storage')).map(([name, dtype]) => [name, [dtype, bytesPerElement(dtype)]]),
  ),
  QInt8Storage: ['qint8', 1],
  QUInt8Storage: ['quint8', 1],
  QInt32Storage: ['qint32', 4],
  QUInt4x2Storage: ['quint4x2', 1],
  QUInt2x4Storage: ['quint2x4', 1],
  UntypedStorage: ['bytes', 1], // its tensors say themselves what they are
};

export class Storage {
  constructor(
    readonly key: string,
    readonly dtype: string,
    /** Bytes of one element. */
    readonly size: number,
    /** How many elements it has, in the storage of that key. */
    readonly count: number,
    /** Where it begins in there, in elements. */
    readonly offset = 0,
  ) {}
}

export class SavedTensor {
  constructor(
    readonly dtype: DType,
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: number[],
    readonly strides: number[],
  ) {}
}

/** A tensor of a type that tensors here lack. */
export class ForeignTensor {
  constructor(readonly dtype: string) {}
}

function isOffset(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isPair(value: unknown): value is [unknown, unknown] {
  return Array.isArray(value) && value.length === 2;
}

function tensorOf(storage: unknown, dtype: string, offset: unknown, shape: unknown, strides: unknown): unknown {
  if (!(storage instanceof Storage) || !isOffset(offset) || !isShape(shape) || !isShape(strides)) return undefined;
  if (!isDType(dtype)) return new ForeignTensor(dtype);
  return new SavedTensor(dtype, storage, storage.offset + offset, shape, strides);
}

function call(name: string, args: unknown[]): unknown {
  const [first] = args;
  switch (name) {
    case 'collections.OrderedDict':
      return new Map(Array.isArray(first) ? first.filter(isPair) : []);
    case 'torch._utils._rebuild_tensor':
    case 'torch._utils._rebuild_tensor_v2': {
      const [storage, offset, shape, strides] = args;
      return tensorOf(storage, storage instanceof Storage ? storage.dtype : '', offset, shape, strides);
    }
    case 'torch._utils._rebuild_tensor_v3': {
      const [storage, offset, shape, strides, , , dtype] = args;
      return dtype instanceof Global
        ? tensorOf(storage, dtype.name.replace(/^torch\./, ''), offset, shape, strides)
        : undefined;
    }
    case 'torch._utils._rebuild_parameter':
    case 'torch._utils._rebuild_parameter_with_state':
      return first;
  }
  // Sparse, quantized and other tensors: "sparse_tensor".
  const kind = /^torch\._utils\._rebuild_(\w+)$/.exec(name)?.[1];
  return kind === undefined ? undefined : new ForeignTensor(kind);
}

/**
 * What torch.save's pickles are read with. `onStorage` is told of each storage as often as it is referred to: by its key, as
 * which it lies in the file.
 */
export function handlersFor(source: string, onStorage: (storage: Storage) => void = () => {}): PickleHandlers {
  return {
    call,
    persistent(id) {
      const [kind, type, ...rest] = Array.isArray(id) ? id : [];
      if (kind === 'module') return type; // a class, with its source
      if (kind !== 'storage' || !(type instanceof Global))
        throw malformed(source, 'storages of tensors', 'another reference');
      const [key, , count, view] = rest;
      const name = type.name.slice(type.name.lastIndexOf('.') + 1);
      const known = Object.hasOwn(STORAGES, name) ? STORAGES[name] : undefined;
      if (!known) return new Opaque(type.name);
      if ((typeof key !== 'string' && typeof key !== 'number') || !isOffset(count)) {
        throw malformed(source, 'the key and the number of elements of a storage', 'something else');
      }
      const storage = new Storage(String(key), ...known, count);
      onStorage(storage);
      // Old files have views of storages: (their own key, where they begin, how long they are).
      const offset = Array.isArray(view) ? view[1] : 0;
      if (!isOffset(offset)) throw malformed(source, 'where a view of a storage begins', 'something else');
      return offset === 0 ? storage : new Storage(storage.key, storage.dtype, storage.size, count, offset);
    },
  };
}

/** The elements of a tensor, row by row, out of the bytes of its storage. */
export function entryOf(name: string, tensor: SavedTensor, bytes: Uint8Array, source: string, room: Room): Entry {
  const { dtype, shape, strides, offset, storage } = tensor;
  const size = bytesPerElement(dtype);
  const label = `tensor '${shortened(name)}'`;
  if (storage.count * storage.size > bytes.length) {
    throw malformed(
      source,
      `a record of the ${storage.count * storage.size} bytes of storage '${shortened(storage.key)}' of ${label}`,
      `one of ${bytes.length} bytes`,
    );
  }
  if (strides.length !== shape.length) {
    throw malformed(source, `${shape.length} strides for ${label}`, `${strides.length}`);
  }
  const count = elementCount(shape);
  if (count === 0) return { name, dtype, shape, data: arrayOf(dtype, new ArrayBuffer(0)) };
  // What is too large for exact arithmetic is too large for any file.
  const last = shape.reduce((sum, length, i) => sum + (length - 1) * (strides[i] as number), offset);
  if ((last + 1) * size > bytes.length) {
    throw malformed(source, `a storage of at least ${(last + 1) * size} bytes for ${label}`, `${bytes.length} bytes`);
  }
  room.take(count * size);
  const contiguous = shape.every((length, i) => length === 1 || strides[i] === elementCount(shape.slice(i + 1)));
  const elements = contiguous
    ? new Uint8Array(bytes.subarray(offset * size, (offset + count) * size))
    : rowMajor(bytes, size, shape, strides, offset);
  return { name, dtype, shape, data: arrayOf(dtype, elements.buffer) };
}
