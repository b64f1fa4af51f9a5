import { componentsOf, type DType, infoOf } from './dtype';
import { TorchError } from './errors';
import { elementCount } from './shape';
import type { NestedArray, NestedElements, Tensor } from './tensor';
import { MAX_ELEMENTS } from './validate';

type Element = number | bigint | boolean;

/** An element of a typed array as the value that it stands for. */
export function elementReader(dtype: DType): (element: number | bigint) => Element {
  const { kind, value } = infoOf(dtype);
  if (kind === 'boolean') return (element) => element !== 0;
  return value ? (bits) => value(Number(bits)) : (element) => element;
}

/** The arrays of all levels, and the elements in them. */
function sizeOf(shape: readonly number[]): number {
  let arrays = 1;
  let size = 0;
  for (const length of shape) {
    size += arrays;
    arrays *= length;
  }
  return size + elementCount(shape);
}

/** See `Tensor.toArray`. */
export function nestedElements(tensor: Tensor): NestedArray | Element {
  const { shape, dtype } = tensor;
  if (sizeOf(shape) > MAX_ELEMENTS) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a tensor of at most ${MAX_ELEMENTS} elements and rows for toArray() but received one of shape ` +
        `[${shape.join(', ')}]: use toTypedArray()`,
    );
  }
  const elements = tensor.toTypedArray();
  const value = elementReader(dtype);
  const nested = componentsOf(dtype) === 1 ? shape : [...shape, 2];
  let next = 0;
  const level = (dim: number): NestedArray | Element => {
    if (dim === nested.length) return value(elements[next++] as number | bigint);
    return Array.from({ length: nested[dim] as number }, () => level(dim + 1));
  };
  return level(0);
}

/** Elements as JSON has them: what it has no number for as a text. See `Tensor.toJSON`. */
export function jsonOf(elements: NestedElements<Element>): NestedElements<number | boolean | string> {
  if (Array.isArray(elements)) return elements.map(jsonOf);
  if (typeof elements === 'number') return Number.isFinite(elements) ? elements : String(elements);
  if (typeof elements === 'boolean') return elements;
  const number = Number(elements);
  return Number.isSafeInteger(number) ? number : String(elements);
}
