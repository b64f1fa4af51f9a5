import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { bytesPerElement, componentsOf, DTYPES, type DType, dtypesBy, infoOf } from '../core/dtype';
import { elementCount, isShape } from '../core/shape';
import { shortened, shown } from '../core/validate';
import { arrayLength, arrayOf, type Entries, type Entry, malformed, type StateEntries } from './entry';
import { fileOf, type OpenFile, unwritable, withFile } from './file';

// https://github.com/huggingface/safetensors: 8 bytes with the header's length, a JSON header, the elements.

const DTYPE_OF = dtypesBy('safetensors');
const MAX_HEADER_BYTES = 100_000_000;

interface Layout {
  /** `dtype` is absent where tensors here lack it; `code` is the file's name for it. */
  tensors: { name: string; code: string; dtype?: DType; shape: number[]; begin: number; end: number }[];
  metadata?: Record<string, string>;
}

/**
 * Reads a `.safetensors` file. Tensors come in the order in which their elements lie in the file.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file that breaks the format or has a dtype that tensors here lack.
 */
export async function readSafetensors(path: string): Promise<Entries> {
  return await withFile(path, readAll);
}

/** The same as `readSafetensors` for bytes in memory; `name` stands for them in error messages. */
export async function parseSafetensors(bytes: Uint8Array, name = 'safetensors data'): Promise<Entries> {
  return readAll(fileOf(bytes, name));
}

/**
 * Reads the tensors whose names begin with `prefix`; what else is in the file may have any dtype.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file that breaks the format.
 */
export async function readSafetensorsBelow(source: OpenFile, prefix: string): Promise<StateEntries> {
  const { tensors, start } = await readLayout(source);
  const entries: Entry[] = [];
  const foreign = new Map<string, string>();
  for (const tensor of tensors) {
    if (!tensor.name.startsWith(prefix)) continue;
    if (tensor.dtype) entries.push(await readEntry(source, start, tensor, tensor.dtype));
    else foreign.set(tensor.name, tensor.code);
  }
  return { entries, foreign };
}

/** What is in a `.safetensors` file, read tensor by tensor. */
export interface SafetensorsFile {
  metadata: Record<string, string>;
  tensors: { name: string; shape: readonly number[] }[];
  /** @throws {TorchError} ERR_INVALID_ARGUMENT for a tensor of a dtype that tensors here lack. */
  read(name: string): Promise<Entry>;
}

/**
 * Opens a `.safetensors` file and lends it to `use`, which reads of it what it needs.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file that breaks the format.
 */
export async function withSafetensors<Result>(
  path: string,
  use: (file: SafetensorsFile) => Promise<Result>,
): Promise<Result> {
  return await withFile(path, async (source) => {
    const { tensors, metadata = {}, start } = await readLayout(source);
    const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    return await use({
      metadata,
      tensors: tensors.map(({ name, shape }) => ({ name, shape })),
      read: async (name) => {
        const tensor = byName.get(name);
        if (!tensor) throw malformed(path, `a tensor '${shortened(name)}'`, 'none of that name');
        return await readKnown(source, start, tensor);
      },
    });
  });
}

/**
 * Writes a `.safetensors` file: tensor by tensor from their own memory, under another name that is moved into place at
 * the end. Tensors of larger elements come first, so that all are aligned, as in Hugging Face's own writer.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for an entry whose data doesn't fit its shape, a dtype that the format lacks
 *   (complex128), a name that comes twice, or a path that can't be written.
 */
export async function writeSafetensors(
  path: string,
  entries: readonly Entry[],
  metadata?: Record<string, string>,
): Promise<void> {
  const parts = encodeSafetensors(path, entries, metadata);
  const part = `${path}.${randomBytes(4).toString('hex')}.part`;
  let file: FileHandle | undefined;
  try {
    file = await open(part, 'wx');
    for (const bytes of parts) await file.writeFile(bytes);
    await file.close();
    await rename(part, path);
  } catch (error) {
    await file?.close().catch(() => {});
    await rm(part, { force: true }).catch(() => {});
    throw unwritable(path, error);
  }
}

/**
 * The bytes of a `.safetensors` file, part by part: its header, and the memory of each tensor.
 *
 * @param path Names the file in errors.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for an entry whose data doesn't fit its shape, or a name that comes twice.
 */
export function encodeSafetensors(
  path: string,
  entries: readonly Entry[],
  metadata?: Record<string, string>,
): Uint8Array[] {
  const sorted = entries.toSorted((a, b) => bytesPerElement(b.dtype) - bytesPerElement(a.dtype));
  const header = encodeHeader(sorted, metadata, path);
  return [header, ...sorted.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength))];
}

async function readAll(source: OpenFile): Promise<Entries> {
  const { tensors, metadata, start } = await readLayout(source);
  const entries: Entry[] = [];
  for (const tensor of tensors) entries.push(await readKnown(source, start, tensor));
  return metadata ? { entries, metadata } : { entries };
}

/** A tensor whose dtype has to be one that tensors here have. */
async function readKnown(source: OpenFile, start: number, tensor: Layout['tensors'][number]): Promise<Entry> {
  if (!tensor.dtype) {
    const known = `a dtype of ${Object.keys(DTYPE_OF).join(', ')}`;
    throw malformed(source.path, `tensor '${shortened(tensor.name)}' to have ${known}`, shortened(tensor.code));
  }
  return await readEntry(source, start, tensor, tensor.dtype);
}

async function readEntry(
  source: OpenFile,
  start: number,
  { name, shape, begin, end }: Layout['tensors'][number],
  dtype: DType,
): Promise<Entry> {
  return { name, dtype, shape, data: arrayOf(dtype, (await source.read(start + begin, start + end)).buffer) };
}

async function readLayout(source: OpenFile): Promise<Layout & { start: number }> {
  if (source.size < 8) throw malformed(source.path, 'a safetensors file of at least 8 bytes', `${source.size} bytes`);
  const length = Number(new DataView((await source.read(0, 8)).buffer).getBigUint64(0, true));
  if (length > MAX_HEADER_BYTES) {
    throw malformed(source.path, `a safetensors header of at most ${MAX_HEADER_BYTES} bytes`, `a length of ${length}`);
  }
  if (8 + length > source.size) {
    throw malformed(
      source.path,
      `a safetensors header of ${length} bytes`,
      `a file that ends after ${source.size} bytes`,
    );
  }
  const header = await source.read(8, 8 + length);
  return { ...parseHeader(header, source.size - 8 - length, source.path), start: 8 + length };
}

function parseHeader(bytes: Uint8Array, dataSize: number, source: string): Layout {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw malformed(source, 'a safetensors header in JSON', `text that isn't: ${(error as Error).message}`, error);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw malformed(source, 'a safetensors header that is a JSON object', shown(header));
  }
  const { __metadata__: metadata, ...rest } = header as Record<string, unknown>;
  if (metadata !== undefined && !isStringMap(metadata)) {
    throw malformed(source, '__metadata__ to map strings to strings', shown(metadata));
  }
  const tensors = Object.entries(rest)
    .map(([name, info]) => parseTensorInfo(name, info, source))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  // The format allows neither gaps nor overlaps: each tensor begins where the one before it ends.
  let position = 0;
  for (const { name, begin, end } of tensors) {
    if (begin !== position) {
      throw malformed(
        source,
        `the data of tensor '${shortened(name)}' to begin at ${position}`,
        `offsets [${begin}, ${end}]`,
      );
    }
    position = end;
  }
  if (position !== dataSize) {
    throw malformed(source, `${position} bytes of tensor data, as its header says`, `${dataSize} bytes`);
  }
  return metadata ? { tensors, metadata } : { tensors };
}

function parseTensorInfo(name: string, info: unknown, source: string): Layout['tensors'][number] {
  const label = `tensor '${shortened(name)}'`;
  const { dtype: code, shape, data_offsets: offsets } = (info ?? {}) as Record<string, unknown>;
  if (typeof code !== 'string' || !isShape(shape) || !isShape(offsets) || offsets.length !== 2) {
    throw malformed(source, `dtype, shape and data_offsets for ${label}`, shown(info));
  }
  const [begin, end] = offsets as [number, number];
  const dtype = Object.hasOwn(DTYPE_OF, code) ? DTYPE_OF[code] : undefined;
  if (!dtype && begin <= end) return { name, code, shape, begin, end };
  const bytes = elementCount(shape) * (dtype ? bytesPerElement(dtype) : 1);
  if (!dtype || end - begin !== bytes) {
    throw malformed(
      source,
      `${bytes} bytes for ${label} (${shortened(code)} [${shape}])`,
      `offsets [${begin}, ${end}]`,
    );
  }
  return { name, code, dtype, shape, begin, end };
}

function isStringMap(value: unknown): value is Record<string, string> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((item) => typeof item === 'string')
  );
}

function encodeHeader(
  entries: readonly Entry[],
  metadata: Record<string, string> | undefined,
  path: string,
): Uint8Array {
  const infos = new Map<string, object>();
  let position = 0;
  for (const { name, dtype, shape, data } of entries) {
    if (name === '__metadata__' || infos.has(name))
      throw malformed(path, 'a name of its own for each tensor', `'${name}'`);
    if (!(data instanceof DTYPES[dtype].array) || data.length !== arrayLength(dtype, shape)) {
      const received = `${data.length / componentsOf(dtype)} elements in a ${data.constructor.name}`;
      throw malformed(path, `${elementCount(shape)} elements of ${dtype} for tensor '${name}' [${shape}]`, received);
    }
    const code = infoOf(dtype).safetensors;
    if (code === undefined) {
      throw malformed(path, `a dtype of ${Object.values(DTYPE_OF).join(', ')} for tensor '${name}'`, dtype);
    }
    infos.set(name, { dtype: code, shape, data_offsets: [position, position + data.byteLength] });
    position += data.byteLength;
  }
  const pairs = [...infos].map(([name, info]) => `${JSON.stringify(name)}:${JSON.stringify(info)}`);
  if (metadata && Object.keys(metadata).length) pairs.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  const json = new TextEncoder().encode(`{${pairs.join(',')}}`);
  // Padded with spaces, so that the elements begin at a multiple of 8 bytes.
  const header = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(json, 8);
  return header;
}
