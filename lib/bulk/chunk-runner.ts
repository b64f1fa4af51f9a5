import { descriptionOf, namedTensorsOf, tensorsOf } from '../capture/attention';
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
import { type Batch, Batches, BatchJudge, joined, type RunResult, separated } from './batch';
import { type BulkInput, inputsOf, type ReadInput } from './input-reader';
import { type ChunkResult, type ChunkTask, captureOptionsOf, type FailedInput, type Job } from './job';
import { type InputResult, ShardWriter } from './shard-writer';

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
  readonly #judge = new BatchJudge();

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
    const writer = new ShardWriter(this.job, scratch);
    const failed: FailedInput[] = [...excluded];
    const progress = new Progress(events, excluded.length);
    const size = careful ? 1 : this.job.batchSize;
    const begin = careful ? events.begin : async () => {};
    const batches = this.#read(inputs, size, begin);
    for await (const outcomes of inOrder(batches, (batch) => this.#runBatch(batch), careful ? 0 : 1)) {
      for (const outcome of outcomes) {
        if ('code' in outcome) failed.push(outcome);
        else await writer.add(outcome);
        progress.add('code' in outcome);
      }
    }
    const shards = await writer.finish();
    progress.tell();
    releaseMemory();
    failed.sort((a, b) => a.index - b.index);
    const batched = this.job.batchSize > 1 && { batches: this.#judge.take() };
    return { written: inputs.length + excluded.length - failed.length, failed, shards, ...batched };
  }

  /** Reads inputs, and puts those together that are run together. */
  async *#read(
    inputs: readonly BulkInput[],
    size: number,
    begin: ChunkEvents['begin'],
  ): AsyncGenerator<Batch | FailedInput, void, undefined> {
    const batches = new Batches(size, this.model.parameters);
    for (const input of inputs) {
      const { index, name } = input;
      await begin(index, name);
      let batch: Batch | undefined;
      try {
        batch = batches.add({ index, name, ...(await input.read()) });
      } catch (error) {
        yield failure(input, error);
      }
      if (batch) yield batch;
    }
    yield* batches.rest();
  }

  async #runBatch(batch: Batch | FailedInput): Promise<(InputResult | FailedInput)[]> {
    if ('code' in batch) return [batch];
    const { members } = batch;
    let refused: unknown;
    if (await this.#judge.allows(batch)) {
      try {
        const results = await this.#runTogether(batch);
        return results.map((result, i) => finished(members[i] as ReadInput, result));
      } catch (error) {
        refused = error;
      }
    }
    const outcomes: (InputResult | FailedInput)[] = [];
    for (const input of members) {
      try {
        outcomes.push(finished(input, await this.#run(input.entries)));
      } catch (error) {
        outcomes.push(failure(input, error));
      }
    }
    // A bad input ends its batch; where there is none, it is the batch that the model can't take.
    if (refused !== undefined && !outcomes.some((outcome) => 'code' in outcome)) this.#judge.refuse(batch, refused);
    return outcomes;
  }

  /** @throws NotSeparable where results aren't those of single runs; what the run of all fails with. */
  async #runTogether(batch: Batch): Promise<RunResult[]> {
    const { members } = batch;
    return await this.#judge.judge(batch, async (samples) => {
      const together = separated(await this.#run(joined(batch, this.model.parameters)), batch);
      const single: RunResult[] = [];
      for (const sample of samples) single.push(await this.#run((members[sample] as ReadInput).entries));
      return { together, single };
    });
  }

  async #run(entries: (Entry | null)[]): Promise<RunResult> {
    const { device } = this.job.load;
    const values = entries.map((entry, i) => toValue(entry, this.model.parameters[i], device as string | undefined));
    try {
      const { capture, limits, output } = this.job;
      if (capture) return collected(await this.model.captureAttention(values, captureOptionsOf(this.job)), output);
      return collected({ output: await this.model.forward(values, limits), attentions: [], unseen: [] }, output);
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

function finished(
  { index, name: input, length, decoderLength }: ReadInput,
  { entries, description }: RunResult,
): InputResult {
  const lengths = { ...(length !== undefined && { length }), ...(decoderLength !== undefined && { decoderLength }) };
  return { index, input, entries, description: { input, ...lengths, ...description } };
}

function failure({ index, name: input }: { index: number; name: string }, error: unknown): FailedInput {
  const { code } = (error ?? {}) as { code?: unknown };
  return { index, input, code: typeof code === 'string' ? code : 'ERR_MODEL_RUN', message: reasonOf(error) };
}

/** Does a task for each item, for so many of them ahead of the one whose result is looked at. */
async function* inOrder<Item, Result>(
  items: AsyncGenerator<Item, void, undefined>,
  task: (item: Item) => Promise<Result>,
  ahead: number,
): AsyncGenerator<Result, void, undefined> {
  const next = async (): Promise<{ result: Result } | undefined> => {
    const { done, value } = await items.next();
    return done ? undefined : { result: await task(value) };
  };
  const pending: ReturnType<typeof next>[] = [];
  const begin = (): void => {
    const begun = next();
    begun.catch(() => {}); // thrown when its turn comes
    pending.push(begun);
  };
  for (;;) {
    while (pending.length <= ahead) begin();
    const each = await pending.shift();
    if (!each) return;
    yield each.result;
  }
}

/** The tensors of a run as entries, and what is known of them; the run's own are given back. */
function collected(ran: Ran, keepOutput: boolean): RunResult {
  const { output, attentions, unseen } = ran;
  const entries: Entry[] = [];
  const outputs: Record<string, string> = {};
  try {
    if (keepOutput) collectOutput('output', output, entries, outputs);
    for (const attention of attentions) {
      for (const [suffix, tensor] of namedTensorsOf(attention)) {
        entries.push(toEntry(`attentions.${attention.index}${suffix}`, tensor));
      }
    }
  } finally {
    dispose(ran);
  }
  const described = attentions.map((attention) => [attention.index, descriptionOf(attention)]);
  const description = {
    ...(attentions.length > 0 && { attentions: Object.fromEntries(described) }),
    ...(unseen.length > 0 && { unseen }),
    ...(Object.keys(outputs).length > 0 && { outputs }),
  };
  return { entries, description };
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
