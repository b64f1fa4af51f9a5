import { bytesPerElement, DTYPES, type DType, dtypesBy } from '../core/dtype';
import { elementCount, isShape } from '../core/shape';
import { shortened } from '../core/validate';
import { arrayOf, type Entries, type Entry, malformed } from './entry';
import { fileOf, type OpenFile, withFile } from './file';
import { rowMajor } from './row-major';
import { withArchive } from './zip';

// NumPy's formats: .npz is a zip archive of .npy files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).

const DTYPE_OF = dtypesBy('numpy');
const EXPECTED = 'a zip archive of .npy files';
/** As NumPy's own limit. */
const MAX_HEADER_BYTES = 10_000;
const MAGIC = '\u0093NUMPY';

/**
 * Reads a `.npz` file as `numpy.savez` and `numpy.savez_compressed` write them, in the archive's order. Column-major
 * and big-endian arrays are converted.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file that breaks the format or has a dtype that tensors here lack.
 */
export async function readNpz(path: string): Promise<Entries> {
  return await withFile(path, readAll);
}

/** The same as `readNpz` for bytes in memory; `source` stands for them in error messages. */
export async function parseNpz(bytes: Uint8Array, source = 'npz data'): Promise<Entries> {
  return await readAll(fileOf(bytes, source));
}

async function readAll(file: OpenFile): Promise<Entries> {
  return await withArchive(file, { verify: true, expected: EXPECTED }, async (archive) => {
    const names = archive.names.filter((name) => !name.endsWith('/'));
    const foreign = names.find((name) => !name.endsWith('.npy'));
    if (foreign !== undefined) throw malformed(file.path, EXPECTED, `'${shortened(foreign)}' in it`);
    const entries: Entry[] = [];
    for (const name of names) entries.push(parseNpy(await archive.read(name), name.slice(0, -4), file.path));
    return { entries };
  });
}

/** Reads the bytes of a `.npy` file as a tensor called `name`. */
export function parseNpy(bytes: Uint8Array, name: string, source: string): Entry {
  const where = `${source}, array '${shortened(name)}'`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || Buffer.from(bytes.subarray(0, 6)).toString('latin1') !== MAGIC) {
    throw malformed(where, "the bytes of a .npy file, which begin with '\\x93NUMPY'", 'others');
  }
  const wide = view.getUint8(6) > 1;
  const start = wide ? 12 : 10;
  const end = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  if (end > bytes.length) throw malformed(where, `a header of ${end - start} bytes`, `${bytes.length - start} bytes`);

  if (end - start > MAX_HEADER_BYTES)
    throw malformed(where, `a header of at most ${MAX_HEADER_BYTES} bytes`, `one of ${end - start}`);
  const header = parseNpyHeader(Buffer.from(bytes.subarray(start, end)).toString('utf8'), where);
  const size = bytesPerElement(header.dtype);
  const expected = elementCount(header.shape) * size;
  if (bytes.length - end !== expected) {
    throw malformed(where, `${expected} bytes of ${header.dtype} [${header.shape}]`, `${bytes.length - end} bytes`);
  }
  const elements = new Uint8Array(bytes.subarray(end));
  if (header.bigEndian) reverseEach(elements, DTYPES[header.dtype].array.BYTES_PER_ELEMENT);
  const { dtype, shape } = header;
  const columnMajor = shape.map((_, axis) => elementCount(shape.slice(0, axis)));
  const data = header.fortranOrder ? rowMajor(elements, size, shape, columnMajor) : elements;
  return { name, dtype, shape, data: arrayOf(dtype, data.buffer as ArrayBuffer) };
}

interface NpyHeader {
  dtype: DType;
  bigEndian: boolean;
  fortranOrder: boolean;
  shape: number[];
}

/** A header is a Python literal: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } */
function parseNpyHeader(text: string, where: string): NpyHeader {
  const descr = /'descr'\s*:\s*(?:'([^']*)'|(\[.*?\]))\s*,/s.exec(text);
  const order = /'fortran_order'\s*:\s*(True|False)/.exec(text);
  const dimensions = /'shape'\s*:\s*\(([\d\s,L]*)\)/.exec(text);
  const shape = dimensions?.[1]
    ?.split(',')
    .filter((item) => item.trim() !== '')
    .map((item) => Number.parseInt(item, 10));
  if (!descr || !order || !isShape(shape)) {
    throw malformed(
      where,
      'a .npy header with descr, fortran_order and shape',
      JSON.stringify(shortened(text.trim(), 400)),
    );
  }
  const [, byteOrder, code] = /^([<>|=])(.*)$/.exec(descr[1] ?? '') ?? [];
  const dtype = code !== undefined && Object.hasOwn(DTYPE_OF, code) ? DTYPE_OF[code] : undefined;
  if (!dtype) {
    const known = Object.entries(DTYPE_OF).map(([key, value]) => `${value} (${key})`);
    throw malformed(
      where,
      `a dtype of ${known.join(', ')}`,
      `'${shortened(String(descr[1] ?? descr[2]))}'; convert it with astype()`,
    );
  }
  return { dtype, bigEndian: byteOrder === '>', fortranOrder: order[1] === 'True', shape };
}

function reverseEach(bytes: Uint8Array, size: number): void {
  for (let at = 0; size > 1 && at < bytes.length; at += size) bytes.subarray(at, at + size).reverse();
}
