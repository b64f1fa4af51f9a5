import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { extname, resolve } from 'node:path';
import { JSON_CAPTURE_OPTIONS } from '../capture/json-capture-options';
import { TorchError } from '../core/errors';
import type { RunLimits } from '../core/run-limits';
import {
  options as checkOptions,
  elements,
  integer,
  invalid,
  isCallable,
  isPlainObject,
  optionalBoolean,
  optionalChoice,
  optionalSignal,
  optionalString,
  reasonOf,
} from '../core/validate';
import type { GivenInput } from '../io/given-inputs';
import type { LoadOptions } from '../model/load-options';
import { folderStore } from './folder-store';
import { type BulkCapture, type Job, type TextSource, writtenLayers } from './job';
import type { BulkProgress } from './progress';
import type { ResultStore } from './result-store';
import { s3Store } from './s3-store';

/**
 * Options of `bulk`: a model, its inputs, what is kept of each run, and where.
 *
 * @example
 * const options: BulkOptions = { model: 'bert.pt2', text: 'lines.txt', tokenizer: 'tokenizer.json', out: 'results', capture: { topK: 10 } };
 */
export interface BulkOptions extends BulkWorkerOptions {
  /** The path of a model, as `loadModel` takes it. */
  model: string;
  /** How it is loaded: options of `loadModel`. */
  load?: Job['load'];
  /**
   * Files of inputs, one input each (`.safetensors`, `.npz`, `.json`): paths, or patterns such as `data/*.safetensors`. Tensors go
   * to `forward` by the names of its parameters, or in file order where the names differ. Either these or `text`.
   */
  inputs?: string | readonly string[];
  /**
   * A file of texts: lines (`.txt`), lines of JSON (`.jsonl`: a text, or an object with it) or rows (`.parquet`), one input each.
   * Members, or columns, `text_pair` and `decoder_text` are texts that belong to it.
   */
  text?: string;
  /** With `text`: the path of a Hugging Face tokenizer.json. */
  tokenizer?: string;
  /** The member, or column, that the text is in. Default `'text'`. */
  textField?: string;
  /**
   * Lengths in tokens, ascending: each text is padded to the first that it fits in, and masked; longer ones fail. Default: texts
   * aren't padded.
   */
  buckets?: readonly number[];
  /** The token that a decoder's text begins with, by its id. Default: none is put before it. */
  decoderStart?: number;
  /** Inputs of forward that are the same for all: by name, numbers, or so many zeros or ones as the text has tokens. */
  given?: Readonly<Record<string, 'zeros' | 'ones' | readonly number[]>>;
  /** What is captured of each run: options of `captureAttention`; false: only the output is kept. Default: all weights. */
  capture?: BulkCapture | false;
  /** Whether the model's output is kept. Default true. */
  output?: boolean;
  /** Milliseconds and bytes that each run may take, as in `forward`. Default: no limits. */
  limits?: Pick<RunLimits, 'timeLimit' | 'memoryLimit'>;
  /** The kind of files that results are in. Default `'safetensors'`. */
  format?: 'safetensors' | 'parquet';
  /**
   * How many inputs, at least 1, are run as one where their tensors differ in the first dimension alone: texts of one bucket.
   * Other kernels may then be chosen, so that last bits of results differ: what is known of that is in `batches` of the result.
   * What a model mixes up, or can't take, is run alone. Default 1: each by itself.
   */
  batchSize?: number;
  /**
   * How many inputs, at least 0, may fail, those of earlier attempts included: beyond that the run ends with
   * `ERR_TOO_MANY_FAILURES` once the chunks under way are kept. Default: any number.
   */
  maxFailures?: number;
  /** How many inputs, at least 1, are run and kept together. What a crash costs is less than that, by worker. Default 256. */
  chunkSize?: number;
  /** Bytes of results, at least 1, after which a chunk goes on in another file. Default 64 MiB. */
  shardBytes?: number;
  /** Whether to go on with the run whose results are there: the same model, inputs and options. Default false. */
  resume?: boolean;
}

/**
 * Options of whatever runs chunks of a bulk run.
 *
 * @example
 * const options: BulkWorkerOptions = { out: 'results', workers: 4, threads: 2 };
 */
export interface BulkWorkerOptions {
  /** Where results are kept: a folder, `s3://bucket/prefix`, or a store. */
  out: string | ResultStore;
  /** The address of a Redis or Valkey that chunks are given out by. Default: none, and only this machine works. */
  queue?: string;
  /** Worker processes, at least 1, each with the model. Default: one a core, as far as half the memory holds so many models. */
  workers?: number;
  /** Threads, at least 1, that each of them computes with. Default: the cores by the workers. */
  threads?: number;
  /** Milliseconds, at least 0, that chunks under way have to end in when `signal` aborts. Default 30,000. */
  shutdownLimit?: number;
  /** Milliseconds, at least 1000, after which a chunk of a worker that isn't heard of goes to another. Default 30,000. */
  stalledAfter?: number;
  /** Told how far the run is, about twice a second. */
  onProgress?: (progress: BulkProgress) => void;
  /** Ends the run once the chunks under way are done: what is done stays, and `resume` goes on with it. */
  signal?: AbortSignal;
}

export const WORKER_OPTIONS = [
  'out',
  'queue',
  'workers',
  'threads',
  'shutdownLimit',
  'stalledAfter',
  'onProgress',
  'signal',
] as const satisfies readonly (keyof BulkWorkerOptions)[];

const BULK_OPTIONS = [
  ...WORKER_OPTIONS,
  'model',
  'load',
  'inputs',
  'text',
  'tokenizer',
  'textField',
  'buckets',
  'decoderStart',
  'given',
  'capture',
  'output',
  'limits',
  'format',
  'batchSize',
  'maxFailures',
  'chunkSize',
  'shardBytes',
  'resume',
] as const satisfies readonly (keyof BulkOptions)[];

const LOAD_OPTIONS = [
  'device',
  'dtype',
  'untrusted',
  'verify',
  'optimize',
  'fuse',
  'timeLimit',
] as const satisfies readonly (keyof LoadOptions)[];

const DEFAULTS = { chunkSize: 256, shardBytes: 64 * 2 ** 20, shutdownLimit: 30_000, stalledAfter: 30_000 };

export interface CheckedWorkerOptions {
  store: ResultStore;
  queue: string | undefined;
  workers: number | undefined;
  threads: number | undefined;
  shutdownLimit: number;
  stalledAfter: number;
  onProgress: ((progress: BulkProgress) => void) | undefined;
  signal: AbortSignal;
}

export interface CheckedBulkOptions extends CheckedWorkerOptions {
  job: Job;
  /** Paths and patterns, where inputs are files. */
  inputs: string[];
  resume: boolean;
  maxFailures: number | undefined;
}

function atLeast(value: unknown, what: string, min: number): number | undefined {
  return value === undefined ? undefined : integer(value, what, min);
}

function storeOf(out: unknown): ResultStore {
  if (typeof out === 'string') return /^s3:\/\//.test(out) ? s3Store(out) : folderStore(out);
  const methods = ['put', 'get', 'list', 'remove'] as const;
  if (typeof out === 'object' && out !== null && methods.every((name) => isCallable((out as ResultStore)[name])))
    return out as ResultStore;
  throw invalid("a folder, 's3://bucket/prefix' or a store", 'out', out);
}

export function checkWorkerOptions(given: BulkWorkerOptions): CheckedWorkerOptions {
  const queue = optionalString(given.queue, 'queue');
  if (queue !== undefined && !/^(rediss?|valkeys?):\/\//.test(queue))
    throw invalid("an address such as 'redis://127.0.0.1:6379'", 'queue', queue);
  const { onProgress } = given;
  if (onProgress !== undefined && !isCallable(onProgress)) throw invalid('a function', 'onProgress', onProgress);
  return {
    queue: queue?.replace(/^valkey/, 'redis'),
    workers: atLeast(given.workers, 'workers', 1),
    threads: atLeast(given.threads, 'threads', 1),
    shutdownLimit: atLeast(given.shutdownLimit, 'shutdownLimit', 0) ?? DEFAULTS.shutdownLimit,
    stalledAfter: atLeast(given.stalledAfter, 'stalledAfter', 1000) ?? DEFAULTS.stalledAfter,
    onProgress,
    signal: optionalSignal(given.signal) ?? new AbortController().signal,
    store: storeOf(given.out),
  };
}

/** Checks the options of a run, and reads what of the model and the texts says which they are. */
export async function checkBulkOptions(given: BulkOptions): Promise<CheckedBulkOptions> {
  const options = checkOptions(given, BULK_OPTIONS, 'the options of bulk');
  if (typeof options.model !== 'string') throw invalid('the path of a model', 'model', options.model);
  const inputs = typeof options.inputs === 'string' ? [options.inputs] : inputsOf(options.inputs);
  const text = optionalString(options.text, 'text');
  if ((inputs.length === 0) === (text === undefined)) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected either inputs or text but received ${text === undefined ? 'neither' : 'both'}`,
    );
  }
  const input = givenOf(options.given);
  const { load, limits } = options;
  const capture = options.capture === false ? null : captureOf(options.capture);
  const output = optionalBoolean(options.output, 'output') ?? true;
  if (!capture && !output) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      'Expected something to keep but received capture: false and output: false',
    );
  }
  const job: Job = {
    model: await fileOf(options.model),
    load: load === undefined ? {} : checkOptions(load, LOAD_OPTIONS, 'load'),
    limits: limits === undefined ? {} : checkOptions(limits, ['timeLimit', 'memoryLimit'], 'limits'),
    source: text === undefined ? { kind: 'files', root: process.cwd(), input } : await textSource(text, options, input),
    capture,
    output,
    format: optionalChoice(options.format, ['safetensors', 'parquet'], 'format') ?? 'safetensors',
    batchSize: atLeast(options.batchSize, 'batchSize', 1) ?? 1,
    chunkSize: atLeast(options.chunkSize, 'chunkSize', 1) ?? DEFAULTS.chunkSize,
    shardBytes: atLeast(options.shardBytes, 'shardBytes', 1) ?? DEFAULTS.shardBytes,
  };
  const resume = optionalBoolean(options.resume, 'resume') ?? false;
  const maxFailures = atLeast(options.maxFailures, 'maxFailures', 0);
  return { ...checkWorkerOptions(options), job, inputs, resume, maxFailures };
}

function inputsOf(value: unknown): string[] {
  if (value === undefined) return [];
  return elements(value, 'a path, a pattern, or an array of them,', 'inputs', (each) => {
    if (typeof each !== 'string') throw invalid('a path or a pattern', 'an element of inputs', each);
    return each;
  });
}

function givenOf(value: BulkOptions['given']): GivenInput[] {
  if (value === undefined) return [];
  if (!isPlainObject(value)) throw invalid('an object', 'given', value);
  return Object.entries(value).map(([name, values]) => {
    if (values === 'zeros' || values === 'ones') return { name, values };
    return {
      name,
      values: elements(values, "'zeros', 'ones' or an array of numbers", `given.${name}`, (each) => {
        if (typeof each !== 'number' || !Number.isFinite(each))
          throw invalid('a number', `an element of given.${name}`, each);
        return each;
      }),
    };
  });
}

function captureOf(value: BulkCapture | undefined): NonNullable<Job['capture']> {
  const { layers, ...rest } = checkOptions(value, JSON_CAPTURE_OPTIONS, 'capture');
  return { ...rest, ...(layers && { layers: writtenLayers(layers) }) };
}

async function textSource(text: string, options: BulkOptions, input: GivenInput[]): Promise<TextSource> {
  const kinds: Record<string, TextSource['kind']> = {
    '.txt': 'lines',
    '.jsonl': 'json-lines',
    '.ndjson': 'json-lines',
    '.parquet': 'parquet',
  };
  const kind = kinds[extname(text).toLowerCase()];
  if (!kind) throw invalid('a .txt, .jsonl or .parquet file', 'text', text);
  const { tokenizer } = options;
  if (typeof tokenizer !== 'string')
    throw invalid('the path of a tokenizer.json', 'tokenizer, which text needs,', tokenizer);
  const buckets =
    options.buckets &&
    elements(options.buckets, 'an array of lengths', 'buckets', (each) => integer(each, 'an element of buckets', 1));
  if (buckets?.length === 0 || buckets?.some((size, i) => i > 0 && size <= (buckets[i - 1] as number)))
    throw invalid('ascending lengths', 'buckets', options.buckets);
  const { decoderStart } = options;
  return {
    kind,
    path: resolve(text),
    size: await sizeOf(text, 'text'),
    tokenizer: resolve(tokenizer),
    field: optionalString(options.textField, 'textField') ?? 'text',
    input,
    ...(buckets && { buckets }),
    ...(decoderStart !== undefined && { decoderStart: integer(decoderStart, 'decoderStart', 0) }),
  };
}

async function sizeOf(path: string, what: string): Promise<number> {
  try {
    const stats = await stat(path);
    if (stats.isFile()) return stats.size;
  } catch (error) {
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a file for ${what} but received ${reasonOf(error)}`, {
      cause: error,
    });
  }
  throw invalid('a file', what, path);
}

/** A model's file, with what tells it from others. */
export async function fileOf(path: string): Promise<Job['model']> {
  const size = await sizeOf(path, 'model');
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(piece as Buffer);
  return { path: resolve(path), size, sha256: hash.digest('hex') };
}

/** What a process takes beside the model: libtorch, and what runs. */
const PROCESS_BYTES = 300 * 2 ** 20;

/** How many workers there are, and with how many threads, where nothing says so. */
export function defaultWorkers(
  { workers, threads }: Pick<CheckedWorkerOptions, 'workers' | 'threads'>,
  modelBytes: number,
): { workers: number; threads: number } {
  const cores = availableParallelism();
  const held = Math.max(1, Math.floor(totalmem() / 2 / (PROCESS_BYTES + modelBytes)));
  const count = workers ?? Math.max(1, Math.min(threads === undefined ? cores : Math.floor(cores / threads), held));
  return { workers: count, threads: threads ?? Math.max(1, Math.floor(cores / count)) };
}
