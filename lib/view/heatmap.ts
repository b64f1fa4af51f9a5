import stringWidth from 'string-width';
import { TorchError } from '../core/errors';
import { bounds, maxPool } from './max-pool';

export interface HeatmapOptions {
  /** Columns of the terminal to fill at most. Default: those of stdout, or 100. */
  width?: number;
  /** Lines for rows of the matrix at most; longer sequences are shown with several rows a line. Default 48. */
  height?: number;
  /** 24-bit colour, or shades of characters. Default: colour where stdout is a terminal that has it (see NO_COLOR). */
  color?: boolean;
}

const LABEL_WIDTH = 14;
const KEY_LABEL_LINES = 10;
const SHADES = ' ░▒▓█';
/** From the least to the largest weight; readable on dark terminals as on light ones. */
const COLOURS = [
  [13, 8, 41],
  [81, 18, 124],
  [183, 55, 121],
  [252, 137, 97],
  [252, 253, 191],
] as const;

/**
 * One head's weights as lines of text: a line a query, the keys' tokens above, darkest to lightest from 0 to the largest
 * weight. What doesn't fit is down-sampled, each cell the largest of those that it stands for, with positions as labels.
 * @param weights `[Q, K]`, row-major.
 * @param queryTokens One a row; positions are shown where it is empty.
 * @param keyTokens One a column; positions are shown where it is empty.
 * @throws {TorchError} ERR_INVALID_ARGUMENT for weights that are no matrix.
 */
export function renderHeatmap(
  weights: { shape: readonly number[]; data: ArrayLike<number> },
  queryTokens: readonly string[],
  keyTokens: readonly string[],
  options: HeatmapOptions = {},
): string {
  const [rows, columns] = weights.shape as [number, number];
  if (weights.shape.length !== 2 || rows * columns !== weights.data.length) {
    const received = `${weights.data.length} elements of shape [${weights.shape.join(', ')}]`;
    throw new TorchError('ERR_INVALID_ARGUMENT', `Expected weights of shape [Q, K] but received ${received}`);
  }
  const color = options.color ?? hasColour();
  const width = options.width ?? process.stdout.columns ?? 100;

  const lines = Math.max(1, Math.min(rows, options.height ?? 48));
  const edges = bounds(rows, lines);
  const rowLabels = Array.from({ length: lines }, (_, line) => {
    const [from, to] = [edges[line] as number, edges[line + 1] as number];
    return to - from === 1 ? shown(queryTokens[from] ?? String(from)) : `${from}–${to - 1}`;
  });
  const margin = Math.min(LABEL_WIDTH, Math.max(1, ...rowLabels.map((label) => stringWidth(label)))) + 1;
  const room = Math.max(8, width - margin - 1);
  const cell = columns * 2 <= room ? 2 : 1;
  const across = Math.max(1, Math.min(columns, Math.floor(room / cell)));

  const cells = maxPool(Float64Array.from(weights.data), rows, columns, lines, across);
  const maximum = cells.reduce((most, cell) => Math.max(most, cell), 0);
  const header =
    cell === 2
      ? keyLines(Array.from({ length: columns }, (_, i) => shown(keyTokens[i] ?? String(i))))
      : [ticks(columns, across)];
  const text = header.map((line) => `${' '.repeat(margin)}${line}`.trimEnd());
  for (let line = 0; line < lines; line++) {
    const label = padStart(truncate(rowLabels[line] as string, LABEL_WIDTH), margin - 1);
    let body = '';
    for (let i = 0; i < across; i++) {
      body += paint((cells[line * across + i] as number) / (maximum || 1), cell, color);
    }
    text.push(color ? `${label} ${body}\u001b[0m` : `${label} ${body}`.trimEnd());
  }
  text.push(`${' '.repeat(margin)}${legend(maximum, color)}`);
  return text.join('\n');
}

function hasColour(): boolean {
  return process.stdout.isTTY === true && process.stdout.getColorDepth() >= 24;
}

function paint(share: number, width: number, color: boolean): string {
  if (!color) {
    // A weight that is there at all is not shown as nothing, from a twentieth of the largest on.
    const shade = share < 0.05 ? 0 : Math.max(1, Math.round(share * (SHADES.length - 1)));
    return (SHADES[shade] as string).repeat(width);
  }
  const at = Math.max(0, Math.min(share, 1)) * (COLOURS.length - 1);
  const from = COLOURS[Math.floor(at)] as readonly number[];
  const to = COLOURS[Math.ceil(at)] as readonly number[];
  const mixed = from.map((part, i) => Math.round(part + ((to[i] as number) - part) * (at % 1)));
  return `\u001b[48;2;${mixed.join(';')}m${' '.repeat(width)}`;
}

function legend(maximum: number, color: boolean): string {
  const scale = [0.02, 0.25, 0.5, 0.75, 1].map((share) => paint(share, 3, color)).join('');
  return `0 ${scale}${color ? '\u001b[0m' : ''} ${maximum.toPrecision(3)}`;
}

/** Tokens downwards, one character a line, two columns each; cut where they are long. */
function keyLines(tokens: readonly string[]): string[] {
  const labels = tokens.map((token) => {
    const all = characters(token);
    return all.length > KEY_LABEL_LINES ? [...all.slice(0, KEY_LABEL_LINES - 1), '…'] : all;
  });
  const height = Math.max(1, ...labels.map((label) => label.length));
  return Array.from({ length: height }, (_, line) =>
    labels.map((label) => padEnd(label[line - (height - label.length)] ?? '', 2)).join(''),
  );
}

/** Positions above the columns that they belong to. */
function ticks(columns: number, across: number): string {
  let line = '';
  bounds(columns, across).forEach((from, i) => {
    if (i >= line.length && i % 10 === 0 && i + String(from).length <= across) line = `${line.padEnd(i)}${from} `;
  });
  return line;
}

/** A token with white space made visible and nothing in it that would move the cursor. */
function shown(token: string): string {
  return (
    token
      .replaceAll('\n', '↵')
      .replaceAll(' ', '␣')
      .replace(/\p{Cc}/gu, '�') || '∅'
  );
}

function characters(text: string): string[] {
  return Array.from(new Intl.Segmenter().segment(text), ({ segment }) => segment);
}

function truncate(text: string, width: number): string {
  if (stringWidth(text) <= width) return text;
  let cut = '';
  for (const character of characters(text)) {
    if (stringWidth(cut + character) > width - 1) break;
    cut += character;
  }
  return `${cut}…`;
}

function padStart(text: string, width: number): string {
  return ' '.repeat(Math.max(0, width - stringWidth(text))) + text;
}

function padEnd(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - stringWidth(text)));
}
