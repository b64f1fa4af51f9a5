import { createHash, randomUUID } from 'node:crypto';
import { TorchError } from '../core/errors';
import { shortened } from '../core/validate';
import { type BatchRecord, mergeBatches } from './batch-record';
import type { ChunkResult, FailedInput, Job } from './job';
import { chunkCount, type Plan } from './plan';
import type { ResultStore } from './result-store';

// What a store holds of a run: manifest.json and plan.json, written before anything is run; part-… , the results; chunks/…, one
// record for each chunk that is done, written when its results are there: that one makes it done. At the end, failed.jsonl, and
// the manifest once more.

const MANIFEST = 'manifest.json';
const PLAN = 'plan.json';
const FAILED = 'failed.jsonl';
const RECORDS = 'chunks/';
const SHARDS = 'part-';

/** How many objects are read at once. */
const AT_ONCE = 32;

/** A file of results, as the manifest names it. */
interface Shard {
  name: string;
  bytes: number;
  inputs: number;
}

/** What was made of a chunk. */
export interface ChunkRecord {
  chunk: number;
  first: number;
  count: number;
  written: number;
  failed: FailedInput[];
  shards: Shard[];
  batches?: BatchRecord;
}

/** What `manifest.json` says. */
export interface Manifest {
  version: 1;
  id: string;
  state: 'running' | 'done';
  job: Job;
  inputs: { count: number; fingerprint: string };
  chunks: number;
  begun: string;
  /** How many inputs may fail. */
  maxFailures?: number;
  /** Once it is done. */
  ended?: string;
  written?: number;
  failed?: number;
  shards?: Shard[];
  /** Where inputs were run together: how results compare to those of single runs. */
  batches?: BatchRecord;
}

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value)}\n`);
}

async function read<Content>(store: ResultStore, name: string): Promise<Content | undefined> {
  const bytes = await store.get(name);
  if (!bytes) return undefined;
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Content;
  } catch (error) {
    throw new TorchError('ERR_RESULT_STORE', `Expected JSON in ${name} of ${store.name} but received none`, {
      cause: error,
    });
  }
}

function numbered(chunk: number): string {
  return String(chunk).padStart(8, '0');
}

/** What has to be equal for a run to go on: not where the model is, as long as it is the same. */
function identityOf(job: Job): string {
  const { path: _, ...model } = job.model;
  return createHash('sha256')
    .update(JSON.stringify({ ...job, model }))
    .digest('hex');
}

/** A run as its store has it. */
export class RunRecord {
  readonly #done = new Map<number, ChunkRecord>();
  #written = 0;
  #failed = 0;

  private constructor(
    readonly store: ResultStore,
    readonly manifest: Manifest,
    readonly plan: Plan,
  ) {}

  /**
   * Begins a run, or goes on with the one that is there.
   *
   * @throws TorchError `ERR_INVALID_ARGUMENT` where there is one and `resume` is false, or it is another.
   */
  static async begin(
    store: ResultStore,
    job: Job,
    plan: Plan,
    { resume, maxFailures }: { resume: boolean; maxFailures: number | undefined },
  ): Promise<RunRecord> {
    const limit = maxFailures !== undefined && { maxFailures };
    const there = await read<Manifest>(store, MANIFEST);
    if (!there) {
      const strange = (await store.list(SHARDS))[0] ?? (await store.list(RECORDS))[0];
      if (strange) {
        throw new TorchError(
          'ERR_INVALID_ARGUMENT',
          `Expected ${store.name} to hold no results, or those of a run, but received ${strange.name} without a ${MANIFEST}`,
        );
      }
      const { count, fingerprint } = plan;
      const manifest: Manifest = {
        version: 1,
        id: randomUUID(),
        state: 'running',
        job,
        inputs: { count, fingerprint },
        chunks: chunkCount(plan, job.chunkSize),
        begun: new Date().toISOString(),
        ...limit,
      };
      await store.put(PLAN, encode(plan));
      await store.put(MANIFEST, encode(manifest));
      return new RunRecord(store, manifest, plan);
    }
    if (!resume) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected another place for the results, or --resume, but received ${shortened(store.name)}, where a run is ${there.state}`,
      );
    }
    if (there.inputs?.fingerprint !== plan.fingerprint || identityOf(there.job) !== identityOf(job)) {
      const what = there.inputs?.fingerprint !== plan.fingerprint ? 'inputs' : differing(there.job, job);
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected to go on with the run in ${shortened(store.name)}, as its ${MANIFEST} has it, but received others: ${what}`,
      );
    }
    const { maxFailures: before, ...rest } = there;
    if (before !== maxFailures) await store.put(MANIFEST, encode({ ...rest, ...limit }));
    const manifest: Manifest = { ...rest, ...limit, job: { ...there.job, model: job.model } };
    const record = new RunRecord(store, manifest, plan);
    await record.reconcile();
    return record;
  }

  /**
   * The run that a store has.
   *
   * @throws TorchError `ERR_INVALID_ARGUMENT` where it has none.
   */
  static async open(store: ResultStore): Promise<RunRecord> {
    const manifest = await read<Manifest>(store, MANIFEST);
    const plan = manifest && (await read<Plan>(store, PLAN));
    if (!manifest || !plan) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a run in ${shortened(store.name)} but received no ${MANIFEST} there`,
      );
    }
    const record = new RunRecord(store, manifest, plan);
    await record.reconcile();
    return record;
  }

  /** Looks what is done: a record whose shards are there as it has them. */
  async reconcile(): Promise<void> {
    const sizes = new Map((await this.store.list(SHARDS)).map(({ name, size }) => [name, size]));
    const names = (await this.store.list(RECORDS)).map(({ name }) => name);
    const unread = names.filter((name) => !this.#done.has(Number(/(\d+)\.json$/.exec(name)?.[1])));
    for (let at = 0; at < unread.length; at += AT_ONCE) {
      const records = unread.slice(at, at + AT_ONCE).map((name) => read<ChunkRecord>(this.store, name));
      for (const record of await Promise.all(records)) if (record) this.#add(record);
    }
    for (const { chunk, shards } of [...this.#done.values()]) {
      const whole = shards.every(({ name, bytes }) => sizes.get(name) === bytes);
      if (!whole) this.#remove(chunk);
    }
  }

  isDone(chunk: number): boolean {
    return this.#done.has(chunk);
  }

  /** Whether a chunk's record is there by now, whoever wrote it. */
  async wasDone(chunk: number): Promise<boolean> {
    if (this.#done.has(chunk)) return true;
    const record = await read<ChunkRecord>(this.store, `${RECORDS}${numbered(chunk)}.json`);
    if (record) this.#add(record);
    return record !== undefined;
  }

  /** The numbers of chunks that aren't done. */
  *missing(): Generator<number> {
    for (let chunk = 0; chunk < this.manifest.chunks; ++chunk) if (!this.#done.has(chunk)) yield chunk;
  }

  get counts(): { chunks: number; written: number; failed: number } {
    return { chunks: this.#done.size, written: this.#written, failed: this.#failed };
  }

  #add(record: ChunkRecord): void {
    this.#remove(record.chunk);
    this.#done.set(record.chunk, record);
    this.#written += record.written;
    this.#failed += record.failed.length;
  }

  #remove(chunk: number): void {
    const record = this.#done.get(chunk);
    if (!record || !this.#done.delete(chunk)) return;
    this.#written -= record.written;
    this.#failed -= record.failed.length;
  }

  /** Keeps what was made of a chunk. Under its number there are always the same inputs, so that none is there twice. */
  async commit(
    { number, first, count }: { number: number; first: number; count: number },
    result: ChunkResult,
  ): Promise<void> {
    const extension = this.manifest.job.format;
    const shards: Shard[] = [];
    for (const [i, { path, bytes, inputs }] of result.shards.entries()) {
      const name = `${SHARDS}${numbered(number)}${i === 0 ? '' : `-${i}`}.${extension}`;
      await this.store.put(name, { path });
      shards.push({ name, bytes, inputs });
    }
    const { written, failed, batches } = result;
    const record: ChunkRecord = { chunk: number, first, count, written, failed, shards, ...(batches && { batches }) };
    await this.store.put(`${RECORDS}${numbered(number)}.json`, encode(record));
    this.#add(record);
  }

  get #records(): ChunkRecord[] {
    return [...this.#done.values()].sort((a, b) => a.chunk - b.chunk);
  }

  get hasTooManyFailures(): boolean {
    return this.#failed > (this.manifest.maxFailures ?? Number.POSITIVE_INFINITY);
  }

  /**
   * Looks whether no more inputs have failed than may.
   *
   * @throws TorchError `ERR_TOO_MANY_FAILURES`.
   */
  checkFailures(): void {
    if (!this.hasTooManyFailures) return;
    const { maxFailures } = this.manifest;
    const { failed } = this.counts;
    const [{ input, code, message }] = this.#records.flatMap((record) => record.failed) as [FailedInput];
    throw new TorchError(
      'ERR_TOO_MANY_FAILURES',
      `Expected at most ${maxFailures} inputs that fail but ${failed} have, the first of them ${input} (${code}: ${shortened(message)}); ` +
        `${FAILED} has all. --resume with a higher --max-failures goes on`,
    );
  }

  /** Writes down what has failed so far. */
  async writeFailed(): Promise<void> {
    const lines = this.#records.flatMap(({ failed }) => failed.map((each) => `${JSON.stringify(each)}\n`));
    if (lines.length > 0) await this.store.put(FAILED, new TextEncoder().encode(lines.join('')));
    else await this.store.remove(FAILED);
  }

  /** Writes down that all is done, and what failed. Twice is as good as once. */
  async finish(): Promise<Manifest> {
    const records = this.#records;
    const shards = records.flatMap((record) => record.shards);
    // What an attempt left that was cut off before its record.
    const known = new Set(shards.map(({ name }) => name));
    for (const { name } of await this.store.list(SHARDS)) if (!known.has(name)) await this.store.remove(name);
    await this.writeFailed();
    const { written, failed } = this.counts;
    const batches = mergeBatches(records.map((record) => record.batches));
    const done: Manifest = {
      ...this.manifest,
      state: 'done',
      ended: new Date().toISOString(),
      written,
      failed,
      shards,
      ...(batches && { batches }),
    };
    await this.store.put(MANIFEST, encode(done));
    return done;
  }
}

/** What two jobs differ in. */
function differing(a: Job, b: Job): string {
  const model = (job: Job) => ({ ...job, model: job.model.sha256 });
  const [before, now] = [model(a), model(b)] as unknown as [Record<string, unknown>, Record<string, unknown>];
  const names = Object.keys(now).filter((name) => JSON.stringify(before[name]) !== JSON.stringify(now[name]));
  return names.join(', ') || 'options';
}
