import type { AttentionStream } from '../capture/attention-stream';
import type { CapturingModel } from '../capture/capturing-model';
import type { JsonCaptureOptions } from '../capture/json-capture-options';
import { Tensor } from '../core/tensor';
import type { Unseen } from '../core/unseen';
import type { Value } from '../core/value';
import type { ExportedProgram } from '../model/exported-program';
import type { ScriptModule } from '../model/script-module';

import type { InferRequest } from './infer-request';
import { type WireOutput, wantedOutputs } from './infer-response';
import { type ModelCall, type ModelForm, modelForm, type TensorMetadata } from './model-form';
import { datatypeOf, type WireTensor } from './wire-tensor';

/** Runs that a TorchScript program takes until it is as fast as it gets. */
const WARM_UP_RUNS = 3;

/** What a capture gave beside its attentions. */
export interface Captured {
  outputs: WireOutput[];
  unseen: Unseen[];
}

/** A model in memory, which is freed when it is retired and nobody uses it any more. */
export class LoadedModel {
  readonly form: ModelForm;
  /** What warm-ups told of tensors that a TorchScript file says nothing of. */
  readonly #known = { inputs: new Map<string, TensorMetadata>(), outputs: new Map<string, TensorMetadata>() };
  #users = 0;
  #retired = false;
  #freed = false;

  /** @param free Called once, when it is retired and nobody uses it any more. */
  constructor(
    readonly model: ScriptModule | ExportedProgram,
    readonly device: string,
    /** What its parameters and buffers take. */
    readonly bytes: number,
    private readonly free: () => void,
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
    if (!this.#retired || this.#users > 0 || this.#freed) return;
    this.#freed = true;
    this.free();
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

  /** Runs a request until the model is as fast as it gets, and notes what its tensors are. */
  async warmUp(request: InferRequest, signal: AbortSignal): Promise<void> {
    let outputs: WireOutput[] = [];
    for (let run = 0; run < WARM_UP_RUNS; ++run) outputs = await this.infer(request, signal);
    for (const [name, tensor] of request.inputs) this.#known.inputs.set(name, described(name, tensor));
    for (const { name, tensor } of outputs) this.#known.outputs.set(name, described(name, tensor));
  }

  /** The metadata of the model's inputs and outputs. */
  describe(): { inputs: TensorMetadata[]; outputs: TensorMetadata[] } {
    return {
      inputs: this.form.inputs.map((each) => withKnown(each, this.#known.inputs)),
      outputs: this.form.outputs.map((each) => withKnown(each, this.#known.outputs)),
    };
  }

  /** The same with its attentions, one at a time: the model waits until `use` is done with one. */
  async capture(
    request: InferRequest,
    capture: JsonCaptureOptions,
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

function described(name: string, { dtype, shape }: WireTensor): TensorMetadata {
  return { name, datatype: datatypeOf(dtype), shape: shape.map(() => -1) };
}
