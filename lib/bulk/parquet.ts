import { createHash } from 'node:crypto';
import { TorchError } from '../core/errors';
import { optionalModule } from '../core/optional-package';
import { reasonOf } from '../core/validate';

async function reader(): Promise<typeof import('hyparquet', { with: { 'resolution-mode': 'import' }})> {
  return await optionalModule('hyparquet', 'which reads Parquet', () => import('hyparquet'));
}

async function reading<Result>(path: string, read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof TorchError) throw error;
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a Parquet file in ${path}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** How many rows a Parquet file has, and a hash of where all of its columns are. */
export async function parquetRows(path: string): Promise<{ rows: number; fingerprint: string }> {
  const { asyncBufferFromFile, parquetMetadataAsync } = await reader();
  return await reading(path, async () => {
    const file = await asyncBufferFromFile(path);
    const metadata = await parquetMetadataAsync(file);
    const text = JSON.stringify({ metadata, size: file.byteLength }, (_, value) =>
      typeof value === 'bigint' ? String(value) : value,
    );
    return { rows: Number(metadata.num_rows), fingerprint: createHash('sha256').update(text).digest('hex') };
  });
}

/** Rows of a Parquet file as objects, with those of the columns that there are. */
export async function readParquet(
  path: string,
  columns: readonly string[],
  rowStart: number,
  rowEnd: number,
): Promise<Record<string, unknown>[]> {
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } = await reader();
  return await reading(path, async () => {
    const file = await asyncBufferFromFile(path);
    const metadata = await parquetMetadataAsync(file);
    const there = new Set(parquetSchema(metadata).children.map(({ element }) => element.name));
    const wanted = columns.filter((name) => there.has(name));
    if (wanted.length === 0) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a column ${columns[0]} in ${path} but received ${[...there].join(', ')}`,
      );
    }
    return await parquetReadObjects({ file, metadata, columns: wanted, rowStart, rowEnd });
  });
}

/** A tensor as a row of a Parquet file of results. */
export interface TensorRow {
  index: number;
  input: string;
  tensor: string;
  module: string | null;
  operator: string | null;
  dtype: string;
  shape: number[];
  values: number[];
}

/** The bytes of a Parquet file of tensors: one a row. */
export async function encodeTensorRows(
  rows: readonly TensorRow[],
  metadata: Record<string, string>,
): Promise<Uint8Array> {
  const { parquetWriteBuffer } = await optionalModule(
    'hyparquet-writer',
    'which writes Parquet',
    () => import('hyparquet-writer'),
  );
  const required = 'REQUIRED' as const;
  const list = (name: string, type: 'INT32' | 'DOUBLE') => [
    { name, num_children: 1, converted_type: 'LIST' as const, repetition_type: required },
    { name: 'list', num_children: 1, repetition_type: 'REPEATED' as const },
    { name: 'element', type, repetition_type: required },
  ];
  const text = (name: string, repetition_type: 'REQUIRED' | 'OPTIONAL') => ({
    name,
    type: 'BYTE_ARRAY' as const,
    converted_type: 'UTF8' as const,
    repetition_type,
  });
  const column = <Name extends keyof TensorRow>(name: Name) => ({ name, data: rows.map((row) => row[name]) });
  const buffer = parquetWriteBuffer({
    columnData: [
      { name: 'index', data: rows.map(({ index }) => BigInt(index)) },
      column('input'),
      column('tensor'),
      column('module'),
      column('operator'),
      column('dtype'),
      column('shape'),
      column('values'),
    ],
    schema: [
      { name: 'root', num_children: 8 },
      { name: 'index', type: 'INT64', repetition_type: required },
      text('input', required),
      text('tensor', required),
      text('module', 'OPTIONAL'),
      text('operator', 'OPTIONAL'),
      text('dtype', required),
      ...list('shape', 'INT32'),
      ...list('values', 'DOUBLE'),
    ],
    kvMetadata: Object.entries(metadata).map(([key, value]) => ({ key, value })),
  });
  return new Uint8Array(buffer);
}
