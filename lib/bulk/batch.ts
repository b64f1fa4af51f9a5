import { reasonOf } from '../core/validate';
import type { Entry, EntryData } from '../formats/entry';
import { scalarType } from '../io/entry-values';
import type { Parameter } from '../io/parameters';
import { isRounding, relativeDifference } from '../io/rounding';
import type { BatchRecord } from './batch-record';
import type { ReadInput } from './input-reader';
import type { InputResult } from './shard-writer';

/** Inputs that are run together, and how many rows they have in all. */
export interface Batch {
  /** What they have in common. */
  kind: string;
  members: readonly ReadInput[];
  /** Rows of each of them. */
  rows: readonly number[];
}

/** What inputs have in common that can be run together, and how many rows one has; undefined for one that is run alone. */
function kindOf({ entries }: ReadInput, parameters: readonly Parameter[]): { key: string; rows: number } | undefined {
  let rows: number | undefined;
  const parts: unknown[] = [];
  for (const [i, entry] of entries.entries()) {
    if (!entry) {
      parts.push(null);
      continue;
    }
    const { dtype, shape, data } = entry;
    if (scalarType(parameters[i]) !== undefined) {
      parts.push([dtype, Array.from(data as ArrayLike<number | bigint>, String)]);
      continue;
    }
    if (!shape[0] || (rows !== undefined && shape[0] !== rows)) return undefined;
    rows = shape[0];
    parts.push([dtype, shape.slice(1)]);
  }
  return rows === undefined ? undefined : { key: JSON.stringify(parts), rows };
}

/** Collects inputs until there are enough of a kind to be run together: always the same ones, in a chunk. */
export class Batches {
  readonly #open = new Map<string, Batch & { members: ReadInput[]; rows: number[] }>();

  constructor(
    private readonly size: number,
    private readonly parameters: readonly Parameter[],
  ) {}

  /** What is to be run with this one, if it makes a batch full, or alone. */
  add(input: ReadInput): Batch | undefined {
    const kind = this.size === 1 ? undefined : kindOf(input, this.parameters);
    if (!kind) return alone(input);
    const batch = this.#open.get(kind.key) ?? { kind: kind.key, members: [], rows: [] };
    batch.members.push(input);
    batch.rows.push(kind.rows);
    this.#open.set(kind.key, batch);
    if (batch.members.length < this.size) return undefined;
    this.#open.delete(kind.key);
    return batch;
  }

  /** Those that aren't full. */
  rest(): Batch[] {
    return [...this.#open.values()];
  }
}

/** A batch of one. */
export function alone(input: ReadInput): Batch {
  return { kind: '', members: [input], rows: [1] };
}

/** The inputs of all, as one. */
export function joined({ members }: Batch, parameters: readonly Parameter[]): (Entry | null)[] {
  const [first] = members as [ReadInput];
  return first.entries.map((entry, i) => {
    if (!entry || scalarType(parameters[i]) !== undefined) return entry;
    const each = members.map(({ entries }) => entries[i] as Entry);
    const rows = each.reduce((sum, { shape }) => sum + (shape[0] as number), 0);
    return { ...entry, shape: [rows, ...entry.shape.slice(1)], data: concatenated(each.map(({ data }) => data)) };
  });
}

function concatenated(parts: readonly EntryData[]): EntryData {
  const [first] = parts as [EntryData];
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const whole = new (first.constructor as new (length: number) => EntryData)(length);
  let at = 0;
  for (const part of parts) {
    (whole as Float32Array).set(part as Float32Array, at);
    at += part.length;
  }
  return whole;
}

/** Thrown where results of a batch can't be told apart. */
export class NotSeparable extends Error {}

/** What a run of a batch, or of one input, gave. */
export type RunResult = Pick<InputResult, 'entries'> & {
  description: Omit<InputResult['description'], 'input' | 'length' | 'decoderLength'>;
};

/**
 * The rows of each member in the results of all.
 *
 * @throws NotSeparable where a tensor has others, or a result is no tensor.
 */
export function separated({ entries, description }: RunResult, { rows }: Batch): RunResult[] {
  const all = rows.reduce((sum, count) => sum + count, 0);
  const { attentions, outputs, unseen } = description;
  if (outputs) throw new NotSeparable('an output is no tensor with a row for each of the inputs');
  const other = entries.find(({ shape }) => shape[0] !== all);
  if (other) throw new NotSeparable(`${other.name} is [${other.shape.join(', ')}] for inputs of ${all} rows in all`);
  let begin = 0;
  return rows.map((count) => {
    const sized = <Each extends { shape: number[] }>(each: Each): Each =>
      each.shape[0] === all ? { ...each, shape: [count, ...each.shape.slice(1)] } : each;
    const from = begin;
    begin += count;
    return {
      entries: entries.map((entry) => {
        const perRow = entry.data.length / all;
        return sized({ ...entry, data: entry.data.subarray(from * perRow, (from + count) * perRow) as EntryData });
      }),
      description: {
        batch: all,
        ...(attentions && {
          attentions: Object.fromEntries(Object.entries(attentions).map(([index, each]) => [index, sized(each)])),
        }),
        ...(unseen && { unseen: unseen.map(sized) }),
      },
    };
  });
}

/** So many kinds of batches are compared to single runs, each once; and so many may be refused before all are. */
const MOST_KINDS = 8;

/** Decides, while a model is there, whether its inputs are run together. */
export class BatchJudge {
  readonly #compared = new Set<string>();
  readonly #refused = new Set<string>();
  #refusal: string | undefined;
  #none = false;
  #verdict: Promise<unknown> = Promise.resolve();
  #record: BatchRecord = { inputs: 0, compared: 0, equal: 0, difference: 0 };

  /** Whether a batch is to be run as one, once it is known what came of those that are being compared. */
  async allows({ kind, members }: Batch): Promise<boolean> {
    if (members.length === 1) return false;
    for (let seen: unknown; seen !== this.#verdict; ) {
      seen = this.#verdict;
      await seen;
    }
    return !this.#none && !this.#refused.has(kind);
  }

  /**
   * Looks at the results of a batch: the first of each kind is compared to single runs of some of its members.
   *
   * @param run Runs the batch, and those of its members alone whose places it is given.
   * @throws NotSeparable where the results aren't those of single runs.
   */
  async judge(
    batch: Batch,
    run: (samples: number[]) => Promise<{ together: RunResult[]; single: RunResult[] }>,
  ): Promise<RunResult[]> {
    const { kind, members } = batch;
    const isNew = !this.#compared.has(kind) && this.#compared.size < MOST_KINDS;
    const samples = isNew ? [0, members.length - 1] : [];
    const judged = async (): Promise<RunResult[]> => {
      try {
        const { together, single } = await run(samples);
        for (const [i, sample] of samples.entries())
          this.#compare(together[sample] as RunResult, single[i] as RunResult);
        this.#record.inputs += members.length;
        return together;
      } catch (error) {
        if (error instanceof NotSeparable) this.refuse(batch, error);
        throw error;
      }
    };
    const verdict = judged();
    if (isNew) {
      this.#compared.add(kind);
      this.#verdict = verdict.catch(() => {});
    }
    return await verdict;
  }

  #compare(together: RunResult, single: RunResult): void {
    let largest = 0;
    for (const { name, dtype, shape, data } of single.entries) {
      const other = together.entries.find((each) => each.name === name);
      const isSame = other?.dtype === dtype && other.shape.join() === shape.join();
      // Of weights that are nearly equal, either may come first.
      const difference = isSame && !/\.keys$/.test(name) ? relativeDifference(dtype, data, other.data) : 0;
      if (!isSame || !isRounding(dtype, difference))
        throw new NotSeparable(`${name} of inputs that are run together differs from that of single runs`);
      largest = Math.max(largest, difference);
    }
    ++this.#record.compared;
    if (largest === 0) ++this.#record.equal;
    this.#record.difference = Math.max(this.#record.difference, largest);
  }

  /** Batches like this one are run one by one from here on; all, where their results can't be told apart. */
  refuse({ kind }: Batch, reason: unknown): void {
    this.#refusal = reasonOf(reason);
    this.#refused.add(kind);
    this.#none ||= reason instanceof NotSeparable || this.#refused.size >= MOST_KINDS;
  }

  /** What is known since this was asked the last time. */
  take(): BatchRecord {
    const record = { ...this.#record, ...(this.#refusal !== undefined && { refused: this.#refusal }) };
    this.#record = { inputs: 0, compared: 0, equal: 0, difference: 0 };
    return record;
  }
}
