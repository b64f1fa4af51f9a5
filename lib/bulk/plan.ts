import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { glob } from 'tinyglobby';
import { TorchError } from '../core/errors';
import { reasonOf, shortened } from '../core/validate';
import type { Chunk, TextSource } from './job';
import { parquetRows } from './parquet';

/** Which inputs there are, and where each chunk of them is. */
export interface Plan {
  count: number;
  /** Says whether inputs are still the same ones. */
  fingerprint: string;
  /** Inputs that are files: their paths, in order. */
  files?: string[];
  /** Lines: where each chunk begins in the file, and where the last one ends. */
  offsets?: number[];
}

export function chunkCount({ count }: Pick<Plan, 'count'>, chunkSize: number): number {
  return Math.ceil(count / chunkSize);
}

export function chunkOf({ count, files, offsets }: Plan, chunkSize: number, number: number): Chunk {
  const first = number * chunkSize;
  const length = Math.min(chunkSize, count - first);
  return {
    number,
    first,
    count: length,
    ...(files && { files: files.slice(first, first + length) }),
    ...(offsets && { begin: offsets[number] as number, end: offsets[number + 1] as number }),
  };
}

function noInputs(expected: string, received: string): TorchError {
  return new TorchError('ERR_INVALID_ARGUMENT', `Expected ${expected} but received ${shortened(received)}`);
}

/**
 * The files that patterns fit, each once, in order of their paths.
 *
 * @param results A folder whose files patterns don't fit: those of a run beside its inputs would be inputs of the next.
 */
export async function planFiles(patterns: readonly string[], results?: string, signal?: AbortSignal): Promise<Plan> {
  const found = new Set<string>();
  for (const pattern of patterns) {
    signal?.throwIfAborted();
    // A path that is there may have characters in it that patterns have.
    const isFile = await stat(pattern).then(
      (stats) => stats.isFile(),
      () => false,
    );
    const paths = isFile ? [pattern] : await glob(pattern, { onlyFiles: true, expandDirectories: false, dot: false });
    for (const path of paths) {
      const whole = resolve(path);
      if (!isFile && results !== undefined && whole.startsWith(results + sep)) continue;
      const short = relative('', whole);
      found.add(short.startsWith('..') || isAbsolute(short) ? whole : short);
    }
  }
  const files = [...found].sort();
  if (files.length === 0) throw noInputs('at least one file of inputs', `${patterns.join(', ')}, which fits none`);
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${file}\n${(await stat(file)).size}\n`);
  return { count: files.length, fingerprint: hash.digest('hex'), files };
}

/** Texts of a file: its lines are counted, and their places found, in one pass over it. */
export async function planTexts(
  source: Pick<TextSource, 'kind' | 'path'>,
  chunkSize: number,
  signal?: AbortSignal,
): Promise<Plan> {
  if (source.kind === 'parquet') {
    const { rows, fingerprint } = await parquetRows(source.path);
    if (rows === 0) throw noInputs('at least one row of text', source.path);
    return { count: rows, fingerprint };
  }
  const hash = createHash('sha256');
  const offsets = [0];
  let [lines, position, lineBegin] = [0, 0, 0];
  const end = (at: number): void => {
    if (++lines % chunkSize === 0) offsets.push(at);
    lineBegin = at;
  };
  try {
    const stream = createReadStream(source.path, { highWaterMark: 2 ** 20, ...(signal && { signal }) });
    for await (const piece of stream as AsyncIterable<Buffer>) {
      hash.update(piece);
      for (let at = piece.indexOf(10); at >= 0; at = piece.indexOf(10, at + 1)) end(position + at + 1);
      position += piece.length;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw noInputs('a readable file of texts', `${source.path}: ${reasonOf(error)}`);
  }
  if (lineBegin < position) end(position); // the last line may lack its end
  if (lines === 0) throw noInputs('at least one line of text', `${source.path}, which is empty`);
  if (offsets.at(-1) !== position) offsets.push(position);
  return { count: lines, fingerprint: hash.digest('hex'), offsets };
}
