import { TorchError } from '../core/errors';
import { writeWhole } from '../formats/file';
import { markedHead, type PrepareExample, type ViewAttention } from '../view/prepare';
import { renderHeadFigure, renderPng, renderRowCsv } from '../view/render-figure';

/** The options of `view` that ask for one head as a figure. */
export interface FigureOptions {
  svg?: string;
  png?: string;
  csv?: string;
  layer?: string | RegExp | number;
  head?: number;
  query?: number;
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
  const { svg, png, csv, layer, head, query, scale, pixelRatio } = options;
  if (layer === undefined)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected --layer with --svg, --png and --csv but received none');
  if (csv !== undefined && query === undefined)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected --query with --csv but received none');
  const attention = await find(example.attentions, options.layers ? /(?:)/ : layer);
  const matrix = matrixOf(attention, head);
  const { name, operator, queries } = attention;
  const { weights, rows, columns } = await markedHead(attention, 0, matrix);
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
    const figure = renderHeadFigure({ ...input, scale, caption });
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
    const row = queries.indexOf(query as number);
    if (row < 0) {
      const expected = `a query from ${queries[0]} to ${queries.at(-1)}`;
      throw new TorchError('ERR_INVALID_ARGUMENT', `Expected ${expected} for --query but received ${query}`);
    }
    await writeWhole(csv, renderRowCsv(input, row));
    written.push(csv);
  }
  return written;
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
