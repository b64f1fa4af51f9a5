import { isSpecial } from '../../axis-tokens';
import type { FigureModule, HeadFigureInput, RowInput } from '../../figure-input';
import { type AxisLabels, labelsOf, patchNames, verbOf } from '../axis-labels';
import type { Scale } from '../colour';
import { headLines } from '../head-lines';
import { lineValues } from '../head-values';
import { lineCsv } from '../line-csv';
import { Matrix } from '../matrix';
import { patchShade, positionName, weighted } from '../patches';
import { TopKeys } from '../store';
import { type Side, wordValues } from '../word-values';
import { toWords } from '../words';
import { describeScale, dimmedNote, figureSvg, linesNote } from './figure';
import { drawImage } from './image-drawing';
import { drawLines } from './lines-drawing';
import { cellsNote, drawMatrix, hasMasked, type MatrixFigure } from './matrix-drawing';
import { drawText } from './text-drawing';
import { textFigure } from './text-figure';

// What is here makes figures outside of the page; nothing of it may need a document.

/** A head, all of whose weights are known exactly. */
interface Head {
  data: { matrix: Matrix; pooled: false; top: TopKeys };
  labels: Record<Side, AxisLabels>;
  scale: Scale;
}

export const headFigure: FigureModule['headFigure'] = (input) => {
  const head = readHead(input);
  if (input.figure === 'heads') return linesSvg(input, head);
  if (input.figure === 'text') return textSvg(input, head);
  if (input.figure === 'image') return imageSvg(input, head);
  const { rows, columns, shown, caption, encode } = input;
  const { data, labels, scale } = head;
  const figure: MatrixFigure = {
    matrix: data.matrix,
    rows,
    columns,
    shown,
    queries: labels.query,
    keys: labels.key,
    scale,
  };
  const parts = [caption, describeScale(scale), cellsNote(figure)];
  const text = parts.filter(Boolean).join(' · ');
  return figureSvg(drawMatrix(figure, encode), {
    text,
    scales: [{ scale }],
    masked: hasMasked(figure) ? 'masked' : undefined,
  });
};

function linesSvg(input: HeadFigureInput, { data, labels, scale }: Head): string {
  const { columns, shown, threshold, asked, name, caption } = input;
  const { lines } = headLines([data], { columns, signed: scale.signed ?? false }, shown, threshold);
  const drawing = drawLines({
    queries: labels.query,
    keys: labels.key,
    shown,
    lines,
    heads: [{ name, scale }],
    focus: asked ? { side: asked.from, index: asked.index } : null,
    fadeSpecial: false,
  });
  return figureSvg(drawing, { text: `${caption} · ${linesNote(threshold, scale)}`, scales: [] });
}

function textSvg(input: HeadFigureInput, { data, labels, scale }: Head): string {
  const { rows, columns, shown, queries, queryTokens, keyTokens, mergeWords, asked, caption } = input;
  const whole = queries.length === rows && queries.every((query, row) => query === row);
  const isOneText = rows === columns && whole && queryTokens?.join('\n') === keyTokens?.join('\n');
  const inside = (side: Side, [from, to]: [number, number]) =>
    toWords(labels[side], mergeWords).filter((word) => word.from >= from && word.to <= to);
  const words = { query: inside('query', shown.rows), key: inside('key', shown.columns) };
  const word = asked && words[asked.from].find(({ from, to }) => asked.index >= from && asked.index < to);
  const figure = textFigure({
    labels,
    words,
    isOneText,
    asked: asked && word ? { from: asked.from, word } : null,
    values: asked && word ? wordValues(data, input, asked.from, word) : undefined,
    scale,
  });
  return figureSvg(drawText(figure), {
    text: `${caption} · ${describeScale(scale)}`,
    scales: [{ scale }],
  });
}

function imageSvg(input: HeadFigureInput, { data, labels, scale }: Head): string {
  const { asked, caption } = input;
  const { url, patches, prefix, size } = input.image as NonNullable<HeadFigureInput['image']>;
  const values = asked && lineValues(data, input, asked.from, asked.index);
  const others = labels[asked?.from === 'key' ? 'query' : 'key'].positions;
  const valueAt = (position: number) => values?.[others.indexOf(position)];
  const nameOf = (position: number) => positionName(labels.key.text[position] ?? String(position), position < prefix);
  const position = asked ? (labels[asked.from].positions[asked.index] as number) : -1;
  const drawing = drawImage({
    heading: asked ? `${nameOf(position)} ${verbOf(asked.from)}` : '',
    url,
    size,
    patches,
    shades: Array.from({ length: patches[0] * patches[1] }, (_, patch) =>
      patchShade(valueAt(prefix + patch) ?? 0, scale, false),
    ),
    framed: position < prefix ? undefined : position - prefix,
    tokens: Array.from({ length: prefix }, (_, i) => weighted(nameOf(i), valueAt(i))),
  });
  return figureSvg(drawing, {
    text: `${caption} · ${describeScale(scale)}${dimmedNote(scale)}`,
    scales: [],
  });
}

export const rowCsv: FigureModule['rowCsv'] = (input, row) => {
  const { rows, columns } = input;
  const { data, labels } = readHead({ ...input, scale: 'linear' });
  return lineCsv(data, { rows, columns }, 'query', row, labels.key);
};

function readHead(input: RowInput & Partial<HeadFigureInput>): Head {
  const { weights, rows, columns } = input;
  let largest = 0;
  let signed = false;
  for (const weight of weights) {
    if (weight < 0) signed = true;
    const size = Math.abs(weight);
    if (size > largest && size < Number.POSITIVE_INFINITY) largest = size;
  }
  const share = largest <= 1.0001 && !signed ? 1 : largest;
  const kind = input.scale ?? 'log';
  // As on a page: one for all heads, as far as there are any others.
  const shared = Math.max(signed || share > 1 ? 0 : 0.001, input.largest || largest) || 1;
  return {
    data: {
      matrix: Matrix.fromFloats(rows, columns, weights, { scale: share, signed }),
      pooled: false,
      top: new TopKeys([]),
    },
    labels: axes(input),
    scale: { kind, signed, largest: kind === 'root' ? largest || 1 : kind === 'log' ? shared : share },
  };
}

function axes({ queries, queryTokens, keyTokens, columns, image }: RowInput & Partial<HeadFigureInput>) {
  const special = (tokens: readonly string[] = []) => tokens.flatMap((token, i) => (isSpecial(token) ? [i] : []));
  const keys = Array.from({ length: columns }, (_, i) => i);
  const names = image && patchNames(image);
  return {
    query: labelsOf([...queries], queryTokens ?? names, special(queryTokens), {}),
    key: labelsOf(keys, keyTokens ?? names, special(keyTokens), {}),
  };
}
