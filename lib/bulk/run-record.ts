import { createHash, randomUUID } from 'node:crypto';
import { TorchError } from '../core/errors';
import { shortened } from '../core/validate';
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
  /** Once it is done. */
  ended?: string;
  written?: number;
  failed?: number;
  shards?: Shard[];
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
  static async begin(store: ResultStore, job: Job, plan: Plan, resume: boolean): Promise<RunRecord> {
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
    const record = new RunRecord(store, { ...there, job: { ...there.job, model: job.model } }, plan);
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
      for (const record of await Promise.all(records)) if (record) this.#done.set(record.chunk, record);
    }
    for (const { chunk, shards } of [...this.#done.values()]) {
      const whole = shards.every(({ name, bytes }) => sizes.get(name) === bytes);
      if (!whole) this.#done.delete(chunk);
    }
  }

  isDone(chunk: number): boolean {
    return this.#done.has(chunk);
  }

  /** Whether a chunk's record is there by now, whoever wrote it. */
  async wasDone(chunk: number): Promise<boolean> {
    if (this.#done.has(chunk)) return true;
    const record = await read<ChunkRecord>(this.store, `${RECORDS}${numbered(chunk)}.json`);
    if (record) this.#done.set(chunk, record);
    return record !== undefined;
  }

  /** The numbers of chunks that aren't done. */
  *missing(): Generator<number> {
    for (let chunk = 0; chunk < this.manifest.chunks; ++chunk) if (!this.#done.has(chunk)) yield chunk;
  }

  get counts(): { chunks: number; written: number; failed: number } {
    const counts = { chunks: this.#done.size, written: 0, failed: 0 };
    for (const { written, failed } of this.#done.values()) {
      counts.written += written;
      counts.failed += failed.length;
    }
    return counts;
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
    const { written, failed } = result;
    const record: ChunkRecord = { chunk: number, first, count, written, failed, shards };
    await this.store.put(`${RECORDS}${numbered(number)}.json`, encode(record));
    this.#done.set(number, record);
  }

  get #records(): ChunkRecord[] {
    return [...this.#done.values()].sort((a, b) => a.chunk - b.chunk);
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
    const done: Manifest = {
      ...this.manifest,
      state: 'done',
      ended: new Date().toISOString(),
      written,
      failed,
      shards,
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
