import { TorchError } from '../core/errors';
import { writeWhole } from '../formats/file';
import type { FigureKind } from '../view/figure-input';
import { markedHead, type PrepareExample, shownOf, type ViewAttention } from '../view/prepare';
import { renderHeadFigure, renderPng, renderRowCsv } from '../view/render-figure';
import type { ViewDataImage } from '../view/view-data';

/** The options of `view` that ask for one head as a figure. */
export interface FigureOptions {
  svg?: string;
  png?: string;
  csv?: string;
  layer?: string | RegExp | number;
  head?: number;
  figure: FigureKind;
  query?: number;
  key?: number;
  threshold: number;
  mergeWords?: boolean;
  /** Padding is drawn too. */
  padding?: boolean;
  /** Of a checkpoint the layer alone is captured. */
  layers?: (string | RegExp | number)[];
  scale: 'log' | 'root' | 'linear';
  pixelRatio: number;
}

/** Whether a figure is asked for, and no page. */
export function wantsFigure({ svg, png, csv }: FigureOptions): boolean {
  return svg !== undefined || png !== undefined || csv !== undefined;
}

/** Writes one head of an example as SVG and PNG, a row of it as CSV. */
export async function writeFigure(example: PrepareExample, options: FigureOptions): Promise<string[]> {
  const { svg, png, csv, layer, head, figure: kind, query, key, scale, threshold, mergeWords, pixelRatio } = options;
  if (layer === undefined)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected --layer with --svg, --png and --csv but received none');
  if (csv !== undefined && query === undefined)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected --query with --csv but received none');
  if (query !== undefined && key !== undefined)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected either --query or --key but received both');
  if ((kind === 'text' || kind === 'image') && query === undefined && key === undefined)
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected --query or --key with --figure ${kind} but received neither`,
    );
  const attention = await find(example.attentions, options.layers ? /(?:)/ : layer);
  const matrix = matrixOf(attention, head);
  const { name, operator, queries } = attention;
  const marked = await markedHead(attention, 0, matrix);
  const { weights, rows, columns, largest } = marked;
  const [queryTokens, keyTokens] = tokensOf(example, rows, columns, queries);
  const input = {
    weights,
    rows,
    columns,
    queries,
    ...(queryTokens && { queryTokens }),
    ...(keyTokens && { keyTokens }),
  };
  const written: string[] = [];
  if (svg !== undefined || png !== undefined) {
    const averaged = attention.weights.shape.length === 3;
    const which = averaged ? `mean of ${attention.heads.length} heads` : `head ${attention.heads[matrix]}`;
    const caption = [`${name || `attention ${layer}`}, ${which}`, operator, example.title].filter(Boolean).join(' · ');
    const asked =
      key === undefined
        ? query === undefined
          ? undefined
          : { from: 'query' as const, index: rowOf(query, queries) }
        : { from: 'key' as const, index: columnOf(key, columns) };
    const image = kind === 'image' ? imageOf(example, columns) : undefined;
    const trimmed = shownOf(attention, marked, queryTokens, keyTokens);
    // Who asks for a position of the padding is shown it.
    const [from, to] = asked?.from === 'key' ? trimmed.columns : trimmed.rows;
    const isInside = asked === undefined || (asked.index >= from && asked.index < to);
    const whole: typeof trimmed = { rows: [0, rows], columns: [0, columns] };
    const figure = renderHeadFigure({
      ...input,
      shown: options.padding || !isInside ? whole : trimmed,
      figure: kind,
      name: which,
      ...(asked && { asked }),
      threshold,
      largest,
      mergeWords: mergeWords ?? false,
      ...(image && { image }),
      scale,
      caption,
    });
    if (svg !== undefined) {
      await writeWhole(svg, figure);
      written.push(svg);
    }
    if (png !== undefined) {
      await writeWhole(png, await renderPng(figure, pixelRatio));
      written.push(png);
    }
  }
  if (csv !== undefined) {
    await writeWhole(csv, renderRowCsv(input, rowOf(query as number, queries)));
    written.push(csv);
  }
  return written;
}

/** The row of a query position. */
function rowOf(query: number, queries: readonly number[]): number {
  const row = queries.indexOf(query);
  if (row >= 0) return row;
  const expected = `a query from ${queries[0]} to ${queries.at(-1)}`;
  throw new TorchError('ERR_INVALID_ARGUMENT', `Expected ${expected} for --query but received ${query}`);
}

function columnOf(key: number, columns: number): number {
  if (key < columns) return key;
  throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a key from 0 to ${columns - 1} for --key but received ${key}`);
}

/** The picture whose patches are the keys. */
function imageOf({ image }: PrepareExample, columns: number): ViewDataImage {
  if (!image)
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      'Expected --image (with --patches) with --figure image but received none',
    );
  const { prefix, patches } = image;
  const count = prefix + patches[0] * patches[1];
  if (count === columns) return image;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected a picture whose patches are the ${columns} keys but received ${patches.join(' × ')} patches and ${prefix} tokens before them, ${count} in all`,
  );
}

/** The attention of a layer: by its position, its module's name, or a pattern. */
async function find(
  attentions: Iterable<ViewAttention> | AsyncIterable<ViewAttention>,
  layer: string | RegExp | number,
): Promise<ViewAttention> {
  const names: string[] = [];
  // Positions from the end wait for the last; no more than as many as they count are held.
  const last: ViewAttention[] = [];
  for await (const attention of attentions) {
    const { name } = attention;
    const matches =
      typeof layer === 'number'
        ? names.length === layer
        : typeof layer === 'string'
          ? name === layer || name.startsWith(`${layer}.`)
          : layer.test(name);
    if (matches) return attention;
    names.push(name);
    if (typeof layer === 'number' && layer < 0) {
      last.push(attention);
      if (last.length > -layer) last.shift();
    }
  }
  if (typeof layer === 'number' && layer < 0 && last.length === -layer) return last[0] as ViewAttention;
  const known = names.slice(0, 20).map((name, i) => `${i} '${name}'`);
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected one of the attentions ${known.join(', ')} for --layer but received ${layer}`,
  );
}

/** The place of a head among those captured; none need be named where there is one. */
function matrixOf({ heads, weights }: ViewAttention, head: number | undefined): number {
  if (weights.shape.length === 3) return 0;
  const matrix = head === undefined && heads.length === 1 ? 0 : heads.indexOf(head as number);
  if (matrix >= 0) return matrix;
  throw new TorchError(
    'ERR_INVALID_ARGUMENT',
    `Expected one of the heads ${heads.join(', ')} for --head but received ${head ?? 'none'}`,
  );
}

/** The token lists that fit rows and columns. */
function tokensOf(
  { tokens, targetTokens }: PrepareExample,
  rows: number,
  columns: number,
  queries: readonly number[],
): [readonly string[] | undefined, readonly string[] | undefined] {
  const first = (lists: typeof tokens) =>
    (Array.isArray(lists?.[0]) ? lists[0] : lists) as readonly string[] | undefined;
  const lists = [first(targetTokens), first(tokens)].filter((list) => list !== undefined);
  const whole = queries.every((query, row) => query === row);
  const last = Math.max(-1, ...queries);
  return [
    lists.find(({ length }) => (whole ? length === rows : length > last)),
    lists.toReversed().find(({ length }) => length === columns),
  ];
}
