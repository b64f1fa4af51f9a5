import { maxPool } from '../../max-pool';
import { MASKED } from '../../weight-code';
import type { AxisLabels } from '../axis-labels';
import { labelOf, ticksOf, tickText } from '../axis-ticks';
import { AxisWindow } from '../axis-window';
import { absentColour, colourOf, nanColour, palette, type Scale } from '../colour';
import { crop, type Matrix } from '../matrix';
import { type Drawing, MUTED, px, RULE, text, textWidth } from './svg';

/** Up to so many rows and columns, cells are vectors; above that one picture. */
export const MOST_VECTORS = 64;
/** A picture has no more rows or columns; each of its cells is the largest of those that it stands for. */
const MOST_PIXELS = 2048;
const SIDE = 460;
const LARGEST_CELL = 26;
const PITCH = 13;
const LEVEL_PITCH = 40;
const ANGLE = -60;

/** Makes a PNG of pixels, four bytes each, as a `data:` URL. */
export type EncodePicture = (pixels: Uint32Array, columns: number, rows: number) => string;

export interface MatrixFigure {
  matrix: Matrix;
  /** Of the attention; the matrix may be a picture of it. */
  rows: number;
  columns: number;
  /** What is drawn: [from, to). */
  shown: { rows: [number, number]; columns: [number, number] };
  queries: AxisLabels;
  keys: AxisLabels;
  scale: Scale;
  title?: string;
}

/** A matrix with its labels, queries down and keys across. */
export function drawMatrix(figure: MatrixFigure, encode: EncodePicture): Drawing {
  const { matrix, shown, queries, keys, scale, title } = figure;
  const [rows, columns] = [shown.rows[1] - shown.rows[0], shown.columns[1] - shown.columns[0]];
  const cell = Math.min(LARGEST_CELL, SIDE / Math.max(rows, columns));
  // A few rows of many columns would be a hairline.
  const across = new AxisWindow(
    shown.columns[0],
    columns,
    Math.max(cell * columns, Math.min(LARGEST_CELL * columns, 40)),
  );
  const down = new AxisWindow(shown.rows[0], rows, Math.max(cell * rows, Math.min(LARGEST_CELL * rows, 40)));

  const widest = (labels: AxisLabels, [from, to]: [number, number]) =>
    Math.max(...labels.text.slice(from, to).map((token) => Math.min(120, textWidth(tickText(token)))));
  const wide = widest(keys, shown.columns);
  const turned = wide > across.size - 3 && across.size >= PITCH;
  const downTicks = ticksOf(queries, down, PITCH);
  const acrossTicks = turned
    ? ticksOf(keys, across, PITCH)
    : ticksOf(keys, across, Math.min(LEVEL_PITCH, wide + 10), Math.min(LEVEL_PITCH + 8, 1.5 * wide + 8));
  const left = Math.max(52, ...downTicks.at.map((i) => textWidth(labelOf(queries, i, downTicks.tokens)))) + 10;
  const radians = (-ANGLE * Math.PI) / 180;
  const above = (title ? 22 : 0) + (turned ? Math.max(28, wide * Math.sin(radians) + 14) : 28);
  const overhang = turned ? Math.max(0, wide * Math.cos(radians) - across.size / 2) : 8;

  const parts: string[] = [];
  if (title) parts.push(text(title, left, 8, { size: 12, bold: true }));
  for (const [i, side] of ['keys →', 'queries ↓'].entries())
    parts.push(text(side, left - 8, above - 22 + 13 * i, { size: 10, anchor: 'end', colour: MUTED }));
  for (const i of downTicks.at) {
    const y = above + down.place(i + 0.5);
    parts.push(text(labelOf(queries, i, downTicks.tokens), left - 6, y, { anchor: 'end' }));
    parts.push(tick(left - 4, y, left, y));
  }
  for (const i of acrossTicks.at) {
    const x = left + across.place(i + 0.5);
    const label = labelOf(keys, i, acrossTicks.tokens);
    // The outermost would reach into the corner, or beyond the end.
    const anchor = x - left < 16 ? 'start' : left + across.length - x < 16 ? 'end' : 'middle';
    parts.push(text(label, x + (turned ? 1 : 0), above - 9, turned ? { turn: ANGLE } : { anchor }));
    parts.push(tick(x, above - 4, x, above));
  }
  const box = `x="${px(left)}" y="${px(above)}" width="${px(across.length)}" height="${px(down.length)}"`;
  parts.push(`<rect ${box} fill="url(#hatch)"/>`);
  const small =
    rows <= MOST_VECTORS && columns <= MOST_VECTORS && matrix.rows === figure.rows && matrix.columns === figure.columns;
  if (small) parts.push(vectors(matrix, across, down, left, above, scale));
  else
    parts.push(
      `<image ${box} preserveAspectRatio="none" image-rendering="pixelated" href="${picture(figure, encode)}"/>`,
    );
  parts.push(`<rect ${box} fill="none" stroke="${RULE}"/>`);
  return { width: left + across.length + overhang, height: above + down.length + 4, svg: parts.join('') };
}

function tick(x1: number, y1: number, x2: number, y2: number): string {
  return `<path d="M${px(x1)} ${px(y1)}L${px(x2)} ${px(y2)}" stroke="${RULE}"/>`;
}

/** A rectangle a cell; masked cells let the hatching through. */
function vectors(
  matrix: Matrix,
  across: AxisWindow,
  down: AxisWindow,
  left: number,
  above: number,
  scale: Scale,
): string {
  const rectangles: string[] = [];
  for (let row = down.first; row < down.first + down.count; row++) {
    for (let column = across.first; column < across.first + across.count; column++) {
      const i = row * matrix.columns + column;
      const state = matrix.state(i);
      if (state === 'masked') continue;
      const fill =
        state === 'nan'
          ? nanColour(false)
          : state === 'absent'
            ? absentColour(false)
            : colourOf(matrix.value(i), scale, false);
      const place = `x="${px(left + across.place(column))}" y="${px(above + down.place(row))}"`;
      rectangles.push(`<rect ${place} width="${px(across.size)}" height="${px(down.size)}" fill="${fill}"/>`);
    }
  }
  return `<g shape-rendering="crispEdges">${rectangles.join('')}</g>`;
}

function picture({ matrix, rows, columns, shown, scale }: MatrixFigure, encode: EncodePicture): string {
  let seen = crop(matrix, shown, { rows, columns });
  const [high, wide] = [Math.min(seen.rows, MOST_PIXELS), Math.min(seen.columns, MOST_PIXELS)];
  if (high < seen.rows || wide < seen.columns)
    seen = { rows: high, columns: wide, codes: maxPool(seen.codes, seen.rows, seen.columns, high, wide) };
  const colours = palette(matrix.code, matrix.scale, scale, false);
  return encode(
    Uint32Array.from(seen.codes, (code) => colours[code] as number),
    seen.columns,
    seen.rows,
  );
}

/** How many weights a cell of the drawing stands for, in words; empty where each has its own. */
export function cellsNote({ matrix, rows, columns, shown }: MatrixFigure): string {
  const part = (length: number, cells: number, [from, to]: [number, number]) =>
    Math.max(length / cells, (to - from) / MOST_PIXELS, 1);
  const [down, across] = [part(rows, matrix.rows, shown.rows), part(columns, matrix.columns, shown.columns)];
  if (down === 1 && across === 1) return '';
  return `each cell the largest of ${Number(down.toFixed(1))} × ${Number(across.toFixed(1))} weights`;
}

/** Whether any cell that is drawn is masked. */
export function hasMasked({ matrix, rows, columns, shown }: MatrixFigure): boolean {
  return crop(matrix, shown, { rows, columns }).codes.includes(MASKED);
}
