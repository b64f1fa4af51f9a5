import { type CodeScale, decodedCodes } from '../capture/weight-codes';
import { infoOf } from '../core/dtype';
import { TorchError } from '../core/errors';
import { type Entry, malformed } from '../formats/entry';
import { type SafetensorsFile, withSafetensors } from '../formats/safetensors';
import { heldIn, type ViewAttention } from '../view/prepare';

const NAME = /^attentions\.(\d+)$/;

/** What `capture` writes of an attention beside its weights. */
interface Description {
  name: string;
  operator: string;
  heads: number[];
  queries: number[];
  /** Of the whole attention, whatever was selected of it. */
  shape?: number[];
  /** Of weights that are codes. */
  scale?: CodeScale;
}

/**
 * The attentions in a file that `capture` wrote, one at a time.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a file without attentions, or whose descriptions are none.
 */
export async function withCaptureFile<Result>(
  path: string,
  use: (attentions: AsyncGenerator<ViewAttention>, count: number) => Promise<Result>,
): Promise<Result> {
  return await withSafetensors(path, async (file) => {
    const indices = file.tensors.flatMap(({ name }) => {
      const index = NAME.exec(name)?.[1];
      return index === undefined ? [] : [Number(index)];
    });
    if (!indices.length) {
      if (file.tensors.some(({ name }) => name.startsWith('attentions.'))) {
        throw new TorchError(
          'ERR_INVALID_ARGUMENT',
          `Expected a capture with weights but received ${path}, which was captured without them (--no-weights)`,
        );
      }
      const received = file.tensors.slice(0, 3).map(({ name }) => `'${name}'`);
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a file that 'libtorch-attention capture' wrote, with tensors attentions.0 … in it, but received ${path} with ${received.join(', ') || 'no tensors'}`,
      );
    }
    return await use(
      read(
        file,
        path,
        indices.sort((a, b) => a - b),
      ),
      indices.length,
    );
  });
}

async function* read(file: SafetensorsFile, path: string, indices: readonly number[]): AsyncGenerator<ViewAttention> {
  const names = new Set(file.tensors.map(({ name }) => name));
  for (const index of indices) {
    const name = `attentions.${index}`;
    const weights = await file.read(name);
    const { shape, scale, ...description } = describe(file.metadata[name], weights, `${name} in ${path}`);
    const keys = names.has(`${name}.keys`) ? await file.read(`${name}.keys`) : undefined;
    const held = heldIn(weights.dtype, scale);
    yield {
      ...description,
      weights: floats(weights, scale),
      ...(held && { held }),
      ...(keys && { keys: { shape: keys.shape, data: keys.data } }),
      ...(keys && { shape: shape ?? wholeShape(keys) }),
    };
  }
}

/** Files of other programs may lack descriptions; their heads and queries are then counted from 0. */
function describe(json: string | undefined, { shape }: Entry, what: string): Description {
  const heads = shape.length === 4 ? (shape[1] as number) : 1;
  const counted = {
    name: '',
    operator: 'attention',
    heads: Array.from({ length: heads }, (_, i) => i),
    queries: Array.from({ length: shape.at(-2) ?? 0 }, (_, i) => i),
  };
  if (json === undefined) return counted;
  let given: unknown;
  try {
    given = JSON.parse(json);
  } catch (error) {
    throw malformed(what, 'a description in JSON', `text that isn't: ${(error as Error).message}`, error);
  }
  const {
    name,
    operator,
    heads: named,
    queries,
    shape: whole,
    scale,
  } = (given ?? {}) as Partial<Record<keyof Description, unknown>>;
  const counts = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((item) => Number.isSafeInteger(item) && item >= 0);
  if (typeof name !== 'string' || typeof operator !== 'string' || !counts(named) || !counts(queries)) {
    throw malformed(what, 'a description with name, operator, heads and queries', json.slice(0, 200));
  }
  return {
    name,
    operator,
    heads: named,
    queries,
    ...(counts(whole) && whole.length >= 4 ? { shape: whole } : {}),
    ...(scale === 'linear' || scale === 'log' ? { scale } : {}),
  };
}

/** Of the strongest keys alone, there are at least as many keys as their positions say. */
function wholeShape({ shape, data }: Entry): number[] {
  let last = -1;
  for (const key of data) last = Math.max(last, Number(key));
  return [...shape.slice(0, -1), last + 1];
}

function floats(
  { dtype, shape, data }: Entry,
  scale: CodeScale | undefined,
): { shape: readonly number[]; data: Float32Array } {
  if (data instanceof Float32Array) return { shape, data };
  if (scale && data instanceof Uint8Array) return { shape, data: decodedCodes(data, scale) };
  const { value: half } = infoOf(dtype);
  return {
    shape,
    data: Float32Array.from(data as Iterable<number | bigint>, half ? (bits) => half(Number(bits)) : Number),
  };
}
