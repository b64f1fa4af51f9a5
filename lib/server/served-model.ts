import type { AttentionStream } from '../capture/attention-stream';
import type { CapturingModel } from '../capture/capturing-model';
import { TorchError } from '../core/errors';
import { Tensor } from '../core/tensor';
import type { Unseen } from '../core/unseen';
import { reasonOf } from '../core/validate';
import type { Value } from '../core/value';
import { readJsonValue } from '../formats/json';
import type { ExportedProgram } from '../model/exported-program';
import { loadModel } from '../model/load-model';
import type { ScriptModule } from '../model/script-module';
import type { RequestedCapture } from './attention-request';
import { type InferRequest, parseInferRequest } from './infer-request';
import { type WireOutput, wantedOutputs } from './infer-response';
import { type ModelCall, type ModelForm, modelForm, type TensorMetadata } from './model-form';
import type { CheckedModel } from './options';
import { RequestError } from './request-error';
import { RunQueue } from './run-queue';
import { datatypeOf } from './wire-tensor';

/** Runs that a TorchScript program takes until it is as fast as it gets. */
const WARM_UP_RUNS = 3;

/** What a capture gave beside its attentions. */
export interface Captured {
  outputs: WireOutput[];
  unseen: Unseen[];
}

/** A model in memory, which is freed when it is retired and nobody uses it any more. */
class LoadedModel {
  readonly form: ModelForm;
  #users = 0;
  #retired = false;

  constructor(
    readonly model: ScriptModule | ExportedProgram,
    readonly device: string,
    private readonly owned: boolean,
  ) {
    this.form = modelForm(model);
  }

  async use<Result>(task: (loaded: LoadedModel) => Promise<Result>): Promise<Result> {
    ++this.#users;
    try {
      return await task(this);
    } finally {
      --this.#users;
      this.#free();
    }
  }

  retire(): void {
    this.#retired = true;
    this.#free();
  }

  #free(): void {
    if (this.#retired && this.#users === 0 && this.owned) this.model.dispose();
  }

  /** Calls the model as a request asks, and gives its inputs back. */
  async #call<Result>(request: InferRequest, run: (call: ModelCall) => Promise<Result>): Promise<Result> {
    const call = this.form.call(request.inputs, this.device);
    try {
      return await run(call);
    } finally {
      dispose(call.inputs);
      dispose(Object.values(call.options.kwargs ?? {}));
    }
  }

  /** The outputs that a request wants of those that the model gave, which are given back. */
  async #outputs(request: InferRequest, output: Value): Promise<WireOutput[]> {
    const named = this.form.named(output);
    try {
      return await wantedOutputs(request, named);
    } finally {
      dispose(named.map(({ value }) => value));
    }
  }

  /** Runs the model as it is asked, with what ends the run early. */
  async infer(request: InferRequest, signal?: AbortSignal): Promise<WireOutput[]> {
    const output = await this.#call(
      request,
      async ({ inputs, options }) => await this.model.forward(inputs, { ...options, ...(signal && { signal }) }),
    );
    return await this.#outputs(request, output);
  }

  /** The same with its attentions, one at a time: the model waits until `use` is done with one. */
  async capture(
    request: InferRequest,
    capture: RequestedCapture,
    signal: AbortSignal,
    use: (attentions: AttentionStream) => Promise<void>,
  ): Promise<Captured> {
    const stream = await this.#call(request, async ({ inputs, options }) => {
      const model: CapturingModel = this.model;
      const stream = model.captureAttentionStream(inputs, { ...options, ...capture, signal }) as AttentionStream;
      await use(stream);
      await stream.output;
      return stream;
    });
    return { outputs: await this.#outputs(request, await stream.output), unseen: await stream.unseen };
  }
}

/** Gives back the memory of tensors at once: a server's garbage is mostly outside of JavaScript's heap. */
function dispose(values: readonly Value[]): void {
  for (const value of values) {
    if (Tensor.is(value)) value.dispose();
    else if (Array.isArray(value)) dispose(value);
    else if (value instanceof Map) dispose([...value.values()]);
    else if (value !== null && typeof value === 'object') dispose(Object.values(value) as Value[]);
  }
}

/** The metadata of a tensor that its model says nothing of, with what is known of one that it took or gave. */
function withKnown(metadata: TensorMetadata, known: ReadonlyMap<string, TensorMetadata>): TensorMetadata {
  const found = known.get(metadata.name);
  return metadata.datatype === 'ANY' && found
    ? { ...metadata, datatype: found.datatype, shape: found.shape }
    : metadata;
}

/** One version of a model that is served: loads it, keeps it ready, and runs what is asked of it. */
export class ServedModel {
  readonly queue: RunQueue;
  #loaded: LoadedModel | undefined;
  #failure: unknown;
  readonly #known = { inputs: new Map<string, TensorMetadata>(), outputs: new Map<string, TensorMetadata>() };

  constructor(private readonly options: CheckedModel) {
    this.queue = new RunQueue(options.concurrency, options.maxQueue);
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
    try {
      this.#loaded = await this.#make(signal);
      this.#failure = undefined;
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  async #make(signal: AbortSignal): Promise<LoadedModel> {
    const { source, load } = this.options;
    const isPath = typeof source === 'string';
    const model = isPath ? await loadModel(source, { ...load, signal }) : source;
    const loaded = new LoadedModel(model, load.device ?? deviceOf(model), isPath);
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
      const request = parseInferRequest(Buffer.from(JSON.stringify(body)), undefined);
      let outputs: WireOutput[] = [];
      for (let run = 0; run < WARM_UP_RUNS; ++run) outputs = await loaded.infer(request, signal);
      const described = ({ dtype, shape }: WireOutput['tensor'], name: string) => ({
        name,
        datatype: datatypeOf(dtype),
        shape: shape.map(() => -1),
      });
      for (const [name, tensor] of request.inputs) this.#known.inputs.set(name, described(tensor, name));
      for (const { name, tensor } of outputs) this.#known.outputs.set(name, described(tensor, name));
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
    const { form } = this.#current();
    return {
      inputs: form.inputs.map((each) => withKnown(each, this.#known.inputs)),
      outputs: form.outputs.map((each) => withKnown(each, this.#known.outputs)),
    };
  }

  /** Runs the model when its turn has come. */
  async infer(request: InferRequest, signal: AbortSignal): Promise<WireOutput[]> {
    this.#current();
    // The model that is current when the run begins: it may have been replaced while the request waited.
    return await this.queue.run(() => this.#current().use((loaded) => loaded.infer(request, signal)), signal);
  }

  /** The same with its attentions, each to be used as soon as it exists. */
  async capture(
    request: InferRequest,
    capture: RequestedCapture,
    signal: AbortSignal,
    use: (attentions: AttentionStream) => Promise<void>,
  ): Promise<Captured> {
    this.#current();
    const run = (loaded: LoadedModel): Promise<Captured> => loaded.capture(request, capture, signal, use);
    return await this.queue.run(() => this.#current().use(run), signal);
  }

  dispose(): void {
    this.#loaded?.retire();
    this.#loaded = undefined;
  }
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
