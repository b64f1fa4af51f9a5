import type { CaptureOptions } from '../capture/capture-options';
import type { JsonCaptureOptions } from '../capture/json-capture-options';
import type { RunLimits } from '../core/run-limits';
import type { GivenInput } from '../io/given-inputs';
import type { LoadOptions } from '../model/load-options';
import type { BatchRecord } from './batch-record';

/**
 * What is captured of each input of a bulk run: the options of `captureAttention` that can be sent to another process.
 *
 * @example
 * const capture: BulkCapture = { layers: [-1, /cross_attn$/], topK: 10 };
 */
export type BulkCapture = JsonCaptureOptions;

/** A layer as JSON has it: regular expressions have a form of their own. */
export type WrittenLayer = string | number | { pattern: string; flags: string };

/** Files, each an input. */
export interface FileSource {
  kind: 'files';
  /** The folder that their paths begin in. */
  root: string;
  input: GivenInput[];
}

/** Texts, and what becomes of them. */
export interface TextSource {
  kind: 'lines' | 'json-lines' | 'parquet';
  path: string;
  /** Bytes of the file: with others it is another file. */
  size: number;
  /** The path of its tokenizer.json. */
  tokenizer: string;
  /** The member, or column, that the text is in. */
  field: string;
  /** Lengths that texts are padded to, ascending; undefined: none is padded. */
  buckets?: number[];
  input: GivenInput[];
  decoderStart?: number;
}

/** All that a worker has to know to run any chunk of a bulk run; JSON. */
export interface Job {
  model: { path: string; size: number; sha256: string };
  load: Pick<LoadOptions, 'device' | 'dtype' | 'untrusted' | 'verify' | 'optimize' | 'fuse' | 'timeLimit'>;
  limits: Pick<RunLimits, 'timeLimit' | 'memoryLimit'>;
  source: FileSource | TextSource;
  /** Null: outputs alone. */
  capture: (Omit<BulkCapture, 'layers'> & { layers?: WrittenLayer[] }) | null;
  /** Whether the model's outputs are among the results. */
  output: boolean;
  format: 'safetensors' | 'parquet';
  /** How many inputs of one kind are run together. */
  batchSize: number;
  /** Inputs of a chunk. */
  chunkSize: number;
  /** Bytes of results after which a chunk goes on in another shard. */
  shardBytes: number;
}

/** Inputs that are run together and whose results are kept together, always the same ones under one number. */
export interface Chunk {
  number: number;
  /** The index of its first input among all. */
  first: number;
  count: number;
  /** Files: their paths. */
  files?: string[];
  /** Lines: where they begin and end in the file. */
  begin?: number;
  end?: number;
}

/** An input that couldn't be run, as in `failed.jsonl`. */
export interface FailedInput {
  index: number;
  input: string;
  code: string;
  message: string;
}

/** What a worker made of a chunk: files in the scratch folder, one a shard. */
export interface ChunkResult {
  written: number;
  failed: FailedInput[];
  shards: { path: string; bytes: number; inputs: number }[];
  /** Where inputs may be run together: how that went. */
  batches?: BatchRecord;
}

/** What a worker is told to do. */
export interface ChunkTask {
  chunk: Chunk;
  /** The beginning of the paths of its files. */
  scratch: string;
  /** One input after another, each said before it begins: whichever ends the process is then known. */
  careful: boolean;
  /** Inputs that are left out. */
  excluded: FailedInput[];
}

export type ToWorker = { type: 'load'; job: Job; threads: number } | ({ type: 'run' } & ChunkTask);

export type FromWorker =
  | { type: 'ready' }
  | { type: 'begin'; index: number; input: string }
  | { type: 'progress'; inputs: number; failed: number }
  | { type: 'done'; result: ChunkResult }
  | { type: 'failed'; error: { code: string; message: string } };

export function writtenLayers(layers: NonNullable<BulkCapture['layers']>): WrittenLayer[] {
  return layers.map((layer) =>
    typeof layer === 'string' || typeof layer === 'number' ? layer : { pattern: layer.source, flags: layer.flags },
  );
}

/** The options of each capture of a job. */
export function captureOptionsOf({ capture, limits }: Job): CaptureOptions {
  if (!capture) return limits;
  const { layers, ...rest } = capture;
  const read = layers?.map((layer) => (typeof layer === 'object' ? new RegExp(layer.pattern, layer.flags) : layer));
  return { ...rest, ...(read && { layers: read }), ...limits };
}
