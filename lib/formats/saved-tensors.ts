import { ARRAY_OF, arrayOf, type Entry, type EntryDType, elementCount, isShape, malformed } from './entry';
import { Global, Opaque, type PickleHandlers } from './pickle';
import { rowMajor } from './row-major';

// What torch.save's pickles hold: tensors that name a storage by its key. Where the storages lie is the container's affair.

/** PyTorch's classes of storages: the type of their elements and its bytes. */
const STORAGES: Record<string, [dtype: string, bytes: number]> = {
  FloatStorage: ['float32', 4],
  DoubleStorage: ['float64', 8],
  HalfStorage: ['float16', 2],
  BFloat16Storage: ['bfloat16', 2],
  LongStorage: ['int64', 8],
  IntStorage: ['int32', 4],
  ShortStorage: ['int16', 2],
  CharStorage: ['int8', 1],
  ByteStorage: ['uint8', 1],
  BoolStorage: ['bool', 1],
  ComplexFloatStorage: ['complex64', 8],
  ComplexDoubleStorage: ['complex128', 16],
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
    /** Where it begins in the storage of that key, in elements. */
    readonly offset = 0,
  ) {}
}

export class SavedTensor {
  constructor(
    readonly dtype: EntryDType,
    readonly key: string,
    readonly offset: number,
    readonly shape: number[],
    readonly strides: number[],
  ) {}
}

/** A tensor of a type that tensors here lack. */
export class ForeignTensor {
  constructor(readonly dtype: string) {}
}

function tensorOf(storage: unknown, dtype: string, offset: unknown, shape: unknown, strides: unknown): unknown {
  if (!(storage instanceof Storage) || typeof offset !== 'number' || !isShape(shape) || !isShape(strides))
    return undefined;
  if (!Object.hasOwn(ARRAY_OF, dtype)) return new ForeignTensor(dtype);
  return new SavedTensor(dtype as EntryDType, storage.key, storage.offset + offset, shape, strides);
}

function call(name: string, args: unknown[]): unknown {
  const [first] = args;
  switch (name) {
    case 'collections.OrderedDict':
      return new Map(Array.isArray(first) ? (first as [unknown, unknown][]) : []);
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
      const [key, , , view] = rest;
      const name = type.name.slice(type.name.lastIndexOf('.') + 1);
      const known = Object.hasOwn(STORAGES, name) ? STORAGES[name] : undefined;
      if (!known) return new Opaque(type.name);
      const storage = new Storage(String(key), ...known);
      onStorage(storage);
      // Old files have views of storages: (their own key, where they begin, how long they are).
      const offset = Array.isArray(view) ? Number(view[1]) : 0;
      return offset === 0 ? storage : new Storage(storage.key, storage.dtype, storage.size, offset);
    },
  };
}

/** The elements of a tensor, row by row, out of the bytes of its storage. */
export function entryOf(name: string, tensor: SavedTensor, bytes: Uint8Array, source: string): Entry {
  const { dtype, shape, strides, offset } = tensor;
  const size = ARRAY_OF[dtype].BYTES_PER_ELEMENT;
  const count = elementCount(shape);
  const last = shape.reduce((sum, length, i) => sum + (length - 1) * (strides[i] as number), offset);
  if (count > 0 && (strides.length !== shape.length || (last + 1) * size > bytes.length)) {
    throw malformed(
      source,
      `a storage of at least ${(last + 1) * size} bytes for tensor '${name}'`,
      `${bytes.length} bytes`,
    );
  }
  const contiguous = shape.every((length, i) => length === 1 || strides[i] === elementCount(shape.slice(i + 1)));
  const elements = contiguous
    ? new Uint8Array(bytes.subarray(offset * size, (offset + count) * size))
    : rowMajor(bytes, size, shape, strides, offset);
  return { name, dtype, shape, data: arrayOf(dtype, elements.buffer) };
}
