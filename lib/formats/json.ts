import { readFile } from 'node:fs/promises';
import {
  ARRAY_OF,
  type Entries,
  type Entry,
  type EntryData,
  type EntryDType,
  elementCount,
  isShape,
  malformed,
} from './entry';
import { toBfloat16Bits, toFloat16Bits } from './half';

/** A number as written: 1.0 is a float and 1 an integer, which JSON.parse would not tell apart. */
class NumberText {
  constructor(
    readonly text: string,
    readonly isFloat: boolean,
  ) {}
}

/**
 * Reads tensors from JSON: an object of named arrays, or an array of positional ones (named '0', '1', …).
 * Each is a scalar, a nested array, or `{ "dtype": …, "shape": …, "data": … }` with `shape` and `dtype` optional.
 * Without a dtype, integers become int64, numbers with a point or an exponent float32, booleans bool. `NaN` and
 * `Infinity` are read as Python writes them.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for what isn't JSON, ragged arrays, or elements that don't fit the dtype.
 */
export async function readJson(path: string): Promise<Entries> {
  return parseJson(await readFile(path, 'utf8'), path);
}

/** The same as `readJson` for a text; `source` stands for it in error messages. */
export function parseJson(text: string, source = 'JSON data'): Entries {
  let root: unknown;
  try {
    root = parseKeepingNumbers(text);
  } catch (error) {
    throw malformed(source, 'JSON', `text that isn't: ${(error as Error).message}`, error);
  }
  if (typeof root !== 'object' || root === null || root instanceof NumberText) {
    throw malformed(source, 'an object of named tensors, or an array of positional ones', describe(root));
  }
  return { entries: Object.entries(root).map(([name, value]) => parseTensor(name, value, source)) };
}

// A string, or a number outside of strings; the literals that Python adds to JSON count as numbers.
const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|NaN|-?Infinity/g;
const MARK = '\u0000number:';

function parseKeepingNumbers(text: string): unknown {
  const marked = text.replace(STRING_OR_NUMBER, (token) =>
    token.startsWith('"') ? token : JSON.stringify(MARK + token),
  );
  return JSON.parse(marked, (_key, value) => {
    if (typeof value !== 'string' || !value.startsWith(MARK)) return value;
    const number = value.slice(MARK.length);
    return new NumberText(number, !/^-?\d+$/.test(number));
  });
}

function parseTensor(name: string, value: unknown, source: string): Entry {
  const where = `${source}, tensor '${name}'`;
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof NumberText) {
    return makeEntry(name, value, undefined, undefined, where);
  }
  const { dtype, shape, data, ...others } = value as Record<string, unknown>;
  const unknown = Object.keys(others);
  if (data === undefined || unknown.length) {
    throw malformed(where, 'data, dtype and shape', data === undefined ? describe(value) : unknown.join(', '));
  }
  if (dtype !== undefined && !(typeof dtype === 'string' && Object.hasOwn(ARRAY_OF, dtype))) {
    throw malformed(where, `a dtype of ${Object.keys(ARRAY_OF).join(', ')}`, describe(dtype));
  }
  const sizes = Array.isArray(shape)
    ? shape.map((item) => (item instanceof NumberText ? Number(item.text) : item))
    : shape;
  if (sizes !== undefined && !isShape(sizes)) {
    throw malformed(where, 'a shape of non-negative integers', describe(sizes));
  }
  return makeEntry(name, data, dtype as EntryDType | undefined, sizes, where);
}

function makeEntry(
  name: string,
  nested: unknown,
  dtype: EntryDType | undefined,
  shape: number[] | undefined,
  where: string,
): Entry {
  const leaves: unknown[] = [];
  const nestedShape = shapeOf(nested);
  collect(nested, nestedShape, 0, leaves, where);
  if (shape && elementCount(shape) !== leaves.length) {
    throw malformed(where, `${elementCount(shape)} elements for shape [${shape}]`, `${leaves.length}`);
  }
  const kind = dtype ?? inferDType(leaves, where);
  return { name, dtype: kind, shape: shape ?? nestedShape, data: convert(leaves, kind, where) };
}

function shapeOf(nested: unknown): number[] {
  return Array.isArray(nested) ? [nested.length, ...(nested.length ? shapeOf(nested[0]) : [])] : [];
}

function collect(nested: unknown, shape: number[], depth: number, leaves: unknown[], where: string): void {
  if (depth === shape.length && !Array.isArray(nested)) {
    leaves.push(nested);
    return;
  }
  if (!Array.isArray(nested) || nested.length !== shape[depth]) {
    const expected = depth < shape.length ? `${shape[depth]} elements` : 'a single element';
    throw malformed(where, `arrays of equal lengths, ${expected} at depth ${depth}`, describe(nested));
  }
  for (const item of nested) collect(item, shape, depth + 1, leaves, where);
}

function inferDType(leaves: readonly unknown[], where: string): EntryDType {
  const wrong = leaves.find((leaf) => typeof leaf !== 'boolean' && !(leaf instanceof NumberText));
  if (wrong !== undefined) throw malformed(where, 'numbers or booleans', describe(wrong));
  const booleans = leaves.filter((leaf) => typeof leaf === 'boolean').length;
  if (booleans && booleans !== leaves.length) throw malformed(where, 'either numbers or booleans', 'both');
  if (booleans) return 'bool';
  return leaves.length === 0 || leaves.some((leaf) => (leaf as NumberText).isFloat) ? 'float32' : 'int64';
}

function convert(leaves: readonly unknown[], dtype: EntryDType, where: string): EntryData {
  const data = new ARRAY_OF[dtype](leaves.length);
  const elements: Record<number, number | bigint> = data;
  leaves.forEach((leaf, i) => {
    elements[i] = element(leaf, dtype, where);
    if (/^u?int/.test(dtype) && BigInt(elements[i]) !== BigInt(integer(leaf, where))) {
      throw malformed(where, `integers that fit ${dtype}`, describe(leaf));
    }
  });
  return data;
}

function element(leaf: unknown, dtype: EntryDType, where: string): number | bigint {
  if (dtype === 'bool') {
    const value = leaf instanceof NumberText ? Number(leaf.text) : Number(leaf);
    if (value !== 0 && value !== 1) throw malformed(where, 'true, false, 0 or 1', describe(leaf));
    return value;
  }
  if (dtype === 'int64') return BigInt(integer(leaf, where));
  if (/^u?int/.test(dtype)) return Number(integer(leaf, where));
  if (!(leaf instanceof NumberText)) throw malformed(where, `numbers for ${dtype}`, describe(leaf));
  const value = Number(leaf.text);
  if (dtype === 'float16') return toFloat16Bits(value);
  return dtype === 'bfloat16' ? toBfloat16Bits(value) : value;
}

/** The digits of an integer. Booleans count as 0 and 1, as in Python. */
function integer(leaf: unknown, where: string): string {
  if (typeof leaf === 'boolean') return leaf ? '1' : '0';
  if (!(leaf instanceof NumberText) || leaf.isFloat) throw malformed(where, 'integers', describe(leaf));
  return leaf.text;
}

function describe(value: unknown): string {
  if (value instanceof NumberText) return value.text;
  const text =
    JSON.stringify(value, (_key, item) => (item instanceof NumberText ? Number(item.text) : item)) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
