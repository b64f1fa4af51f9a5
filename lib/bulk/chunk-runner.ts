import { descriptionOf, namedTensorsOf, tensorsOf } from '../capture/attention';
import { captureMany } from '../capture/capture-many';
import { toNativeCapture } from '../capture/capture-options';
import { TorchError } from '../core/errors';
import { reasonOf } from '../core/validate';
import type { Entry } from '../formats/entry';
import {
  type Attention,
  loadModel,
  releaseMemory,
  setConcurrency,
  setNumThreads,
  Tensor,
  type Unseen,
  type Value,
} from '../index';
import { collectOutput } from '../io/collect-output';
import { toEntry, toValue } from '../io/entry-values';
import { type FlatModel, flatModel } from '../io/flat-model';
import { TextTokenizer } from '../text/tokenizer';
import { type BulkInput, inputsOf } from './input-reader';
import { type ChunkResult, type ChunkTask, captureOptionsOf, type FailedInput, type Job } from './job';
import { ShardWriter } from './shard-writer';

/** What is told while a chunk runs. */
export interface ChunkEvents {
  /** An input begins, in a careful run. */
  begin(index: number, input: string): Promise<void>;
  /** Some more inputs are done. */
  progress(inputs: number, failed: number): void;
}

/** How often progress is told, in milliseconds. */
const PROGRESS_INTERVAL = 200;

/** Runs chunks of a job: a model, and what its inputs are made with. */
export class ChunkRunner {
  private constructor(
    private readonly job: Job,
    private readonly model: FlatModel,
    private readonly tokenizer: TextTokenizer | undefined,
  ) {}

  /** @throws TorchError where the model can't be loaded, or the job doesn't fit it. */
  static async load(job: Job, threads: number): Promise<ChunkRunner> {
    setNumThreads(threads);
    setConcurrency(1); // one run at a time: what is done beside it is JavaScript's
    const model = flatModel(await loadModel(job.model.path, job.load));
    const names = () => ['', ...model.modules().map(({ name }) => name)];
    if (job.capture) toNativeCapture(captureOptionsOf(job), names);
    const { source } = job;
    const tokenizer = source.kind === 'files' ? undefined : await TextTokenizer.load(source.tokenizer);
    if (source.kind !== 'files' && source.buckets && tokenizer?.paddingId === undefined) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a tokenizer with a token for padding, for buckets, but received ${source.tokenizer}`,
      );
    }
    return new ChunkRunner(job, model, tokenizer);
  }

  async run({ chunk, scratch, careful, excluded }: ChunkTask, events: ChunkEvents): Promise<ChunkResult> {
    const out = new Set(excluded.map(({ index }) => index));
    const inputs = (await inputsOf(this.job, chunk, this.model, this.tokenizer)).filter(({ index }) => !out.has(index));
    const lengths = new Map<number, number>();
    const writer = new ShardWriter(this.job, scratch);
    const failed: FailedInput[] = [...excluded];
    const progress = new Progress(events, excluded.length);
    const capture = async (input: BulkInput) => {
      if (careful) await events.begin(input.index, input.name);
      const { entries, length } = await input.read();
      if (length !== undefined) lengths.set(input.index, length);
      return await this.#run(entries);
    };
    for await (const result of captureMany(capture, inputs, { ahead: careful ? 0 : 1 })) {
      const { index, name: input } = inputs[result.index] as BulkInput;
      if ('error' in result) {
        failed.push({ index, input, ...described(result.error) });
      } else {
        const length = lengths.get(index);
        const { entries, metadata } = collected(result as Ran, this.job.output);
        const description = { input, ...(length !== undefined && { length }), ...metadata };
        await writer.add({ index, input, entries, description });
        dispose(result as Ran);
      }
      lengths.delete(index);
      progress.add('error' in result);
    }
    const shards = await writer.finish();
    progress.tell();
    releaseMemory();
    failed.sort((a, b) => a.index - b.index);
    return { written: inputs.length + excluded.length - failed.length, failed, shards };
  }

  async #run(entries: (Entry | null)[]): Promise<Ran> {
    const { device } = this.job.load;
    const values = entries.map((entry, i) => toValue(entry, this.model.parameters[i], device as string | undefined));
    try {
      if (this.job.capture) return await this.model.captureAttention(values, captureOptionsOf(this.job));
      return { output: await this.model.forward(values, this.job.limits), attentions: [], unseen: [] };
    } finally {
      for (const value of values) if (value instanceof Tensor) value.dispose();
    }
  }
}

/** What a run gave. */
interface Ran {
  output: Value;
  attentions: Attention[];
  unseen: Unseen[];
}

function collected({ output, attentions, unseen }: Ran, keepOutput: boolean) {
  const entries: Entry[] = [];
  const outputs: Record<string, string> = {};
  if (keepOutput) collectOutput('output', output, entries, outputs);
  for (const attention of attentions) {
    for (const [suffix, tensor] of namedTensorsOf(attention)) {
      entries.push(toEntry(`attentions.${attention.index}${suffix}`, tensor));
    }
  }
  const described = attentions.map((attention) => [attention.index, descriptionOf(attention)]);
  const metadata = {
    ...(attentions.length > 0 && { attentions: Object.fromEntries(described) }),
    ...(unseen.length > 0 && { unseen }),
    ...(Object.keys(outputs).length > 0 && { outputs }),
  };
  return { entries, metadata };
}

/** Gives back what a run gave, of which copies are kept. */
function dispose({ output, attentions }: Ran): void {
  for (const attention of attentions) for (const tensor of tensorsOf(attention)) tensor.dispose();
  disposeValue(output);
}

function disposeValue(value: Value): void {
  if (value instanceof Tensor) value.dispose();
  else if (value instanceof Map) for (const item of value.values()) disposeValue(item as Value);
  else if (typeof value === 'object' && value !== null) for (const item of Object.values(value)) disposeValue(item);
}

function described(error: unknown): Pick<FailedInput, 'code' | 'message'> {
  const { code } = (error ?? {}) as { code?: unknown };
  return { code: typeof code === 'string' ? code : 'ERR_MODEL_RUN', message: reasonOf(error) };
}

class Progress {
  #inputs: number;
  #failed: number;
  #told = Date.now();

  constructor(
    private readonly events: ChunkEvents,
    failed: number,
  ) {
    this.#inputs = failed;
    this.#failed = failed;
  }

  add(failed: boolean): void {
    ++this.#inputs;
    if (failed) ++this.#failed;
    if (Date.now() - this.#told >= PROGRESS_INTERVAL) this.tell();
  }

  tell(): void {
    if (this.#inputs > 0) this.events.progress(this.#inputs, this.#failed);
    this.#inputs = this.#failed = 0;
    this.#told = Date.now();
  }
}
