import { SingleBar } from 'cli-progress';
import { type Command, Option } from 'commander';
import type { BatchRecord, BulkOptions, BulkProgress, BulkResult, BulkStatus, BulkWorkOptions } from '../bulk';
import type { GivenInput } from '../io/given-inputs';
import { addModelOptions, type ModelOptions } from './model';
import {
  addCaptureOptions,
  type CaptureFlags,
  captureOf,
  collect,
  collectInputs,
  parseBytes,
  parseCount,
  parseDuration,
  parseIndex,
} from './selection';

interface CommandOptions extends ModelOptions, CaptureFlags {
  inputs?: string[];
  text?: string;
  tokenizer?: string;
  textField?: string;
  buckets?: number[];
  decoderStart?: number;
  input?: GivenInput[];
  out: string;
  format?: 'safetensors' | 'parquet';
  resume?: boolean;
  workers?: number;
  threads?: number;
  batch?: number;
  maxFailures?: number;
  chunkSize?: number;
  shardSize?: number;
  shutdownLimit?: number;
  queue?: string;
  stalledAfter?: number;
  attention: boolean;
  output: boolean;
}

const OUT = 'where the results are kept: a folder, or s3://bucket/prefix';
const QUEUE = 'redis://… of a Redis or Valkey that gives chunks out to any number of machines';

function parseBuckets(text: string): number[] {
  return text.split(',').map((part) => parseCount(part.trim()));
}

/** The options that say what is run, and what is kept of it. */
function addRunOptions(command: Command): Command {
  command
    .option('--inputs <pattern>', "files of inputs, one each: 'data/*.safetensors' (.npz, .json)", collect)
    .option('--text <file>', 'a file of texts, one a line (.txt, .jsonl) or row (.parquet)')
    .option('--tokenizer <file>', 'with --text: tokenizer.json of a Hugging Face tokenizer')
    .option('--text-field <name>', 'the member, or column, that the text is in (default: text)')
    .option('--buckets <list>', 'lengths in tokens that texts are padded to, like 32,64,128', parseBuckets)
    .option('--decoder-start <id>', "the token that a decoder's text begins with, by its id", parseIndex)
    .option('--input <name=value>', 'one input of forward by name, for all: zeros, ones, or numbers', collectInputs)
    .requiredOption('--out <folder>', OUT)
    .addOption(new Option('--format <format>', 'kind of the files of results').choices(['safetensors', 'parquet']))
    .option('--resume', 'go on with the run whose results are there')
    .option(
      '--batch <count>',
      'inputs of equal sizes that are run as one, as texts of one bucket (default: 1)',
      parseCount,
    )
    .option('--max-failures <count>', 'inputs that may fail before the run ends (default: any number)', parseIndex)
    .option('--chunk-size <count>', 'inputs that are run and kept together (default: 256)', parseCount)
    .option('--shard-size <size>', 'bytes of results after which another file begins (default: 64MiB)', parseBytes);
  addCaptureOptions(command)
    .option('--no-attention', 'no attention: the outputs alone')
    .option('--no-output', 'no outputs: the attention alone');
  return addModelOptions(command);
}

/** The options that say who runs it. */
function addWorkerOptions(command: Command): Command {
  return command
    .option(
      '--stalled-after <time>',
      "with --queue: when a chunk of a worker that isn't heard of goes to another (default: 30s)",
      parseDuration,
    )
    .option('--workers <count>', 'worker processes, each with the model (default: one a core)', parseCount)
    .option('--threads <count>', 'threads of each worker (default: the cores by the workers)', parseCount)
    .option(
      '--shutdown-limit <time>',
      'how long chunks under way have when the run is told to end (default: 30s)',
      parseDuration,
    );
}

/** Adds `bulk`: any number of inputs, on the machine's cores or on those of many. */
export function registerBulk(program: Command): void {
  const command = program
    .command('bulk')
    .description('capture the attention of any number of inputs, or run them, on worker processes')
    .usage('[options] <model> | submit | work | status')
    .addHelpText(
      'after',
      `
Each input ends once in the results (part-*.safetensors, or .parquet), or with its error in failed.jsonl. A run that was cut
off, by whatever it was, goes on with --resume. 'libtorch-attention bulk run --help' lists the options; docs/bulk.md says the rest.

Examples:
  libtorch-attention bulk bert.pt2 --inputs 'data/*.safetensors' --out results --top-k 10
  libtorch-attention bulk bert.pt2 --text lines.txt --tokenizer tokenizer.json --buckets 32,64,128 --out results --layers -1
  libtorch-attention bulk bert.pt2 --text lines.parquet --tokenizer tokenizer.json --out results --format parquet --resume
  libtorch-attention bulk submit bert.pt2 --inputs 'data/*.npz' --out /shared/results --queue redis://10.0.0.5
  libtorch-attention bulk work --out /shared/results --queue redis://10.0.0.5
  libtorch-attention bulk status --out /shared/results --queue redis://10.0.0.5`,
    );
  // What stands for itself where no other is named.
  const run = command.command('run', { isDefault: true }).description('run all of it, and wait for the end');
  addWorkerOptions(addRunOptions(run.argument('<model>', 'a TorchScript file or a program of torch.export (.pt2)')))
    .option('--queue <address>', QUEUE)
    .action((model: string, options: CommandOptions) => runBulk(model, options));
  addRunOptions(command.command('submit').description('begin a run on a queue, for others to work on'))
    .argument('<model>', 'a model that all of them find under this path')
    .requiredOption('--queue <address>', QUEUE)
    .action((model: string, options: CommandOptions) => runSubmit(model, options));
  addWorkerOptions(command.command('work').description('work on a run until all of it is done'))
    .requiredOption('--out <folder>', OUT)
    .option('--queue <address>', QUEUE)
    .option('--model <file>', "the run's model, where it is elsewhere on this machine")
    .action((options: CommandOptions & { model?: string }) => runWork(options));
  command
    .command('status')
    .description('say how far a run is')
    .requiredOption('--out <folder>', OUT)
    .option('--queue <address>', QUEUE)
    .action((options: CommandOptions) => runStatus(options));
}

function workerOptionsOf(options: CommandOptions) {
  const { out, queue, workers, threads, shutdownLimit, stalledAfter } = options;
  return { out, queue, workers, threads, shutdownLimit, stalledAfter };
}

function optionsOf(model: string, options: CommandOptions): BulkOptions {
  const { inputs, text, tokenizer, textField, buckets, decoderStart, input, format, resume } = options;
  const { device, untrusted, verify, timeLimit, memoryLimit, attention, output } = options;
  const given = Object.fromEntries((input ?? []).map(({ name, values }) => [name, values]));
  const all = {
    model,
    load: { device, untrusted, verify, timeLimit },
    limits: { timeLimit, memoryLimit },
    inputs,
    text,
    tokenizer,
    textField,
    buckets,
    decoderStart,
    given,
    format,
    resume,
    batchSize: options.batch,
    maxFailures: options.maxFailures,
    chunkSize: options.chunkSize,
    shardBytes: options.shardSize,
    capture: attention && captureOf(options),
    output,
    ...workerOptionsOf(options),
  };
  return all as unknown as BulkOptions; // options that aren't set are undefined
}

/** Ends a run by the first signal, and the process by the second. */
async function untilSignalled(run: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const codes = { SIGINT: 130, SIGTERM: 143 };
  const listeners = Object.entries(codes).map(([name, code]) => {
    const listener = (): void => {
      if (stop.signal.aborted) process.exit(code);
      process.exitCode = code;
      process.stderr.write('\nEnding once the chunks under way are done; once more ends it now.\n');
      stop.abort(new Error(`Interrupted by ${name}`));
    };
    process.on(name, listener);
    return () => process.removeListener(name, listener);
  });
  try {
    await run(stop.signal);
  } catch (error) {
    if (!stop.signal.aborted || error !== stop.signal.reason) throw error;
    process.stderr.write('Interrupted; what is done is kept: --resume goes on.\n');
  } finally {
    for (const remove of listeners) remove();
  }
}

async function runBulk(model: string, options: CommandOptions): Promise<void> {
  const given = optionsOf(model, options);
  const { bulk } = require('../bulk') as typeof import('../bulk');
  await follow(options.out, (rest) => bulk({ ...given, ...rest }));
}

async function runWork({ model, ...options }: CommandOptions & { model?: string }): Promise<void> {
  const { workBulk } = require('../bulk') as typeof import('../bulk');
  const given = { ...workerOptionsOf(options), model } as BulkWorkOptions;
  await follow(options.out, (rest) => workBulk({ ...given, ...rest }));
}

/** Runs until all is done, or a signal asks for the end; shows how far it is. */
async function follow(
  out: string,
  run: (options: Pick<BulkOptions, 'signal' | 'onProgress'>) => Promise<BulkResult>,
): Promise<void> {
  await untilSignalled(async (signal) => {
    const shown = showProgress();
    try {
      const result = await run({ signal, onProgress: shown.report });
      shown.end();
      process.stdout.write(`${summary(result, out)}\n`);
    } finally {
      shown.end();
    }
  });
}

async function runSubmit(model: string, options: CommandOptions): Promise<void> {
  const { submitBulk } = require('../bulk') as typeof import('../bulk');
  const { inputs, chunks, missing } = await submitBulk(optionsOf(model, options));
  process.stdout.write(`${inputs} inputs in ${chunks} chunks, ${missing} of them to be done\n`);
}

async function runStatus({ out, queue }: CommandOptions): Promise<void> {
  const { bulkStatus } = require('../bulk') as typeof import('../bulk');
  const status = await bulkStatus({ out: out, ...(queue !== undefined && { queue }) });
  process.stdout.write(`${describeStatus(status)}\n`);
}

function describeStatus({ state, inputs, written, failed, chunks, chunksDone, begun, queue }: BulkStatus): string {
  const lines = [
    `${state}, begun ${begun}`,
    `${written + failed} of ${inputs} inputs done, ${failed} of them failed`,
    `${chunksDone} of ${chunks} chunks done`,
  ];
  if (queue) {
    const { waiting, active, delayed, failed: givenUp } = queue;
    lines.push(`queue: ${waiting} waiting, ${active} under way, ${delayed} to be tried again, ${givenUp} given up`);
  }
  return lines.join('\n');
}

function summary({ inputs, written, failed, shards, batches }: BulkResult, out: string): string {
  const where = `${shards.length} file${shards.length === 1 ? '' : 's'} in ${out}`;
  const bad = failed > 0 ? `; ${failed} failed, see failed.jsonl` : '';
  const lines = batches ? ['', ...describeBatches(batches)] : [];
  return `${written} of ${inputs} inputs in ${where}${bad}${lines.join('\n')}`;
}

function describeBatches({ inputs, compared, equal, difference, refused }: BatchRecord): string[] {
  const most =
    difference > 0 ? `, the others differ by at most ${difference.toPrecision(1)} of the largest number` : '';
  return [
    `${inputs} inputs were run with others; ${equal} of ${compared} that were run alone as well gave the same bits${most}`,
    ...(refused === undefined ? [] : [`some were run alone, since ${refused}`]),
  ];
}

/** Milliseconds between two lines where there is no terminal. */
const LINE_INTERVAL = 10_000;

/** A bar on a terminal, else a line from time to time. */
function showProgress(): { report(progress: BulkProgress): void; end(): void } {
  if (!process.stderr.isTTY) {
    let last = Date.now();
    const report = (progress: BulkProgress): void => {
      if (Date.now() - last < LINE_INTERVAL) return;
      last = Date.now();
      process.stderr.write(`${describe(progress)}\n`);
    };
    return { report, end: () => {} };
  }
  const bar = new SingleBar({
    format: '{bar} {text}',
    stream: process.stderr,
    clearOnComplete: false,
    hideCursor: true,
  });
  let begun = false;
  return {
    report: (progress) => {
      const payload = { text: describe(progress) };
      if (!begun) bar.start(progress.inputs, progress.done, payload);
      begun = true;
      bar.update(progress.done, payload);
    },
    end: () => {
      if (begun) bar.stop();
      begun = false;
    },
  };
}

function describe({ inputs, done, failed, rate, secondsLeft }: BulkProgress): string {
  const parts = [`${done} of ${inputs}`, `${rate.toFixed(1)}/s`];
  if (secondsLeft !== undefined) parts.push(`${duration(secondsLeft)} left`);
  if (failed > 0) parts.push(`${failed} failed`);
  return parts.join(', ');
}

function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.ceil(whole / 60)} min`;
  if (whole < 172_800) return `${(whole / 3600).toFixed(1)} h`;
  return `${(whole / 86_400).toFixed(1)} days`;
}
