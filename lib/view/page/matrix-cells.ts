import { maxPool } from '../max-pool';
import type { ViewDataAttention } from '../view-data';
import type { AxisWindow } from './axis-window';
import { crop, type Matrix, type Picture, paintCodes } from './matrix';

/** The rows and columns of an attention, whatever resolution its matrix has. */
type Size = { rows: number; columns: number };

/** Where the cells of a picture that are in sight lie. */
interface Part {
  /** Cells of the level: [from, to). */
  cells: [number, number];
  /** Pixels of the window. */
  at: number;
  length: number;
}

function partOf(window: AxisWindow, length: number, cells: number): Part {
  const each = length / cells;
  const [from, to] = window.visible;
  const part: [number, number] = [Math.floor(from / each), Math.min(cells, Math.ceil(to / each - 1e-6))];
  const at = window.place(part[0] * each);
  return { cells: part, at, length: window.place(part[1] * each) - at };
}

/** Draws what is in sight of a matrix, each pixel the largest of the weights that it stands for. */
export function paintCells(
  canvas: HTMLCanvasElement,
  scratch: HTMLCanvasElement,
  matrix: Matrix,
  size: Size,
  windows: { across: AxisWindow; down: AxisWindow },
  colours: Uint32Array,
): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const { across, down } = windows;
  const ratio = canvas.width / across.length;
  // A level with at least as many cells as there are pixels for the whole head.
  const level = matrix.level(down.size * size.rows * ratio, across.size * size.columns * ratio);
  const rows = partOf(down, size.rows, level.rows);
  const columns = partOf(across, size.columns, level.columns);
  let seen: Picture = crop(level, { rows: rows.cells, columns: columns.cells }, level);
  const pixels = (part: Part, cells: number) => Math.max(1, Math.min(cells, Math.round(part.length * ratio)));
  const [height, width] = [pixels(rows, seen.rows), pixels(columns, seen.columns)];
  if (height < seen.rows || width < seen.columns) {
    seen = { rows: height, columns: width, codes: maxPool(seen.codes, seen.rows, seen.columns, height, width) };
  }
  paintCodes(scratch, seen, colours);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  const box = [columns.at, rows.at, columns.length, rows.length].map((value) => Math.round(value * ratio));
  context.drawImage(scratch, ...(box as [number, number, number, number]));
}

const MINIMAP = 110;

/** The whole matrix small, with a frame around what is in sight; hidden while all of it is. */
export function paintMinimap(
  canvas: HTMLCanvasElement,
  scratch: HTMLCanvasElement,
  matrix: Matrix,
  size: Size,
  shown: ViewDataAttention['shown'],
  { across, down }: { across: AxisWindow; down: AxisWindow },
  colours: Uint32Array,
  frame: string,
): void {
  const { enlarged } = across;
  canvas.hidden = enlarged <= 1.001;
  if (canvas.hidden) return;
  const scale = MINIMAP / Math.max(across.length, down.length);
  const [width, height] = [Math.max(20, across.length * scale), Math.max(20, down.length * scale)];
  resize(canvas, width, height);
  const level = matrix.level(Math.min(200, size.rows), Math.min(200, size.columns));
  paintCodes(scratch, crop(level, shown, size), colours);
  const context = canvas.getContext('2d');
  if (!context) return;
  context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.drawImage(scratch, 0, 0, width, height);
  context.strokeStyle = frame;
  context.lineWidth = 2;
  const x = (-across.offset / enlarged / across.length) * width;
  const y = (-down.offset / enlarged / down.length) * height;
  context.strokeRect(x, y, width / enlarged, height / enlarged);
}

/** Gives a canvas so many pixels of the page. */
export function resize(canvas: HTMLCanvasElement, width: number, height: number): void {
  const [w, h] = [width, height].map((size) => Math.max(1, Math.round(size * devicePixelRatio))) as [number, number];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
}
