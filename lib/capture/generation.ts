import { fromNative, native } from '../core/binding';
import { unlessAborted } from '../core/cancellable';
import type { FloatingDType } from '../core/dtype';
import { TorchError } from '../core/errors';
import { itemsOf } from '../core/inputs';
import { fromHandle, handleOf, Tensor } from '../core/tensor';
import { isThenable } from '../core/thenable';
import type { Unseen } from '../core/unseen';
import {
  options as checkOptions,
  elements,
  integer,
  invalid,
  isCallable,
  optionalChoice,
  reading,
  refuseOption,
} from '../core/validate';
import type { Value } from '../core/value';
import { type Attention, type AttentionStatistics, type AttentionWithoutWeights, decodable } from './attention';
import { CAPTURE_OPTIONS, type CaptureOptions } from './capture-options';

/**
 * Options of `captureGeneration`: those of the capture of each step.
 *
 * @example
 * const options: GenerationOptions = { layers: [-1], method: 'generate' };
 */
export type GenerationOptions<Output = Value> = Omit<CaptureOptions<Output>, 'onAttention'> & {
  /** The method to run in each step. Default `'forward'`. */
  method?: string;
};

/**
 * Options of the capture of each step, of models of any kind.
 *
 * @inline
 */
export type StepOptions<Output> = Omit<GenerationOptions<Output>, 'method'>;

/**
 * Makes the inputs of the next step from what the step before returned: the tokens to go on with, and the caches in
 * whatever form the checkpoint takes them. Nothing (undefined or null) ends the generation. `step` counts from 0.
 *
 * @example
 * const next: NextInputs = (output, step) => {
 *   const [logits, caches] = output as [Tensor, Value];
 *   return step < 20 ? [logits.select(1, -1).argmax(-1).reshape([1, 1]), caches] : undefined;
 * };
 */
export type NextInputs<Inputs extends readonly Value[] = readonly Value[], Output = Value> = (
  output: Output,
  step: number,
) => Inputs | undefined | null | Promise<Inputs | undefined | null>;

/**
 * An attention of one step.
 *
 * @example
 * const positions = ({ queries, queryOffset }: GenerationAttention) => queries.map((query) => queryOffset + query);
 */
export interface GenerationAttention extends Attention {
  /** Position of its first query among all queries of its layer. Add it to `queries` for positions in the sequence. */
  queryOffset: number;
  /** How many keys it saw: those in the cache and the step's own. A cache of fixed length counts whole. */
  keyLength: number;
}

/**
 * One step of a generation. It holds what the step returned: keep its `attentions`, not all of it, where memory matters.
 *
 * @example
 * const show = ({ step, queryOffset, attentions }: GenerationStep) => console.log(step, queryOffset, attentions.length);
 */
export interface GenerationStep<Output = Value, Each = GenerationAttention> {
  /** Counted from 0. */
  step: number;
  /** Position of the step's first query in the whole sequence: the queries of all steps before. */
  queryOffset: number;
  /** The most keys that one of the attentions recorded saw; 0 where none was. */
  keyLength: number;
  /** What the model returned, caches included. */
  output: Output;
  /** The attentions of the layers selected, in execution order. */
  attentions: Each[];
  /** What looked like attention in this step and could not be recorded. */
  unseen: Unseen[];
}

/**
 * An attention as `assembleAttention` takes it: what only describes it may be missing.
 *
 * @example
 * const step: { attentions: StepAttention[] } = await model.captureAttention([ids]);
 */
export type StepAttention<Each extends AttentionWithoutWeights = Attention> = Omit<
  Each,
  'path' | 'kind' | 'headsKnown' | 'decode'
> &
  Partial<Each>;

/** What one step gives: also the selected layers that computed nothing in it, and how many queries it had. */
export interface StepCapture<Output = Value> {
  output: Output;
  attentions: Attention[];
  unseen: Unseen[];
  missing: string[];
  queries: number;
}

/** Which attentions of several steps belong together: those of one module, by the order of its calls in each step. */
function* layersOf<Each extends AttentionWithoutWeights>(
  attentions: readonly Each[],
): Generator<[string, Each], void, undefined> {
  const calls = new Map<string, number>();
  for (const attention of attentions) {
    const call = calls.get(attention.name) ?? 0;
    calls.set(attention.name, call + 1);
    yield [`${call} ${attention.name}`, attention];
  }
}

/**
 * Counts queries from step to step. A step has as many as the last attention of its forward: an encoder that runs along
 * stands before it. Layers that have had as many in every step they took part in stand where the step does, also where
 * they left steps out; others are counted by themselves.
 */
class Positions {
  #next = 0;
  readonly #layers = new Map<string, { queries: number; inStep: boolean }>();

  place({ attentions, queries }: StepCapture<unknown>): { queryOffset: number; attentions: GenerationAttention[] } {
    const queryOffset = this.#next;
    this.#next += queries;
    const placed: GenerationAttention[] = [];
    for (const [key, attention] of layersOf(attentions)) {
      const layer = this.#layers.get(key) ?? { queries: 0, inStep: true };
      const [own, keyLength] = attention.shape.slice(-2) as [number, number];
      layer.inStep &&= own === queries;
      const { decode, ...copied } = {
        ...attention,
        queryOffset: layer.inStep ? queryOffset : layer.queries,
        keyLength,
      };
      placed.push(decodable(copied));
      layer.queries += own;
      this.#layers.set(key, layer);
    }
    return { queryOffset, attentions: placed };
  }
}

/** See `ScriptModule.captureGeneration`. */
export async function* captureGeneration<Inputs, Output>(
  capture: (inputs: Inputs, options: GenerationOptions<Output>) => Promise<StepCapture<Output>>,
  inputs: Inputs,
  next: (output: Output, step: number) => Inputs | undefined | null | Promise<Inputs | undefined | null>,
  given: GenerationOptions<Output> | undefined,
  callOptions: readonly string[],
): AsyncGenerator<GenerationStep<Output>, void, undefined> {
  if (!isCallable(next)) throw invalid('a function', 'next', next);
  refuseOption(
    given,
    'onAttention',
    'no onAttention in the options of captureGeneration, which gives the attentions of each step,',
  );
  const known = [...callOptions, ...CAPTURE_OPTIONS].filter((name) => name !== 'onAttention');
  const options = checkOptions(given, known, 'the options of captureGeneration');
  const positions = new Positions();
  let missing: string[] | undefined;
  let seen = false;
  let unseen: Unseen[] | undefined;
  let current: Inputs | undefined | null = inputs;
  for (let step = 0; current !== undefined && current !== null; ++step) {
    const captured = await capture(current, options);
    const { output } = captured;
    missing = missing ? missing.filter((label) => captured.missing.includes(label)) : captured.missing;
    seen ||= captured.attentions.length > 0;
    unseen ??= captured.unseen;
    const { queryOffset, attentions } = positions.place(captured);
    const keyLength = Math.max(0, ...attentions.map((each) => each.keyLength));
    yield { step, queryOffset, keyLength, output, attentions, unseen: captured.unseen };
    options.signal?.throwIfAborted();
    current = await unlessAborted(next(output, step), options.signal);
  }
  // A layer may leave steps out, but one that took part in none was meant otherwise.
  if (missing?.length) {
    throw new TorchError(
      'ERR_UNKNOWN_MODULE',
      `No attention was computed in layer ${missing.join(', ')} in any step of this generation`,
    );
  }
  if (!seen) {
    throw new TorchError('ERR_NO_ATTENTION', 'No step of this generation computed an attention that can be seen', {
      unseen: unseen ?? [],
    });
  }
}

/**
 * How `assembleAttention` puts steps together.
 *
 * @example
 * const window: AssembleOptions = {
 *   keyOffset: ({ queryOffset, queries, keyLength }) => queryOffset + queries.length - keyLength,
 * };
 */
export interface AssembleOptions {
  /**
   * For models whose caches drop keys: which position in the sequence the first key has that an attention still saw. Its
   * columns move to the right by as many, so that column k is position k again. Called for every attention of every step;
   * where a window holds the last keys, `({ queryOffset, queries, keyLength }) => queryOffset + queries.length - keyLength`,
   * and 0 for layers whose keys are another sequence's (cross-attention). Default: 0 for all.
   */
  keyOffset?: (attention: GenerationAttention, step: number) => number;
}

/** An attention of a step of which any of its tensors may be missing. */
type Part = AttentionWithoutWeights & Pick<Partial<Attention>, 'weights' | 'scale'>;

/**
 * What `assembleAttention` goes through.
 *
 * @inline
 */
type Steps<Each> =
  | Iterable<{ readonly attentions: readonly Each[] }>
  | AsyncIterable<{ readonly attentions: readonly Each[] }>;

/** The parts of one layer, in order of the steps. */
interface Layer {
  first: Part;
  parts: { part: Part; keyOffset: number }[];
  queries: number[];
  /** The keys of the step before, and whether any step saw more than the one before it. */
  keys: number;
  grown: boolean;
}

function mismatch(attention: Part, step: number, expected: string, received: string): TorchError {
  return new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected ${expected} for attention ${attention.index} ('${attention.name}') of step ${step} but received ${received}`,
  );
}

/** The members of an object that are there. */
function present<Given extends object>(given: Given): { [Name in keyof Given]?: NonNullable<Given[Name]> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [Name in keyof Given]?: NonNullable<Given[Name]>;
  };
}

/** An attention of a step as it was given, each part of it read once. */
function givenAttention(value: unknown, step: number): Part & Partial<GenerationAttention> {
  const what = `an attention of step ${step}`;
  return reading(what, () => {
    const given = (value ?? {}) as Record<keyof GenerationAttention, unknown>;
    const { keys, queryOffset } = given;
    const sums = (given.statistics ?? {}) as Record<keyof AttentionStatistics, unknown>;
    const tensor = (tensorGiven: unknown, name: string): Tensor<FloatingDType> | undefined => {
      if (tensorGiven !== undefined) handleOf(tensorGiven, `the ${name} of ${what}`);
      return tensorGiven as Tensor<FloatingDType> | undefined;
    };
    const scale = optionalChoice(given.scale, ['linear', 'log'], `scale of ${what}`);
    const members = {
      weights: tensor(given.weights, 'weights'),
      scores: tensor(given.scores, 'scores'),
      logSumExp: tensor(given.logSumExp, 'logSumExp'),
    };
    const statistics = {
      received: tensor(sums.received, 'statistics.received'),
      entropy: tensor(sums.entropy, 'statistics.entropy'),
    };
    if (![...Object.values(members), ...Object.values(statistics)].some((each) => each !== undefined)) {
      throw invalid('a Tensor', `the weights of ${what}`, given.weights);
    }
    const integers = (list: unknown, name: string): number[] =>
      elements(list, 'an array of integers', `${name} of ${what}`, (each) =>
        integer(each, `an element of ${name} of ${what}`, 0),
      );
    const shape = integers(given.shape, 'shape');
    if (shape.length < 4) throw invalid('[batch…, H, Q, K]', `shape of ${what}`, shape);
    const { name, operator } = given;
    if (typeof name !== 'string') throw invalid('a string', `name of ${what}`, name);
    if (typeof operator !== 'string') throw invalid('a string', `operator of ${what}`, operator);
    return {
      index: integer(given.index, `index of ${what}`, 0),
      name,
      operator,
      path: (given.path as string[] | undefined) ?? [],
      kind: (given.kind as Attention['kind'] | undefined) ?? 'softmax',
      shape,
      headsKnown: given.headsKnown !== false,
      ...present(members),
      ...(scale && { scale }),
      ...(Object.values(statistics).some((each) => each !== undefined) ? { statistics: present(statistics) } : {}),
      ...(keys ? { keys: keys as Tensor<'int64'> } : {}),
      heads: integers(given.heads, 'heads'),
      queries: integers(given.queries, 'queries'),
      ...(queryOffset === undefined ? {} : { queryOffset: integer(queryOffset, `queryOffset of ${what}`, 0) }),
    };
  });
}

/** Checks that all rows of an attention are there, and that they fit those of the steps before. */
function checkPart(attention: Part, step: number, first: Part | undefined): void {
  if (attention.keys) throw mismatch(attention, step, 'a capture without topK', 'the largest weights of every row');
  const count = attention.shape.at(-2) as number;
  if (attention.queries.length !== count || attention.queries.some((query, i) => query !== i)) {
    throw mismatch(
      attention,
      step,
      `a capture of all ${count} queries`,
      `${attention.queries.length} chosen by the option queries`,
    );
  }
  if (!first) return;
  const alike = (part: Part) => {
    const { weights, scale, scores, logSumExp, statistics, heads, shape } = part;
    const named = { weights, scores, logSumExp, received: statistics?.received, entropy: statistics?.entropy };
    const tensors = Object.entries(present(named)).map(([name, tensor]) => {
      const rank = tensor.shape.length;
      return `${name} of ${name === 'weights' || name === 'scores' ? rank : rank + 1} dimensions in ${tensor.dtype}`;
    });
    if (scale) tensors.push(`scale ${scale}`);
    return `${tensors.join(', ')}, batch ${shape[0]}, heads ${heads.join(', ')}`;
  };
  if (alike(attention) !== alike(first)) {
    throw mismatch(attention, step, `${alike(first)}, as in the step before`, alike(attention));
  }
}

/** Whether the first query saw the first key alone, of as many keys as queries: a decoder that attends to its own tokens. */
function beginsCausal({ weights, shape }: Part): boolean {
  const [queries, keys] = shape.slice(-2) as [number, number];
  if (!weights || queries !== keys || keys < 2) return false;
  const row = weights.select(-2, 0);
  const others = row.narrow(-1, 1, keys - 1);
  const sum = others.sum();
  try {
    return Number(sum.item()) === 0;
  } finally {
    for (const each of [row, others, sum]) each.dispose();
  }
}

/**
 * Checks that the columns of a layer can begin with the first key of the sequence. Keys of another sequence and those of a
 * cache of fixed length stay as many as they were; others grow with each step, unless the cache drops some.
 */
function checkKeys(attention: Omit<GenerationAttention, 'weights'>, step: number, { first, keys, grown }: Layer): void {
  const { keyLength, queryOffset, shape } = attention;
  const positions = queryOffset + (shape.at(-2) as number);
  if (keyLength >= positions || keyLength > keys) return;
  if (keyLength === keys && !grown && !beginsCausal(first)) return;
  const seen = `it saw ${keyLength} keys, after ${keys} in the step before it, of ${positions} positions`;
  throw mismatch(
    attention,
    step,
    'the option keyOffset, since the cache of the model dropped keys,',
    `none: ${seen}, and nothing tells which`,
  );
}

/** A matrix of some rows of a layer, and how many columns belong on its left. */
interface Rows {
  matrix: Tensor;
  keyOffset: number;
}

/**
 * The rows of each layer below each other, with `fill` where there are no keys. What is made on the way is put into `made`, to
 * be disposed.
 */
async function stacked(layers: readonly (readonly Rows[])[], fill: number, made: Tensor[]): Promise<Tensor[]> {
  const keep = (tensor: Tensor): Tensor => {
    made.push(tensor);
    return tensor;
  };
  const moved = layers.flat().filter(({ keyOffset }) => keyOffset > 0);
  const turned = moved.map(({ matrix, keyOffset }) => {
    const { shape, dtype, device } = matrix;
    const left = keep(Tensor.zeros([...shape.slice(0, -2), keyOffset, shape.at(-2)!], { dtype, device }));
    return [fill === 0 ? left : keep(left.add(fill)), keep(matrix.transpose(-2, -1))];
  });
  const shifted = new Map<Rows, Tensor>();
  if (moved.length > 0) {
    const handles = turned.map((pair) => pair.map((each) => handleOf(each, 'weights')));
    const whole = await native((addon) => addon.stackRows(handles, fill));
    for (const [i, each] of whole.entries()) shifted.set(moved[i]!, keep(keep(fromHandle(each)).transpose(-2, -1)));
  }
  const handles = layers.map((rows) => rows.map((each) => handleOf(shifted.get(each) ?? each.matrix, 'weights')));
  return (await native((addon) => addon.stackRows(handles, fill))).map(fromHandle);
}

/** How each tensor of an attention is put together: as rows of a matrix, and what is made of the matrix of all rows. */
const ASSEMBLED: {
  fill: number;
  of: (part: Part) => Tensor | undefined;
  toRows: (tensor: Tensor) => Tensor;
  fromRows: (matrix: Tensor) => Tensor;
  into: (attention: Part, tensor: Tensor) => void;
}[] = [
  {
    fill: 0,
    of: ({ weights }) => weights,
    toRows: whole,
    fromRows: whole,
    into: (attention, weights) => Object.assign(attention, { weights }),
  },
  {
    fill: Number.NEGATIVE_INFINITY,
    of: ({ scores }) => scores,
    toRows: whole,
    fromRows: whole,
    into: (attention, scores) => Object.assign(attention, { scores }),
  },
  {
    fill: 0,
    of: ({ logSumExp }) => logSumExp,
    toRows: asColumn,
    fromRows: withoutColumn,
    into: (attention, logSumExp) => Object.assign(attention, { logSumExp }),
  },
  {
    fill: 0,
    of: ({ statistics }) => statistics?.entropy,
    toRows: asColumn,
    fromRows: withoutColumn,
    into: (attention, entropy) => Object.assign(attention, { statistics: { ...attention.statistics, entropy } }),
  },
  {
    fill: 0,
    of: ({ statistics }) => statistics?.received,
    toRows: (received) => received.reshape([...received.shape.slice(0, -1), 1, received.shape.at(-1)!]),
    fromRows: (steps) => steps.sum(-2),
    into: (attention, received) => Object.assign(attention, { statistics: { ...attention.statistics, received } }),
  },
];

function whole(tensor: Tensor): Tensor {
  return tensor.reshape(tensor.shape);
}
function asColumn(tensor: Tensor): Tensor {
  return tensor.reshape([...tensor.shape, 1]);
}
function withoutColumn(matrix: Tensor): Tensor {
  return matrix.select(-1, 0);
}

/**
 * The attentions of a generation as matrices of the whole sequence, one for each layer: the rows of all steps below each
 * other, `[B, H, Q, K]` with the queries of all steps and the most keys of any (`[B, Q, K]` with `averageHeads`). Rows of
 * steps that saw fewer keys are zero on the right (scores -Infinity). `logSumExp` and entropies are those of all queries; what
 * a key received is summed over all of them. The tensors are new, on the device of the first step's.
 *
 * Layers are matched by module name, and by the order of its calls in each step. Where a layer took no part in a step, it
 * has no rows for it; `queries` tells the positions of the rows there are. `index` is that of the layer's first step.
 *
 * Columns count from the first key that a step saw. Where a cache drops keys (a sliding window), that isn't the first of
 * the sequence: say by `keyOffset` which it is. Without it such a generation is refused where the number of keys shows it: a
 * step saw fewer than the one before, or no more though they had grown, or though the layer is causal. Of a window that is
 * full from the first step on it may not: that looks like the keys of another sequence.
 *
 * @param steps The records of `captureGeneration` (the generator itself, too), or results of `captureAttention` in order.
 * @param options `keyOffset`, for caches that drop keys.
 * @returns One attention for each layer, in the order in which the layers first ran.
 * @throws TorchError `ERR_INVALID_ARGUMENT` where rows or keys were left out by `queries` or `topK`, where steps differ in
 *   batch, heads or type, and where attentions without module names (of a frozen checkpoint) differ in number from step
 *   to step, so that nothing tells which belong together; where keys were dropped and `keyOffset` doesn't say which.
 *
 * @example
 * const generator = await ScriptModule.load<[ids: Tensor, caches: Value], [logits: Tensor, caches: Value]>('gpt.pt');
 * const steps = generator.captureGeneration([ids, null], ([logits, caches], step) =>
 *   step < 4 ? [logits.select(1, -1).argmax(-1).reshape([1, 1]), caches] : undefined,
 * );
 * const [first] = await assembleAttention(steps);
 * console.log(first?.weights.shape); // [B, H, all queries, longest keys]
 */
export function assembleAttention(steps: Steps<StepAttention>, options?: AssembleOptions): Promise<Attention[]>;
export function assembleAttention(
  steps: Steps<StepAttention<AttentionWithoutWeights>>,
  options?: AssembleOptions,
): Promise<AttentionWithoutWeights[]>;
export async function assembleAttention(
  steps: Steps<StepAttention<AttentionWithoutWeights>>,
  options?: AssembleOptions,
): Promise<AttentionWithoutWeights[]> {
  const { keyOffset } = checkOptions(options, ['keyOffset'], 'the options of assembleAttention');
  if (keyOffset !== undefined && !isCallable(keyOffset)) throw invalid('a function', 'keyOffset', keyOffset);
  const layers = new Map<string, Layer>();
  let unnamed: number | undefined;
  let count = 0;
  for await (const step of itemsOf(steps, 'steps')) {
    const given = reading(`step ${count}`, () => step?.attentions);
    const attentions = elements(given, 'an array', `the attentions of step ${count}`, (each) =>
      givenAttention(each, count),
    );
    for (const [key, attention] of layersOf(attentions)) {
      const before = layers.get(key);
      checkPart(attention, count, before?.first);
      const layer = before ?? { first: attention, parts: [], queries: [], keys: 0, grown: false };
      const keyLength = attention.shape.at(-1) as number;
      const queryOffset = attention.queryOffset ?? layer.queries.length;
      const placed = { ...attention, queryOffset, keyLength } as GenerationAttention;
      let offset = 0;
      if (keyOffset) {
        const given: unknown = keyOffset(placed, count);
        if (isThenable(given)) Promise.resolve(given).catch(() => {}); // refused, whatever it comes to
        offset = integer(given, 'the result of keyOffset', 0);
      } else if (before) checkKeys(placed, count, before);
      for (const query of attention.queries) layer.queries.push(queryOffset + query);
      layer.parts.push({ part: attention, keyOffset: offset });
      layer.grown ||= before !== undefined && keyLength > before.keys;
      layer.keys = keyLength;
      layers.set(key, layer);
    }
    const nameless = attentions.filter(({ name }) => name === '').length;
    if (unnamed !== undefined && nameless !== unnamed) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected as many attentions without a module name in each step, since only their order tells which belong ` +
          `together, but received ${unnamed}, then ${nameless} in step ${count}. Choose some by layers, or load the ` +
          'checkpoint that is not frozen',
      );
    }
    unnamed = nameless;
    ++count;
  }
  if (layers.size === 0) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected at least one attention in steps but received none in ${count} ${count === 1 ? 'step' : 'steps'}`,
    );
  }
  const assembled = [...layers.values()];
  const made: Tensor[] = [];
  try {
    const results = assembled.map(({ first, parts, queries }): Part => {
      const { index, name, operator, path, kind, headsKnown, heads, scale } = first;
      const keyCount = Math.max(...parts.map(({ part, keyOffset: offset }) => offset + (part.shape.at(-1) as number)));
      const shape = [...first.shape.slice(0, -2), queries.length, keyCount];
      return { index, name, operator, path, kind, shape, headsKnown, heads, queries, ...(scale && { scale }) };
    });
    for (const { fill, of, toRows, fromRows, into } of ASSEMBLED) {
      const which = assembled.flatMap(({ first }, i) => (of(first) ? [i] : []));
      if (which.length === 0) continue;
      const rows = which.map((i) =>
        assembled[i]!.parts.map(({ part, keyOffset: offset }) => {
          const matrix = toRows(of(part)!);
          made.push(matrix);
          return { matrix, keyOffset: fromRows === withoutColumn ? 0 : offset };
        }),
      );
      for (const [i, matrix] of (await stacked(rows, fill, made)).entries()) {
        into(results[which[i]!]!, fromRows(matrix));
        made.push(matrix);
      }
    }
    return results.map((each) => (each.weights ? decodable(each) : each));
  } catch (error) {
    throw fromNative(error);
  } finally {
    for (const each of made) each.dispose();
  }
}
