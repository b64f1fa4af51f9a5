import { randomBytes } from 'node:crypto';
import { componentsOf, DTYPE_NAMES, DTYPES, type DType, infoOf, isDType } from '../core/dtype';
import { elementCount, isShape, MAX_DIMENSIONS } from '../core/shape';
import { shortened, shown } from '../core/validate';
import { arrayLength, type Entries, type Entry, type EntryData, malformed } from './entry';
import { readWhole } from './file';

/** A number as written: 1.0 is a float and 1 an integer, which JSON.parse would not tell apart. */
class NumberText {
  readonly isFloat: boolean;

  constructor(readonly text: string) {
    this.isFloat = !/^-?\d+$/.test(text);
  }
}

/** JSON takes many times its size in memory, and says the least with the most: other formats are for large arrays. */
const MAX_BYTES = 2 ** 27;
/** The most numbers, strings, arrays and objects. */
const MAX_VALUES = 2 ** 24;
/** How deep they may be nested: the dimensions of a tensor, and what stands around it. */
const MAX_DEPTH = MAX_DIMENSIONS + 8;
/** Longer integers fit no type. */
const MAX_DIGITS = 400;

/**
 * Reads tensors from JSON: an object of named arrays, or an array of positional ones (named '0', '1', …).
 * Each is a scalar, a nested array, or `{ "dtype": …, "shape": …, "data": … }` with `shape` and `dtype` optional.
 * Without a dtype, integers become int64, numbers with a point or an exponent float32, booleans bool. Elements of complex
 * dtypes are pairs of a real and an imaginary part, which `shape` doesn't count as a dimension. `NaN` and
 * `Infinity` are read as Python writes them and, beside a dtype, as the texts that `Tensor.toJSON` has for them and for
 * integers beyond 2⁵³.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for what isn't JSON, ragged arrays, or elements that don't fit the dtype.
 */
export async function readJson(path: string): Promise<Entries> {
  return parseJson(new TextDecoder().decode(await readWhole(path, MAX_BYTES)), path);
}

/** What a JSON file of another kind holds. @throws SyntaxError where it isn't JSON. */
export async function readJsonValue(path: string): Promise<unknown> {
  return JSON.parse(new TextDecoder().decode(await readWhole(path, MAX_BYTES)));
}

/** The same as `readJson` for a text; `source` stands for it in error messages. */
export function parseJson(text: string, source = 'JSON data'): Entries {
  // No text in the file can begin with it, since nobody knows it beforehand.
  const mark = randomBytes(6).toString('base64');
  const marked = markNumbers(text, mark, source);
  let root: unknown;
  try {
    root = JSON.parse(marked);
  } catch (error) {
    // Only a text without marks is shown.
    throw malformed(source, 'JSON', `text that isn't: ${reasonOf(text)}`, error);
  }
  if (typeof root !== 'object' || root === null) {
    throw malformed(
      source,
      'an object of named tensors, or an array of positional ones',
      describe(unmarked(root, mark)),
    );
  }
  return { entries: Object.entries(root).map(([name, value]) => parseTensor(name, value, mark, source)) };
}

/** What JSON.parse says of a text that isn't JSON. */
function reasonOf(text: string): string {
  try {
    JSON.parse(text);
    return 'a number in it is none';
  } catch (error) {
    return shortened((error as Error).message);
  }
}

// The literals that Python adds to JSON count as numbers.
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|NaN|-?Infinity/y;

/** Makes a string of every number in a JSON text, with a mark before it. Goes over the text once. */
function markNumbers(text: string, mark: string, source: string): string {
  const pieces: string[] = [];
  let copied = 0;
  let values = 0;
  let depth = 0;
  const count = (): void => {
    if (++values > MAX_VALUES)
      throw malformed(source, `JSON of at most ${MAX_VALUES} values`, 'more: use .npz or .safetensors');
  };
  for (let at = 0; at < text.length; ) {
    const character = text[at] as string;
    if (character === '"') {
      count();
      at = endOfString(text, at);
    } else if (character === '[' || character === '{') {
      count();
      if (++depth > MAX_DEPTH) throw malformed(source, `JSON nested at most ${MAX_DEPTH} deep`, 'deeper');
      ++at;
    } else if (character === ']' || character === '}') {
      --depth;
      ++at;
    } else if (character === '-' || character === 'N' || character === 'I' || (character >= '0' && character <= '9')) {
      NUMBER.lastIndex = at;
      const [number] = NUMBER.exec(text) ?? [];
      if (number === undefined) {
        ++at;
        continue;
      }
      count();
      pieces.push(text.slice(copied, at), '"', mark, number, '"');
      at += number.length;
      copied = at;
    } else {
      ++at;
    }
  }
  pieces.push(text.slice(copied));
  return pieces.join('');
}

/** The place after the string that begins at `at`. */
function endOfString(text: string, at: number): number {
  for (let i = at + 1; i < text.length; ++i) {
    if (text[i] === '\\') ++i;
    else if (text[i] === '"') return i + 1;
  }
  return text.length;
}

/** A leaf as it was written. */
function unmarked(leaf: unknown, mark: string): unknown {
  return typeof leaf === 'string' && leaf.startsWith(mark) ? new NumberText(leaf.slice(mark.length)) : leaf;
}

function parseTensor(name: string, value: unknown, mark: string, source: string): Entry {
  const where = `${source}, tensor '${shortened(name)}'`;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return makeEntry(name, value, undefined, undefined, mark, where);
  }
  const { dtype, shape, data, ...others } = value as Record<string, unknown>;
  const unknown = Object.keys(others);
  if (data === undefined || unknown.length) {
    const received = data === undefined ? describe(value) : shortened(unknown.join(', '));
    throw malformed(where, 'data, dtype and shape', received);
  }
  if (dtype !== undefined && !isDType(dtype)) {
    throw malformed(where, `a dtype of ${DTYPE_NAMES.join(', ')}`, describe(unmarked(dtype, mark)));
  }
  const sizes = Array.isArray(shape)
    ? shape.slice(0, MAX_DIMENSIONS + 1).map((size) => {
        const item = unmarked(size, mark);
        return item instanceof NumberText ? Number(item.text) : item;
      })
    : shape;
  if (sizes !== undefined && !isShape(sizes)) {
    throw malformed(
      where,
      `a shape of at most ${MAX_DIMENSIONS} non-negative integers`,
      describe(unmarked(sizes, mark)),
    );
  }
  return makeEntry(name, data, dtype, sizes, mark, where);
}

function makeEntry(
  name: string,
  nested: unknown,
  dtype: DType | undefined,
  shape: number[] | undefined,
  mark: string,
  where: string,
): Entry {
  const leaves: unknown[] = [];
  const nestedShape = shapeOf(nested);
  if (nestedShape.length > MAX_DIMENSIONS)
    throw malformed(where, `at most ${MAX_DIMENSIONS} dimensions`, `${nestedShape.length}`);
  collect(nested, nestedShape, 0, leaves, mark, where);
  const kind = dtype ?? inferDType(leaves, where);
  const sizes = shape ?? elementShape(nestedShape, kind, leaves.length, where);
  if (arrayLength(kind, sizes) !== leaves.length) {
    const received = leaves.length / componentsOf(kind);
    throw malformed(where, `${elementCount(sizes)} elements for shape [${sizes}]`, `${received}`);
  }
  const numbers = dtype === undefined ? leaves : leaves.map(numberOfText);
  return { name, dtype: kind, shape: sizes, data: convert(numbers, kind, where) };
}

/** The shape of elements in arrays of a shape: the innermost ones of complex elements are pairs. */
function elementShape(nested: readonly number[], dtype: DType, leaves: number, where: string): number[] {
  if (componentsOf(dtype) === 1 || (leaves === 0 && nested.length > 0)) return [...nested];
  if (nested.at(-1) === 2) return nested.slice(0, -1);
  throw malformed(
    where,
    `pairs of a real and an imaginary part for ${dtype}`,
    nested.length ? `arrays of ${nested.at(-1)}` : 'a number',
  );
}

/** A number that stands as a text where JSON has none for it; anything else as it is. */
function numberOfText(leaf: unknown): unknown {
  return typeof leaf === 'string' && /^(NaN|-?Infinity|-?\d+)$/.test(leaf) ? new NumberText(leaf) : leaf;
}

function shapeOf(nested: unknown): number[] {
  return Array.isArray(nested) ? [nested.length, ...(nested.length ? shapeOf(nested[0]) : [])] : [];
}

function collect(
  nested: unknown,
  shape: number[],
  depth: number,
  leaves: unknown[],
  mark: string,
  where: string,
): void {
  if (depth === shape.length && !Array.isArray(nested)) {
    leaves.push(unmarked(nested, mark));
    return;
  }
  if (!Array.isArray(nested) || nested.length !== shape[depth]) {
    const expected = depth < shape.length ? `${shape[depth]} elements` : 'a single element';
    throw malformed(where, `arrays of equal lengths, ${expected} at depth ${depth}`, describe(unmarked(nested, mark)));
  }
  for (const item of nested) collect(item, shape, depth + 1, leaves, mark, where);
}

function inferDType(leaves: readonly unknown[], where: string): DType {
  const wrong = leaves.find((leaf) => typeof leaf !== 'boolean' && !(leaf instanceof NumberText));
  if (wrong !== undefined) throw malformed(where, 'numbers or booleans', describe(wrong));
  const booleans = leaves.filter((leaf) => typeof leaf === 'boolean').length;
  if (booleans && booleans !== leaves.length) throw malformed(where, 'either numbers or booleans', 'both');
  if (booleans) return 'bool';
  return leaves.length === 0 || leaves.some((leaf) => (leaf as NumberText).isFloat) ? 'float32' : 'int64';
}

function convert(leaves: readonly unknown[], dtype: DType, where: string): EntryData {
  const data = new DTYPES[dtype].array(leaves.length);
  const elements: Record<number, number | bigint> = data;
  leaves.forEach((leaf, i) => {
    elements[i] = element(leaf, dtype, where);
    if (DTYPES[dtype].kind === 'integer' && BigInt(elements[i]) !== BigInt(integer(leaf, where))) {
      throw malformed(where, `integers that fit ${dtype}`, describe(leaf));
    }
  });
  return data;
}

function element(leaf: unknown, dtype: DType, where: string): number | bigint {
  if (dtype === 'bool') {
    const value = leaf instanceof NumberText ? Number(leaf.text) : Number(leaf);
    if (value !== 0 && value !== 1) throw malformed(where, 'true, false, 0 or 1', describe(leaf));
    return value;
  }
  if (typeof infoOf(dtype).range?.[0] === 'bigint') return BigInt(integer(leaf, where));
  if (DTYPES[dtype].kind === 'integer') return Number(integer(leaf, where));
  if (!(leaf instanceof NumberText)) throw malformed(where, `numbers for ${dtype}`, describe(leaf));
  const value = Number(leaf.text);
  const { bits } = infoOf(dtype);
  return bits ? bits(value) : value;
}

/** The digits of an integer. Booleans count as 0 and 1, as in Python. */
function integer(leaf: unknown, where: string): string {
  if (typeof leaf === 'boolean') return leaf ? '1' : '0';
  if (!(leaf instanceof NumberText) || leaf.isFloat) throw malformed(where, 'integers', describe(leaf));
  if (leaf.text.length > MAX_DIGITS) throw malformed(where, 'integers that fit a type', shortened(leaf.text));
  return leaf.text;
}

function describe(value: unknown): string {
  if (value instanceof NumberText) return shortened(value.text);
  return typeof value === 'object' && value !== null ? shown(value) : shortened(JSON.stringify(value) ?? 'nothing', 60);
}
