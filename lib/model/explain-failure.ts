import type { NativeModel, NativeTensor } from '../core/binding';
import { DTYPES, isDType } from '../core/dtype';
import { TorchError } from '../core/errors';
import { isHandle } from '../core/tensor';

// What libtorch says of inputs that don't fit names the tensor in front of it, somewhere inside the model. What the caller can
// change is an input: here its name and its size are put ahead of that.

interface Given {
  /** `inputs[0] ('input_ids')` */
  place: string;
  dtype: string;
  shape: number[];
  tensor: NativeTensor;
}

function tensorsOf(inputs: readonly unknown[], names: readonly string[]): Given[] {
  return inputs.flatMap((tensor, i) => {
    if (!isHandle(tensor) || tensor.isDisposed()) return [];
    const name = names[i];
    const place = `inputs[${i}]${name === undefined ? '' : ` ('${name}')`}`;
    return [{ place, dtype: tensor.dtype(), shape: tensor.shape(), tensor }];
  });
}

const kindOf = ({ dtype }: Given) => (isDType(dtype) ? DTYPES[dtype].kind : undefined);

/** Sequences of ids: `[batch, length]`, or one alone. */
function isSequence(given: Given): boolean {
  return kindOf(given) === 'integer' && (given.shape.length === 1 || given.shape.length === 2);
}

const lengthOf = ({ shape }: Given) => shape.at(-1) ?? 0;

/** Two sizes that differ, as libtorch's errors name them. */
const SIZES =
  /expanded size of the tensor \((\d+)\) must match the existing size \((\d+)\)|size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)/;

/** The tables that a model looks positions up in, by what people call them. */
const POSITIONS = /(^|[._])(\w*position\w*|pos_?emb\w*|wpe|embed_positions|pe)([._]|$)/;

/** The fewest positions that a model has something for. */
function positionsOf(model: NativeModel): { name: string; count: number } | undefined {
  return model
    .stateDict()
    .flatMap(({ name, tensor }) => {
      const shape = tensor.shape();
      // `[positions, width]`, and `[1, positions]` or `[1, positions, width]`, as buffers are.
      const count = shape[0] === 1 ? shape[1] : shape[0];
      return POSITIONS.test(name) && shape.length >= 2 && count !== undefined ? [{ name, count }] : [];
    })
    .sort((left, right) => left.count - right.count)[0];
}

function tooLong(message: string, given: readonly Given[], model: NativeModel): string | undefined {
  const sequences = given.filter(isSequence);
  const sizes = SIZES.exec(message)?.slice(1).filter(Boolean).map(Number);
  if (!sizes && !/index out of range/.test(message)) return undefined;
  const table = positionsOf(model);
  const beyondTable = table && sequences.find((each) => lengthOf(each) > table.count);
  if (table && beyondTable) {
    return `Expected at most ${table.count} tokens but received ${lengthOf(beyondTable)} in ${beyondTable.place} ('${table.name}' has as many positions)`;
  }
  const [one, other] = sizes ?? [];
  const sequence = sequences.find((each) => lengthOf(each) === one || lengthOf(each) === other);
  if (!sequence || one === undefined || other === undefined) return undefined;
  const expected = lengthOf(sequence) === one ? other : one;
  // A size of one broadcasts; where lengths of inputs differ, neither is the model's.
  if (expected <= 1 || new Set(sequences.map(lengthOf)).size > 1) return undefined;
  return `Expected ${expected} tokens, as the model was traced with or has positions for, but received ${lengthOf(sequence)} in ${sequence.place}`;
}

/** Tables that no ids are looked up in: those of positions and of segments. */
const OTHER_TABLES = /pos|wpe|type|segment/i;

/** An id beyond every table that it could be looked up in. */
function beyondVocabulary(message: string, given: readonly Given[], model: NativeModel): string | undefined {
  if (!/index out of range/.test(message)) return undefined;
  const tables = model
    .stateDict()
    .flatMap(({ name, tensor }) =>
      /emb|wte|tok/i.test(name) && !OTHER_TABLES.test(name) && tensor.shape().length === 2
        ? [{ name, rows: tensor.shape()[0] as number }]
        : [],
    );
  const largest = tables.sort((left, right) => right.rows - left.rows)[0];
  if (!largest) return undefined;
  for (const each of given.filter(isSequence)) {
    for (const id of each.tensor.toTypedArray()) {
      if (id >= 0 && id < largest.rows) continue;
      return `Expected ids from 0 to ${largest.rows - 1} but received ${id} in ${each.place} ('${largest.name}' has ${largest.rows} rows)`;
    }
  }
  return undefined;
}

function floatingIds(message: string, given: readonly Given[]): string | undefined {
  if (!/'indices' to have one of the following scalar types|tensors used as indices must be/.test(message))
    return undefined;
  const floats = given.filter((each) => kindOf(each) === 'float');
  if (floats.length === 0) return undefined;
  const list = floats.map(({ place, dtype }) => `${dtype} for ${place}`).join(' and ');
  return `Expected integers where the model looks something up but received ${list}: ids are made of bigints, or with dtype: 'int64'`;
}

/**
 * The error of a run with what the caller can change ahead of what libtorch says; any other error as it is.
 *
 * @param names Of the parameters, in order.
 */
export function explainFailure(
  error: unknown,
  inputs: readonly unknown[],
  model: NativeModel,
  names: () => readonly string[],
): unknown {
  if (!(error instanceof TorchError) || error.code !== 'ERR_MODEL_RUN') return error;
  const { message, nativeStack } = error;
  try {
    const given = tensorsOf(inputs, names());
    const reason =
      floatingIds(message, given) ?? tooLong(message, given, model) ?? beyondVocabulary(message, given, model);
    if (reason === undefined) return error;
    // Shown once, by the error around it.
    Object.defineProperty(error, 'nativeStack', { enumerable: false });
    return new TorchError('ERR_MODEL_RUN', `${reason}: ${message}`, {
      cause: error,
      ...(nativeStack === undefined ? {} : { nativeStack }),
    });
  } catch {
    return error; // a model that was disposed meanwhile
  }
}
