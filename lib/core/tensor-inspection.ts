import { type InspectOptions, inspect } from 'node:util';
import { infoOf, isQuantized } from './dtype';
import { nestedElements } from './nested-elements';
import type { NestedArray, Tensor } from './tensor';
import { reasonOf } from './validate';

// What is shown of a tensor: a corner of it, so that neither printing nor reading it takes long, also on a GPU.

/** The most elements that are shown, of the last dimension and of each other one. */
const MOST = 60;
const MOST_OF_ROW = 8;
const MOST_ROWS = 4;

function cornerOf(shape: readonly number[]): number[] {
  const corner: number[] = [];
  let left = MOST;
  for (const [i, size] of [...shape].reverse().entries()) {
    const shown = Math.min(size, i === 0 ? MOST_OF_ROW : MOST_ROWS, left);
    corner.unshift(shown);
    left = Math.max(1, Math.floor(left / Math.max(1, shown)));
  }
  return corner;
}

/** The elements of the corner, as nested arrays. */
function elementsOf(tensor: Tensor, corner: readonly number[]): NestedArray | number | bigint | boolean {
  const { shape } = tensor;
  let view = tensor;
  try {
    for (const [dim, size] of corner.entries()) {
      if (size === shape[dim]) continue;
      const narrowed = view.narrow(dim, 0, size);
      if (view !== tensor) view.dispose();
      view = narrowed;
    }
    return nestedElements(view);
  } finally {
    if (view !== tensor) view.dispose();
  }
}

/** Something that `inspect` shows as a text without quotes. */
function note(text: string): object {
  return { [inspect.custom]: () => text };
}

/** Rounded to the digits that tell numbers of the type apart, with a note of what is left out of each dimension. */
function displayed(elements: unknown, sizes: readonly number[], digits: number | undefined): unknown {
  if (!Array.isArray(elements)) {
    return digits !== undefined && Number.isFinite(elements)
      ? Number((elements as number).toPrecision(digits))
      : elements;
  }
  if (sizes.length === 0) {
    const [real, imaginary] = elements.map((part) => displayed(part, sizes, digits)) as [number, number];
    return note(`${real}${imaginary < 0 ? '' : '+'}${imaginary}i`);
  }
  const [size = 0, ...inner] = sizes;
  const shown: unknown[] = elements.map((each) => displayed(each, inner, digits));
  const more = size - elements.length;
  if (more > 0) shown.push(note(`… ${more} more`));
  return shown;
}

/** The numbers of a tensor as far as they are shown. */
function valuesOf(tensor: Tensor): unknown {
  const { shape, dtype } = tensor;
  if (!isQuantized(dtype)) return displayed(elementsOf(tensor, cornerOf(shape)), shape, infoOf(dtype)?.digits);
  using numbers = tensor.dequantize();
  return valuesOf(numbers);
}

function described(tensor: Tensor): Record<string, unknown> {
  const { shape, dtype, device, requiresGrad } = tensor;
  let values: unknown;
  try {
    values = valuesOf(tensor);
  } catch (error) {
    values = note(`(${reasonOf(error)})`);
  }
  return { shape: [...shape], dtype, device, ...(requiresGrad ? { requiresGrad } : {}), values };
}

/**
 * What `util.inspect` and `console.log` show of a tensor: shape, dtype, device, `requiresGrad` where it is set, and the first
 * values of each dimension. Of a tensor on a GPU those are copied, at most 60.
 */
export function inspectTensor(tensor: Tensor, depth: number, options: InspectOptions): string {
  if (depth < 0) return '[Tensor]';
  let description: Record<string, unknown>;
  try {
    description = described(tensor);
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_DISPOSED') throw error;
    return 'Tensor { (disposed) }';
  }
  return `Tensor ${inspect(description, { ...options, depth: null, maxArrayLength: null })}`;
}
