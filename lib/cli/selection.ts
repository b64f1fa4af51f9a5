import { type Command, InvalidArgumentError } from 'commander';
import type { CaptureOptions } from '../capture/capture-options';
import { JSON_CAPTURE_OPTIONS, type JsonCaptureOptions } from '../capture/json-capture-options';
import type { GivenInput } from '../io/given-inputs';

/** Adds the options that say what is captured of a run, to be followed by the command's own. */
export function addSelectionOptions(command: Command): Command {
  return command
    .option('--layers <list>', 'module names, /regular expressions/ or positions, negative from the end', collectLayers)
    .option('--heads <list>', 'heads, like 3 or 0,5 or 0:4', collectIndices)
    .option('--queries <list>', 'query positions, like 3 or 0,5 or 0:10', collectIndices)
    .option('--average-heads', 'the mean over heads instead of each');
}

/** What the options of `addCaptureOptions` say. */
export type CaptureFlags = Omit<JsonCaptureOptions, 'maxBytes'>;

/** The options of a capture that were given: weights are asked for, exactly, where nothing is said of them. */
export function captureOf(flags: JsonCaptureOptions): JsonCaptureOptions {
  const isGiven = (name: keyof JsonCaptureOptions) =>
    flags[name] !== undefined && !((name === 'weights' || name === 'exact') && flags[name]);
  return Object.fromEntries(JSON_CAPTURE_OPTIONS.filter(isGiven).map((name) => [name, flags[name]]));
}

/** Adds the options that say what is kept of a capture, beside those that say what is captured. */
export function addCaptureOptions(command: Command): Command {
  return addSelectionOptions(command)
    .option('--top-k <k>', 'for each query the k largest weights and their key positions only', parseCount)
    .option('--scores', 'also the scores before the softmax, masks added')
    .option('--log-sum-exp', 'also the logarithm of the sum that each softmax divides by')
    .option(
      '--statistics <list>',
      'also sums of the weights: received (by each key), entropy (of each row)',
      collectStatistics,
    )
    .option('--no-weights', 'not the weights themselves')
    .option('--no-exact', 'attention and its weights in one pass, where that can be: faster, the output about 1e-6 off')
    .option(
      '--dtype <dtype>',
      `of weights and scores: ${Object.keys(DTYPES).join(', ')} (the last two: of weights alone, as codes of a byte)`,
      parseDType,
    );
}

const DTYPES: Record<string, NonNullable<CaptureOptions['dtype']>> = {
  float32: 'float32',
  same: 'same',
  float16: 'float16',
  'uint8-linear': { type: 'uint8', scale: 'linear' },
  'uint8-log': { type: 'uint8', scale: 'log' },
};

function parseDType(text: string): CaptureOptions['dtype'] {
  if (!Object.hasOwn(DTYPES, text)) {
    throw new InvalidArgumentError(`Expected ${Object.keys(DTYPES).join(', ')} but received '${text}'.`);
  }
  return DTYPES[text];
}

/** Adds what one more `--layers` says: names, /regular expressions/ and positions, with commas between. */
export function collectLayers(text: string, before: (string | RegExp | number)[] = []): (string | RegExp | number)[] {
  return [...before, ...splitOutsideSlashes(text).map(parseLayer)];
}

function splitOutsideSlashes(text: string): string[] {
  const parts = text.match(/\/(?:[^/\\]|\\.)*\/[a-z]*(?=,|$)|[^,]+/g) ?? [];
  if (parts.length === 0)
    throw new InvalidArgumentError('Expected a module name, a /regular expression/ or a position.');
  return parts.map((part) => part.trim());
}

function parseLayer(part: string): string | RegExp | number {
  if (/^-?\d+$/.test(part)) return Number(part);
  const [, pattern, flags] = /^\/(.*)\/([a-z]*)$/.exec(part) ?? [];
  if (pattern === undefined) return part;
  try {
    return new RegExp(pattern, flags);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** Adds what one more `--heads` says: numbers and ranges (`0:4` ends before 4), with commas between. */
export function collectIndices(text: string, before: number[] = []): number[] {
  const indices = text.split(',').flatMap((part) => {
    const [, from, colon, to] = /^\s*(\d+)(?:(:)(\d+))?\s*$/.exec(part) ?? [];
    if (from === undefined)
      throw new InvalidArgumentError(`Expected numbers like 3 or 0,5 or 0:10 but received '${part}'.`);
    if (!colon) return [Number(from)];
    if (Number(to) <= Number(from))
      throw new InvalidArgumentError(`Expected a range that is not empty but received '${part}'.`);
    return Array.from({ length: Number(to) - Number(from) }, (_, i) => Number(from) + i);
  });
  return [...before, ...indices];
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('Expected a positive integer.');
  return Number(text);
}

/** Adds what one more `--statistics` says, with commas between. */
export function collectStatistics(text: string, before: ('received' | 'entropy')[] = []): ('received' | 'entropy')[] {
  const names = text.split(',').map((name) => name.trim());
  const wrong = names.find((name) => name !== 'received' && name !== 'entropy');
  if (wrong !== undefined) {
    throw new InvalidArgumentError(`Expected received, entropy or both with a comma between but received '${wrong}'.`);
  }
  return [...before, ...(names as ('received' | 'entropy')[])];
}

/** Adds one more value of an option that may be repeated. */
export function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}

const UNITS: Record<string, number> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

/** A number of bytes: 20MB, 1.5 GiB, 500000. */
export function parseBytes(text: string): number {
  const [, number, unit] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const factor = UNITS[(unit ?? '').toLowerCase()];
  const bytes = Math.floor(Number(number) * (factor ?? Number.NaN));
  if (!(bytes >= 1)) throw new InvalidArgumentError(`Expected a size like 20MB or 1.5GiB but received '${text}'.`);
  return bytes;
}

const MILLISECONDS: Record<string, number> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000 };

/** A time in milliseconds: 500ms, 30 s, 1.5min. */
export function parseDuration(text: string): number {
  const [, number, unit] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*$/i.exec(text) ?? [];
  const milliseconds = Number(number) * (MILLISECONDS[(unit ?? '').toLowerCase()] ?? Number.NaN);
  if (!(milliseconds >= 0))
    throw new InvalidArgumentError(`Expected a time like 500ms, 30s or 5min but received '${text}'.`);
  return milliseconds;
}

/** A limit that `none` lifts. */
export function unlessNone(parse: (text: string) => number): (text: string) => number {
  return (text) => (text === 'none' ? Number.POSITIVE_INFINITY : parse(text));
}

/** Rows and columns: 14x14. */
export function parsePatches(text: string): [number, number] {
  const [, rows, columns] = /^([1-9]\d*)[x×,]([1-9]\d*)$/.exec(text) ?? [];
  if (!rows || !columns) throw new InvalidArgumentError(`Expected rows and columns like 14x14 but received '${text}'.`);
  return [Number(rows), Number(columns)];
}

/** An integer from 0 on. */
export function parseIndex(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Expected an integer of at least 0.');
  return Number(text);
}

/** Adds what one more `--input NAME=VALUE` says. */
export function collectInputs(text: string, before: GivenInput[] = []): GivenInput[] {
  const [, name, value] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  const values = value === 'zeros' || value === 'ones' ? value : (value ?? '').split(',').map(Number);
  if (!name || !value || (Array.isArray(values) && !values.every(Number.isFinite))) {
    throw new InvalidArgumentError(`Expected NAME=zeros, NAME=ones or NAME=1,2,3 but received '${text}'.`);
  }
  return [...before, { name, values }];
}
