import { TorchError } from '../core/errors';
import { Tensor } from '../core/tensor';
import { reasonOf } from '../core/validate';
import type { Value } from '../core/value';
import { readJsonValue } from '../formats/json';
import type { ExportedProgram } from '../model/exported-program';
import { loadModel } from '../model/load-model';
import type { ScriptModule } from '../model/script-module';
import { type InferRequest, parseInferRequest } from './infer-request';
import { type WireOutput, wantedOutputs } from './infer-response';
import { type ModelForm, modelForm, type TensorMetadata } from './model-form';
import type { CheckedModel } from './options';
import { RequestError } from './request-error';
import { RunQueue } from './run-queue';
import { datatypeOf } from './wire-tensor';

/** Runs that a TorchScript program takes until it is as fast as it gets. */
const WARM_UP_RUNS = 3;

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

  /** Runs the model as it is asked, with what ends the run early. */
  async infer(request: InferRequest, signal?: AbortSignal): Promise<WireOutput[]> {
    const { inputs, options } = this.form.call(request.inputs, this.device);
    let output: Value;
    try {
      output = await this.model.forward(inputs, { ...options, ...(signal && { signal }) });
    } finally {
      dispose(inputs);
      dispose(Object.values(options.kwargs ?? {}));
    }
    const named = this.form.named(output);
    try {
      return await wantedOutputs(request, named);
    } finally {
      dispose(named.map(({ value }) => value));
    }
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
