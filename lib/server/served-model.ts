import { stat } from 'node:fs/promises';
import type { AttentionStream } from '../capture/attention-stream';
import type { JsonCaptureOptions } from '../capture/json-capture-options';
import { unlessAborted } from '../core/cancellable';
import { TorchError } from '../core/errors';
import { elementCount } from '../core/shape';
import { handleOf } from '../core/tensor';
import { reasonOf } from '../core/validate';
import { readJsonValue } from '../formats/json';
import type { ExportedProgram } from '../model/exported-program';
import { loadModel } from '../model/load-model';
import type { ScriptModule } from '../model/script-module';

import { Batcher, type Inferred } from './batcher';
import { FileWatch } from './file-watch';
import { type InferRequest, parseInferRequest } from './infer-request';
import type { WireOutput } from './infer-response';
import { type Captured, LoadedModel } from './loaded-model';
import { type Evictable, type MemoryBudget, RoomInUse } from './memory-budget';
import type { TensorMetadata } from './model-form';
import type { CheckedModel } from './options';
import { RequestError } from './request-error';
import { RunQueue } from './run-queue';

/** What is said of models that requests don't see: Fastify's log. */
export interface ServerLog {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

/** Milliseconds until a model that couldn't be loaded on demand is tried again. */
const RETRY_INTERVAL = 5000;

/** One version of a model that is served: loads it, keeps it ready, and runs what is asked of it. */
export class ServedModel implements Evictable {
  readonly queue: RunQueue;
  #loaded: LoadedModel | undefined;
  /** What loading it failed with, and when. */
  #failure: { error: unknown; time: number } | undefined;
  /** A load on demand that is under way. */
  #loading: Promise<LoadedModel> | undefined;
  /** Requests that need it to stay where it is. */
  #users = 0;
  #lastUsed = 0;

  readonly #batcher: Batcher | undefined;
  #watch: FileWatch | undefined;
  readonly #withdraw: (() => void) | undefined;

  /** @param ending Aborts loads, when the server ends. */
  constructor(
    private readonly options: CheckedModel,
    private readonly log: ServerLog,
    private readonly budget: MemoryBudget,
    private readonly ending: AbortSignal,
  ) {
    const { name, version, concurrency, maxQueue, maxBatch, maxDelay, onDemand } = options;
    // A batch of requests takes one place in the queue.
    this.queue = new RunQueue(concurrency, maxQueue, (concurrency + maxQueue) * maxBatch);
    if (onDemand) this.#withdraw = budget.offer(this);
    if (maxBatch > 1) {
      this.#batcher = new Batcher(maxBatch, maxDelay, {
        run: (request, signal) => this.#run(request, signal),
        refused: (reason) =>
          log.warn({ model: name, version, reason }, 'Requests of this model are not batched any more'),
      });
    }
  }

  get name(): string {
    return this.options.name;
  }

  get version(): string {
    return this.options.version;
  }

  /** Whether it is loaded by the first request that needs it. */
  get onDemand(): boolean {
    return this.options.onDemand;
  }

  /** Whether requests are served; one that is loaded on demand is ready unless that fails. */
  get ready(): boolean {
    return this.#loaded !== undefined || (this.options.onDemand && this.#failure === undefined);
  }

  /** Why it isn't ready, or that it will be loaded. */
  get reason(): string {
    if (this.#failure !== undefined) return reasonOf(this.#failure.error);
    return this.#loaded === undefined && this.options.onDemand ? 'loaded on demand' : '';
  }

  /** What it takes of the budget; 0 where it isn't loaded. */
  get bytes(): number {
    return this.#loaded?.bytes ?? 0;
  }

  get idle(): boolean {
    return this.#loaded !== undefined && this.#users === 0 && this.queue.running + this.queue.waiting === 0;
  }

  get lastUsed(): number {
    return this.#lastUsed;
  }

  evict(): void {
    const { name, version } = this.options;
    this.#loaded?.retire();
    this.#loaded = undefined;
    this.log.info({ model: name, version }, 'The model made room for another, and is loaded again on demand');
  }

  /**
   * Begins to watch its file, loads the model and warms it up; it is ready then. One that is loaded on demand isn't loaded yet.
   *
   * @throws TorchError as `loadModel`; what a warm-up fails with.
   */
  async load(): Promise<void> {
    const { source, reloadInterval, onDemand } = this.options;
    try {
      // From before it is read: what changes meanwhile is another one.
      if (typeof source === 'string' && reloadInterval > 0) {
        this.#watch = await FileWatch.begin(source, reloadInterval, () => this.#reload());
      }
      if (onDemand) return;
      this.#loaded = await this.#make();
      this.#failure = undefined;
    } catch (error) {
      this.#failure = { error, time: Date.now() };
      throw error;
    }
  }

  /** Puts the file as it is now in the place of the model, once it is ready; requests go on with the one that there is. */
  async #reload(): Promise<void> {
    const { name, version, onDemand } = this.options;
    if (onDemand && !this.#loaded) {
      this.#failure = undefined; // what couldn't be loaded is worth another try
      return;
    }
    try {
      const loaded = await this.#make();
      if (this.ending.aborted) return loaded.retire();
      const before = this.#loaded;
      this.#loaded = loaded;
      this.#failure = undefined;
      before?.retire();
      this.log.info({ model: name, version }, 'The model was loaded again, since its file has changed');
    } catch (error) {
      if (!this.ending.aborted)
        this.log.error({ model: name, version, err: error }, 'The file of a model has changed and can not be loaded');
    }
  }

  async #make(): Promise<LoadedModel> {
    const { name, source, load } = this.options;
    const isPath = typeof source === 'string';
    // A file is about as large as its weights: one that is too large isn't even read.
    const share = this.budget.take(isPath ? ((await stat(source).catch(() => undefined))?.size ?? 0) : 0, name);
    try {
      const model = isPath ? await loadModel(source, { ...load, signal: this.ending }) : source;
      const free = (): void => {
        if (isPath) model.dispose();
        share.release();
      };
      try {
        share.resize(bytesOf(model));
      } catch (error) {
        free();
        throw error;
      }
      const loaded = new LoadedModel(model, load.device ?? deviceOf(model), share.bytes, free);
      try {
        await this.#warmUp(loaded);
      } catch (error) {
        loaded.retire();
        throw error;
      }
      return loaded;
    } catch (error) {
      share.release();
      throw error;
    }
  }

  async #warmUp(loaded: LoadedModel): Promise<void> {
    for (const given of this.options.warmUp) {
      const body = typeof given === 'string' ? await readWarmUp(given) : given;
      await loaded.warmUp(parseInferRequest(Buffer.from(JSON.stringify(body)), undefined), this.ending);
    }
  }

  /** Lends the model as it is now, loaded for this where it is on demand. */
  async #use<Result>(signal: AbortSignal | undefined, task: (loaded: LoadedModel) => Promise<Result>): Promise<Result> {
    ++this.#users;
    try {
      const current = this.#current();
      const loaded = current instanceof LoadedModel ? current : await unlessAborted(current, signal);
      return await (this.#loaded ?? loaded).use(task); // it may have been replaced while this waited
    } finally {
      --this.#users;
      this.#lastUsed = performance.now();
    }
  }

  /**
   * The model as it is now, or the load that is under way on demand.
   *
   * @throws RequestError `ERR_NOT_READY`.
   */
  #current(): LoadedModel | Promise<LoadedModel> {
    if (this.#loaded) return this.#loaded;
    const failed = this.#failure;
    const isTried = failed !== undefined && Date.now() - failed.time < RETRY_INTERVAL;
    if (!this.options.onDemand || isTried) {
      throw this.#notReady(failed === undefined ? 'one that is being loaded' : 'one that could not be loaded');
    }
    this.#loading ??= this.#loadOnDemand().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #loadOnDemand(): Promise<LoadedModel> {
    const { name, version } = this.options;
    try {
      const loaded = await this.#make();
      this.#loaded = loaded;
      this.#failure = undefined;
      this.log.info({ model: name, version, bytes: loaded.bytes }, 'The model was loaded on demand');
      return loaded;
    } catch (error) {
      if (error instanceof RoomInUse) throw this.#notReady('one that there is no room for while others are in use');
      this.#failure = { error, time: Date.now() };
      // Where its file is, and the like, is none of a client's business.
      if (!this.ending.aborted) this.log.error({ model: name, version, err: error }, 'A model could not be loaded');
      throw this.#notReady('one that could not be loaded');
    }
  }

  #notReady(received: string): RequestError {
    const { name, version } = this.options;
    return new RequestError(
      'ERR_NOT_READY',
      `Expected a model that is ready but received '${name}' (${version}), ${received}`,
      1,
    );
  }

  /** The metadata of the model's inputs and outputs. */
  async describe(): Promise<{ inputs: TensorMetadata[]; outputs: TensorMetadata[] }> {
    return await this.#use(undefined, async (loaded) => loaded.describe());
  }

  /** Runs the model when its turn has come, alone or in a batch. */
  async infer(request: InferRequest, signal: AbortSignal): Promise<Inferred> {
    const batcher = this.#batcher;
    const inferred = batcher && (await this.#use(signal, ({ form }) => batcher.infer(request, form, signal)));
    return inferred ?? { outputs: await this.#run(request, signal) };
  }

  async #run(request: InferRequest, signal: AbortSignal): Promise<WireOutput[]> {
    this.#check();
    // The model that is current when the run begins: it may have been replaced while the request waited.
    return await this.queue.run(() => this.#use(signal, (loaded) => loaded.infer(request, signal)), signal);
  }

  /** The same with its attentions, each to be used as soon as it exists. */
  async capture(
    request: InferRequest,
    capture: JsonCaptureOptions,
    signal: AbortSignal,
    use: (attentions: AttentionStream) => Promise<void>,
  ): Promise<Captured> {
    this.#check();
    const run = (loaded: LoadedModel): Promise<Captured> => loaded.capture(request, capture, signal, use);
    return await this.queue.run(() => this.#use(signal, run), signal);
  }

  /** Refuses at once what would wait for a model that isn't there. */
  #check(): void {
    if (!this.options.onDemand) this.#current();
  }

  dispose(): void {
    this.#watch?.end();
    this.#withdraw?.();
    this.#loaded?.retire();
    this.#loaded = undefined;
  }
}

/** What the parameters and buffers of a model take. */
function bytesOf(model: ScriptModule | ExportedProgram): number {
  let bytes = 0;
  for (const tensor of Object.values(model.stateDict())) {
    bytes += elementCount(tensor.shape) * handleOf(tensor, 'a tensor').itemSize();
    tensor.dispose();
  }
  return bytes;
}

function deviceOf(model: ScriptModule | ExportedProgram): string {
  const parameters = model.namedParameters();
  const device = parameters[0]?.tensor.device ?? 'cpu';
  for (const { tensor } of parameters) tensor.dispose();
  return device;
}

async function readWarmUp(path: string): Promise<unknown> {
  try {
    return await readJsonValue(path);
  } catch (error) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected the body of a request in ${path}, as JSON, but it can't be read: ${reasonOf(error)}`,
      { cause: error },
    );
  }
}
