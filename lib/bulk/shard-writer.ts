import type { descriptionOf } from '../capture/attention';
import { type CodeScale, decodedCodes } from '../capture/weight-codes';
import { infoOf } from '../core/dtype';
import type { Unseen } from '../core/unseen';
import type { Entry } from '../formats/entry';
import { encodeSafetensors } from '../formats/safetensors';
import { writeNew } from './folder-store';
import type { ChunkResult, Job } from './job';
import { encodeTensorRows, type TensorRow } from './parquet';
import { storeError } from './result-store';

/** What came of an input. */
export interface InputResult {
  index: number;
  /** Its name. */
  input: string;
  /** Tensors by their names in it: `output`, `attentions.0`, `attentions.0.keys`. */
  entries: Entry[];
  /** What is known of it beside its tensors. */
  description: {
    input: string;
    /** Of a text, and the decoder's: their tokens, without padding. */
    length?: number;
    decoderLength?: number;
    /** How many rows were computed together with it, its own among them; undefined where it was alone. */
    batch?: number;
    /** By their index. */
    attentions?: Record<string, ReturnType<typeof descriptionOf>>;
    unseen?: Unseen[];
    /** What of the output isn't a tensor, as JSON. */
    outputs?: Record<string, string>;
  };
}

/** Collects results of a chunk, and writes them to files of the scratch folder, each a shard. */
export class ShardWriter {
  readonly #shards: ChunkResult['shards'] = [];
  #pending: InputResult[] = [];
  #bytes = 0;

  constructor(
    private readonly job: Pick<Job, 'format' | 'shardBytes'>,
    /** The beginning of the paths of its files. */
    private readonly scratch: string,
  ) {}

  async add(result: InputResult): Promise<void> {
    this.#pending.push(result);
    this.#bytes += result.entries.reduce((sum, { data }) => sum + data.byteLength, 0);
    if (this.#bytes >= this.job.shardBytes) await this.#flush();
  }

  async finish(): Promise<ChunkResult['shards']> {
    if (this.#pending.length > 0) await this.#flush();
    return this.#shards;
  }

  async #flush(): Promise<void> {
    const path = `${this.scratch}-${this.#shards.length}.part`;
    this.#pending.sort((a, b) => a.index - b.index); // batches end in another order
    const parts = this.job.format === 'parquet' ? await parquetParts(this.#pending) : safetensorsParts(this.#pending);
    try {
      // It reaches the disk when the store takes it, while the next chunk runs.
      const bytes = await writeNew(path, parts, false);
      this.#shards.push({ path, bytes, inputs: this.#pending.length });
    } catch (error) {
      throw storeError(path, 'writing results', error);
    }
    this.#pending = [];
    this.#bytes = 0;
  }
}

function safetensorsParts(results: readonly InputResult[]): Uint8Array[] {
  const entries = results.flatMap(({ index, entries }) =>
    entries.map((entry) => ({ ...entry, name: `${index}.${entry.name}` })),
  );
  const metadata = Object.fromEntries(results.map(({ index, description }) => [index, JSON.stringify(description)]));
  return encodeSafetensors('a shard', entries, metadata);
}

async function parquetParts(results: readonly InputResult[]): Promise<Uint8Array[]> {
  const rows = results.flatMap(({ index, input, entries, description }) =>
    entries.map((entry): TensorRow => {
      const [, attention = ''] = /^attentions\.(\d+)/.exec(entry.name) ?? [];
      const { name: module = null, operator = null, scale } = description.attentions?.[attention] ?? {};
      const { name: tensor, dtype, shape } = entry;
      return { index, input, tensor, module, operator, dtype, shape, values: numbersOf(entry, scale) };
    }),
  );
  const metadata = Object.fromEntries(results.map(({ index, description }) => [index, JSON.stringify(description)]));
  return [await encodeTensorRows(rows, metadata)];
}

/** The elements as numbers, whatever their type; codes of weights as what they stand for. */
function numbersOf({ dtype, data }: Entry, scale: CodeScale | undefined): number[] {
  if (scale && data instanceof Uint8Array) return Array.from(decodedCodes(data, scale));
  const { value } = infoOf(dtype);
  return Array.from(data as ArrayLike<number | bigint>, value ? (bits) => value(Number(bits)) : Number);
}
