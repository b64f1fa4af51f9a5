import { anySignal } from '../core/any-signal';
import { unlessAborted } from '../core/cancellable';
import { isRounding, relativeDifference } from '../io/rounding';
import type { InferRequest } from './infer-request';
import { pickOutputs, type WireOutput } from './infer-response';
import type { ModelForm } from './model-form';
import { arrayOf, toBinaryData, type WireTensor } from './wire-tensor';

/** What an inference gave. */
export interface Inferred {
  outputs: WireOutput[];
  /** How many rows were computed together, where others were among them. */
  batch?: number;
}

interface Member {
  request: InferRequest;
  rows: number;
  signal: AbortSignal;
  resolve(inferred: Inferred): void;
  reject(reason: unknown): void;
}

/** Requests that are computed together. */
interface Group {
  members: Member[];
  rows: number;
  most: number;
  timer: NodeJS.Timeout;
}

/** What a batcher does with its requests. */
interface Runner {
  run(request: InferRequest, signal: AbortSignal): Promise<WireOutput[]>;
  /** Told why requests can't be batched, if so. */
  refused(reason: string): void;
}

/**
 * Puts requests together that came within some milliseconds and differ in their first dimension alone. The first batch is
 * computed one by one as well: a model that mixes the rows of a batch, or gives what can't be told apart again, isn't batched.
 */
export class Batcher {
  readonly #groups = new Map<string, Group>();
  #state: 'unknown' | 'checking' | 'right' | 'refused' = 'unknown';

  constructor(
    private readonly maxBatch: number,
    private readonly maxDelay: number,
    private readonly runner: Runner,
  ) {}

  /** What a batch gives for a request; undefined for one that can't be in any. */
  async infer(request: InferRequest, form: ModelForm, signal: AbortSignal): Promise<Inferred | undefined> {
    if (this.#state === 'refused' || this.#state === 'checking') return undefined;
    const rows = rowsOf(request, form);
    const most = Math.min(this.maxBatch, form.maxBatch);
    if (rows === undefined || rows >= most) return undefined;
    signal.throwIfAborted();
    const inferred = new Promise<Inferred>((resolve, reject) => {
      this.#add(keyOf(request, form), { request, rows, signal, resolve, reject }, most, form);
    });
    return await unlessAborted(inferred, signal);
  }

  #add(key: string, member: Member, most: number, form: ModelForm): void {
    let group = this.#groups.get(key);
    if (group && group.rows + member.rows > most) {
      this.#flush(key, group, form);
      group = undefined;
    }
    if (!group) {
      const opened: Group = {
        members: [],
        rows: 0,
        most,
        timer: setTimeout(() => this.#flush(key, opened, form), this.maxDelay),
      };
      this.#groups.set(key, opened);
      group = opened;
    }
    group.members.push(member);
    group.rows += member.rows;
    if (group.rows === most) this.#flush(key, group, form);
  }

  #flush(key: string, group: Group, form: ModelForm): void {
    clearTimeout(group.timer);
    if (this.#groups.get(key) === group) this.#groups.delete(key);
    const members = group.members.filter(({ signal }) => !signal.aborted);
    if (members.length === 0) return;
    const single = members.length === 1 || this.#state === 'refused' || this.#state === 'checking';
    if (single) this.#runEach(members);
    else void this.#runTogether(members, form);
  }

  #runEach(members: readonly Member[]): void {
    for (const { request, signal, resolve, reject } of members) {
      this.runner.run(request, signal).then((outputs) => resolve({ outputs }), reject);
    }
  }

  async #runTogether(members: readonly Member[], form: ModelForm): Promise<void> {
    const checking = this.#state === 'unknown';
    if (checking) this.#state = 'checking';
    // The run ends early only when nobody waits for it any more.
    const left = new AbortController();
    let waiting = members.length;
    const leaving = members.map(({ signal }) => anySignal([signal]));
    for (const { signal } of leaving)
      signal.addEventListener('abort', () => --waiting === 0 && left.abort(signal.reason));
    try {
      const rows = members.reduce((sum, member) => sum + member.rows, 0);
      const parts = split(await this.runner.run(joined(members, form), left.signal), members, rows);
      if (!parts) return this.#refuse(members, 'an output does not have as many rows as the inputs');
      if (checking && !(await this.#isRight(members, parts))) {
        return this.#refuse(members, 'results of a batch differ from those of single runs');
      }
      if (checking) this.#state = 'right';
      for (const [i, { request, resolve, reject }] of members.entries()) {
        try {
          resolve({ outputs: pickOutputs(request, parts[i] as WireOutput[]), batch: rows });
        } catch (error) {
          reject(error);
        }
      }
    } catch {
      // Which of them it was that failed, single runs tell.
      if (checking) this.#state = 'unknown';
      this.#runEach(members);
    } finally {
      for (const { release } of leaving) release();
    }
  }

  #refuse(members: readonly Member[], reason: string): void {
    this.#state = 'refused';
    this.runner.refused(reason);
    this.#runEach(members);
  }

  async #isRight(members: readonly Member[], parts: readonly WireOutput[][]): Promise<boolean> {
    for (const [i, { request, signal }] of members.entries()) {
      const { outputs: _, ...whole } = request;
      const alone = await this.runner.run(whole, signal);
      const part = parts[i] as WireOutput[];
      if (alone.length !== part.length || !alone.every((each, j) => isClose(each.tensor, part[j]?.tensor)))
        return false;
    }
    return true;
  }
}

/** The first size that all tensors of a request share; undefined where they don't. */
function rowsOf({ inputs }: InferRequest, form: ModelForm): number | undefined {
  let rows: number | undefined;
  for (const [name, { dtype, shape }] of inputs) {
    if (!form.isTensor(name)) continue;
    if (dtype === 'bytes' || !shape[0] || (rows !== undefined && rows !== shape[0])) return undefined;
    rows = shape[0];
  }
  return rows;
}

/** What requests of one batch have in common: types, all other sizes, and whatever isn't a tensor. */
function keyOf({ inputs }: InferRequest, form: ModelForm): string {
  const described = [...inputs].map(([name, tensor]) => {
    const { dtype, shape } = tensor;
    if (form.isTensor(name)) return [name, dtype, shape.slice(1)];
    return [name, dtype, shape, Buffer.from(toBinaryData(tensor)).toString('base64')];
  });
  return JSON.stringify(described.sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)));
}

/** One request of the rows of all. */
function joined(members: readonly Member[], form: ModelForm): InferRequest {
  const [first] = members as [Member];
  const rows = members.reduce((sum, member) => sum + member.rows, 0);
  const inputs = new Map<string, WireTensor>();
  for (const [name, tensor] of first.request.inputs) {
    if (!form.isTensor(name) || tensor.dtype === 'bytes') {
      inputs.set(name, tensor);
      continue;
    }
    const bytes = Buffer.concat(
      members.map(({ request }) => (request.inputs.get(name) as { bytes: Uint8Array }).bytes),
    );
    inputs.set(name, { dtype: tensor.dtype, shape: [rows, ...tensor.shape.slice(1)], bytes });
  }
  return { inputs, binary: true, parameters: {} };
}

/** The rows of each request in the outputs of all; undefined where an output has others. */
function split(outputs: readonly WireOutput[], members: readonly Member[], rows: number): WireOutput[][] | undefined {
  const parts: WireOutput[][] = members.map(() => []);
  for (const { name, tensor } of outputs) {
    const { dtype, shape } = tensor;
    if (dtype === 'bytes' || shape[0] !== rows) return undefined;
    const perRow = tensor.bytes.length / rows;
    let at = 0;
    for (const [i, member] of members.entries()) {
      const bytes = tensor.bytes.subarray(at * perRow, (at + member.rows) * perRow);
      parts[i]?.push({ name, tensor: { dtype, shape: [member.rows, ...shape.slice(1)], bytes } });
      at += member.rows;
    }
  }
  return parts;
}

/** Whether two tensors hold the same, up to the rounding of another order of sums. */
function isClose(a: WireTensor, b: WireTensor | undefined): boolean {
  if (!b || a.dtype === 'bytes' || b.dtype !== a.dtype || a.shape.join() !== b.shape.join()) return false;
  const { dtype } = a;
  const [left, right] = [a.bytes, b.bytes as Uint8Array].map((bytes) => arrayOf(dtype, bytes) as ArrayLike<number>);
  return isRounding(dtype, relativeDifference(dtype, left as ArrayLike<number>, right as ArrayLike<number>));
}
