import { stat } from 'node:fs/promises';
import type { AttentionStream } from '../capture/attention-stream';
import type { JsonCaptureOptions } from '../capture/json-capture-options';
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
import type { MemoryBudget } from './memory-budget';
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

/** One version of a model that is served: loads it, keeps it ready, and runs what is asked of it. */
export class ServedModel {
  readonly queue: RunQueue;
  #loaded: LoadedModel | undefined;
  #failure: unknown;

  readonly #batcher: Batcher | undefined;
  #watch: FileWatch | undefined;

  constructor(
    private readonly options: CheckedModel,
    private readonly log: ServerLog,
    private readonly budget: MemoryBudget,
  ) {
    const { name, version, concurrency, maxQueue, maxBatch, maxDelay } = options;
    // A batch of requests takes one place in the queue.
    this.queue = new RunQueue(concurrency, maxQueue, (concurrency + maxQueue) * maxBatch);
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

  get ready(): boolean {
    return this.#loaded !== undefined;
  }

  /** Why it isn't ready: what loading it failed with. */
  get failure(): string | undefined {
    return this.#failure === undefined ? undefined : reasonOf(this.#failure);
  }

  /**
   * Loads the model and warms it up; it is ready then.
   *
   * @throws TorchError as `loadModel`; what a warm-up fails with.
   */
  async load(signal: AbortSignal): Promise<void> {
    const { source, reloadInterval } = this.options;
    try {
      // From before it is read: what changes meanwhile is another one.
      if (typeof source === 'string' && reloadInterval > 0) {
        this.#watch = await FileWatch.begin(source, reloadInterval, () => this.#reload(signal));
      }
      this.#loaded = await this.#make(signal);
      this.#failure = undefined;
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /** Puts the file as it is now in the place of the model, once it is ready; requests go on with the one that there is. */
  async #reload(signal: AbortSignal): Promise<void> {
    const { name, version } = this.options;
    try {
      const loaded = await this.#make(signal);
      if (signal.aborted) return loaded.retire();
      const before = this.#loaded;
      this.#loaded = loaded;
      this.#failure = undefined;
      before?.retire();
      this.log.info({ model: name, version }, 'The model was loaded again, since its file has changed');
    } catch (error) {
      if (!signal.aborted)
        this.log.error({ model: name, version, err: error }, 'The file of a model has changed and can not be loaded');
    }
  }

  async #make(signal: AbortSignal): Promise<LoadedModel> {
    const { name, source, load } = this.options;
    const isPath = typeof source === 'string';
    // A file is about as large as its weights: one that is too large isn't even read.
    if (isPath) this.budget.check((await stat(source).catch(() => undefined))?.size ?? 0, name);
    const model = isPath ? await loadModel(source, { ...load, signal }) : source;
    const free = (): void => {
      if (isPath) model.dispose();
    };
    let release: () => void;
    try {
      release = this.budget.take(bytesOf(model), name);
    } catch (error) {
      free();
      throw error;
    }
    const loaded = new LoadedModel(model, load.device ?? deviceOf(model), () => {
      free();
      release();
    });
    try {
      await this.#warmUp(loaded, signal);
    } catch (error) {
      loaded.retire();
      throw error;
    }
    return loaded;
  }

  async #warmUp(loaded: LoadedModel, signal: AbortSignal): Promise<void> {
    for (const given of this.options.warmUp) {
      const body = typeof given === 'string' ? await readWarmUp(given) : given;
      await loaded.warmUp(parseInferRequest(Buffer.from(JSON.stringify(body)), undefined), signal);
    }
  }

  #current(): LoadedModel {
    if (this.#loaded) return this.#loaded;
    const { name, version } = this.options;
    const reason = this.#failure === undefined ? 'one that is being loaded' : 'one that could not be loaded';
    throw new RequestError(
      'ERR_NOT_READY',
      `Expected a model that is ready but received '${name}' (${version}), ${reason}`,
      1,
    );
  }

  /** The metadata of the model's inputs and outputs. */
  describe(): { inputs: TensorMetadata[]; outputs: TensorMetadata[] } {
    return this.#current().describe();
  }

  /** Runs the model when its turn has come, alone or in a batch. */
  async infer(request: InferRequest, signal: AbortSignal): Promise<Inferred> {
    return (
      (await this.#batcher?.infer(request, this.#current().form, signal)) ?? {
        outputs: await this.#run(request, signal),
      }
    );
  }

  async #run(request: InferRequest, signal: AbortSignal): Promise<WireOutput[]> {
    this.#current();
    // The model that is current when the run begins: it may have been replaced while the request waited.
    return await this.queue.run(() => this.#current().use((loaded) => loaded.infer(request, signal)), signal);
  }

  /** The same with its attentions, each to be used as soon as it exists. */
  async capture(
    request: InferRequest,
    capture: JsonCaptureOptions,
    signal: AbortSignal,
    use: (attentions: AttentionStream) => Promise<void>,
  ): Promise<Captured> {
    this.#current();
    const run = (loaded: LoadedModel): Promise<Captured> => loaded.capture(request, capture, signal, use);
    return await this.queue.run(() => this.#current().use(run), signal);
  }

  dispose(): void {
    this.#watch?.end();
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
