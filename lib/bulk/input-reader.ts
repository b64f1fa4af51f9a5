import { open } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { TorchError } from '../core/errors';
import { isPlainObject, reasonOf, shown } from '../core/validate';
import type { Entry } from '../formats/entry';
import type { FlatModel } from '../io/flat-model';
import { givenEntries } from '../io/given-inputs';
import { readInputs } from '../io/input-files';
import { arrangeInputs } from '../io/parameters';
import { buildTextInputs, takesDecoderMask } from '../text/text-inputs';
import { type Encoded, padded, type TextTokenizer, withDecoderStart } from '../text/tokenizer';
import type { Chunk, Job, TextSource } from './job';
import { readParquet } from './parquet';

/** An input of a chunk. */
export interface BulkInput {
  index: number;
  name: string;
  read(): Promise<Pick<ReadInput, 'entries' | 'length' | 'decoderLength'>>;
}

/** An input that was read. */
export interface ReadInput {
  index: number;
  name: string;
  /** What forward is given, in the order of its parameters. */
  entries: (Entry | null)[];
  /** Of a text, and the decoder's: their tokens, without padding. */
  length?: number;
  decoderLength?: number;
}

/** A text, and what belongs to it. */
interface Text {
  text: string;
  pair?: string;
  decoder?: string;
}

/** The inputs of a chunk. What is wrong with one of them is said when it is read. */
export async function inputsOf(
  job: Job,
  chunk: Chunk,
  model: Pick<FlatModel, 'parameters'>,
  tokenizer: TextTokenizer | undefined,
): Promise<BulkInput[]> {
  const { source } = job;
  if (source.kind === 'files') {
    return (chunk.files ?? []).map((path, i) => ({
      index: chunk.first + i,
      name: path,
      read: async () => {
        const read = await readInputs(resolve(source.root, path));
        const length = read.find(({ shape }) => shape.length > 1)?.shape[1] ?? 1;
        const given = givenEntries(source.input, length);
        const entries = [...read.filter(({ name }) => !given.has(name)), ...given.values()];
        return { entries: arrangeInputs(entries, model.parameters) };
      },
    }));
  }
  const texts = source.kind === 'parquet' ? await rowsOf(source, chunk) : await linesOf(source, chunk);
  return texts.map((text, i) => ({
    index: chunk.first + i,
    name: `${basename(source.path)}:${chunk.first + i + 1}`,
    read: async () => textInputs(text(), source, model, tokenizer as TextTokenizer),
  }));
}

async function linesOf(source: TextSource, { begin = 0, end = 0, count }: Chunk): Promise<(() => Text)[]> {
  const bytes = Buffer.alloc(end - begin);
  const file = await open(source.path, 'r');
  try {
    const { size } = await file.stat();
    if (size !== source.size) throw changed(source, `${source.size} bytes`, `${size}`);
    for (let done = 0; done < bytes.length; ) {
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, begin + done);
      if (bytesRead === 0) throw changed(source, `${source.size} bytes`, `${begin + done}`);
      done += bytesRead;
    }
  } finally {
    await file.close();
  }
  const lines: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const found = bytes.indexOf(10, at);
    const to = found < 0 ? bytes.length : found;
    lines.push(bytes.subarray(at, to > at && bytes[to - 1] === 13 ? to - 1 : to));
    at = to + 1;
  }
  if (lines.length !== count) throw changed(source, `${count} lines from byte ${begin} on`, `${lines.length}`);
  return lines.map((line) => () => {
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(line);
    } catch {
      throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected a line in UTF-8 but received bytes that are none');
    }
    return source.kind === 'json-lines' ? textOf(parsed(text), source) : { text };
  });
}

function changed(source: TextSource, expected: string, received: string): TorchError {
  return new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected ${source.path} as it was when the run began, with ${expected}, but received ${received}`,
  );
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (error) {
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a line of JSON but received none: ${reasonOf(error)}`);
  }
}

async function rowsOf(source: TextSource, { first, count }: Chunk): Promise<(() => Text)[]> {
  const columns = [source.field, 'text_pair', 'decoder_text'];
  const rows = await readParquet(source.path, columns, first, first + count);
  if (rows.length !== count) throw changed(source, `${count} rows from row ${first} on`, `${rows.length}`);
  return rows.map((row) => () => textOf(row, source));
}

function textOf(row: unknown, { field }: TextSource): Text {
  if (typeof row === 'string') return { text: row };
  if (!isPlainObject(row)) {
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a text, or an object with one, but received ${shown(row)}`);
  }
  const member = (name: string): string | undefined => {
    const value = row[name] ?? undefined;
    if (value === undefined || typeof value === 'string') return value;
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a text in '${name}' but received ${shown(value)}`);
  };
  const [text, pair, decoder] = [member(field), member('text_pair'), member('decoder_text')];
  if (text === undefined) {
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a text in '${field}' but received none`);
  }
  return { text, ...(pair !== undefined && { pair }), ...(decoder !== undefined && { decoder }) };
}

function textInputs(
  { text, pair, decoder }: Text,
  { buckets, input, decoderStart }: TextSource,
  { parameters }: Pick<FlatModel, 'parameters'>,
  tokenizer: TextTokenizer,
): Pick<ReadInput, 'entries' | 'length' | 'decoderLength'> {
  const encoded = tokenizer.encode(text, pair);
  const { length } = encoded.ids;
  const written = decoder === undefined ? undefined : tokenizer.encode(decoder);
  const decoded =
    written && decoderStart !== undefined
      ? withDecoderStart(written, decoderStart, tokenizer.label(decoderStart))
      : written;
  const toBucket = (each: Encoded): Encoded => {
    if (!buckets) return each;
    const bucket = buckets.find((size) => size >= each.ids.length);
    if (bucket !== undefined) return padded(each, bucket, tokenizer.paddingId as number);
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a text of at most ${buckets.at(-1)} tokens but received ${each.ids.length}`,
    );
  };
  const whole = toBucket(encoded);
  const fitted = decoded && takesDecoderMask(parameters) ? toBucket(decoded) : decoded;
  const given = givenEntries(input, whole.ids.length, parameters);
  const built = buildTextInputs(parameters, whole, fitted, given);
  if (whole.ids.length > length && !built.masked) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      'Expected a model that takes a mask, so that texts can be padded to buckets, but received one that takes none',
    );
  }
  const decoderLength = decoded && { decoderLength: decoded.ids.length };
  return { entries: arrangeInputs(built.inputs, parameters), length, ...decoderLength };
}
