import type { ViewDataAttention, ViewDataExample, ViewDataImage } from '../view-data';
import { quote } from './format';

/** How tokens and the positions of rows and columns are written. */
export interface AxisLabels {
  /** By row or column. */
  text: string[];
  /** Positions in the sequence, by row or column. */
  positions: number[];
  /** Whether the texts are tokens, and not the positions themselves. */
  areTokens: boolean;
  /** Rows or columns of special tokens. */
  special: Set<number>;
  /** What stood in the text, by position, where the token doesn't say. */
  sources: Record<number, string>;
  /** Of a picture's patches: how many tokens come before them. */
  patchesFrom?: number;
}

/** A token with its position, or where no tokens are known the position alone. */
export function describePosition({ text, positions, areTokens, sources, patchesFrom }: AxisLabels, i: number): string {
  const position = positions[i] as number;
  if (patchesFrom !== undefined) return `${position < patchesFrom ? 'token' : 'patch'} ${text[i]} at ${position}`;
  if (!areTokens) return `position ${position}`;
  const source = sources[position];
  return `${quote(text[i] as string)}${source === undefined ? '' : ` (${quote(source)} in the text)`} at ${position}`;
}

/** What is shown of a position: what it attends to as a query, or who attends to it as a key. */
export function verbOf(from: 'query' | 'key'): string {
  return from === 'query' ? 'attends to' : 'is attended to by';
}

const known = new WeakMap<ViewDataAttention, { query?: AxisLabels; key?: AxisLabels }>();

/** Labels are asked for at each move of the pointer, and an attention's stay the same. */
function once(attention: ViewDataAttention, side: 'query' | 'key', make: () => AxisLabels): AxisLabels {
  const labels = known.get(attention) ?? {};
  known.set(attention, labels);
  return (labels[side] ??= make());
}

export function queryLabels(example: ViewDataExample, attention: ViewDataAttention): AxisLabels {
  return once(attention, 'query', () => {
    const positions = attention.queries ?? Array.from({ length: attention.rows }, (_, i) => i);
    return axisLabels(positions, example, attention.queryTokens);
  });
}

export function keyLabels(example: ViewDataExample, attention: ViewDataAttention): AxisLabels {
  return once(attention, 'key', () => {
    const positions = Array.from({ length: attention.columns }, (_, i) => i);
    return axisLabels(positions, example, attention.keyTokens);
  });
}

function axisLabels(positions: number[], example: ViewDataExample, list: number | undefined): AxisLabels {
  const at = list ?? -1;
  const patches = list === undefined && example.image ? patchNames(example.image) : undefined;
  if (patches && positions.every((position) => position < patches.length))
    return { ...labelsOf(positions, patches, [], {}), patchesFrom: example.image?.prefix ?? 0 };
  return labelsOf(positions, example.tokens[at], example.special[at] ?? [], example.sources?.[at] ?? {});
}

/** Patches by their row and column, the tokens before them by their position. */
export function patchNames({ prefix, patches }: Pick<ViewDataImage, 'prefix' | 'patches'>): string[] {
  const names = Array.from({ length: prefix }, (_, i) => `#${i}`);
  for (let row = 0; row < patches[0]; row++) {
    for (let column = 0; column < patches[1]; column++) names.push(`${row},${column}`);
  }
  return names;
}

/** Labels of rows or columns, by the tokens of their sequence. */
export function labelsOf(
  positions: number[],
  tokens: readonly string[] | undefined,
  specialPositions: readonly number[],
  sources: Record<number, string>,
): AxisLabels {
  const special = new Set(specialPositions);
  return {
    positions,
    areTokens: tokens !== undefined,
    text: positions.map((position) => tokens?.[position] ?? String(position)),
    special: new Set(positions.flatMap((position, i) => (special.has(position) ? [i] : []))),
    sources,
  };
}
