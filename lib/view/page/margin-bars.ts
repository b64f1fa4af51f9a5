import type { AxisWindow } from './axis-window';

/** Height of the bars above a matrix, width of those beside it, in pixels. */
export const MARGIN = 36;

/**
 * Bars along a side of a matrix, one a row (`'right'`) or column (`'top'`). Several bars of one pixel are one, as long as
 * the longest.
 * @param share The length of each, from 0 to 1.
 */
export function paintBars(
  canvas: HTMLCanvasElement,
  side: 'top' | 'right',
  share: (i: number) => number,
  window: AxisWindow,
  colour: string,
): void {
  const context = canvas.getContext('2d');
  if (!context) return;
  const ratio = devicePixelRatio;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = colour;
  const bar = (at: number, thick: number, length: number) => {
    if (side === 'right') context.fillRect(2, at, length, thick);
    else context.fillRect(at, MARGIN - length, thick, length);
  };
  const { size, length } = window;
  const [from, to] = window.visible.map(Math.floor) as [number, number];
  const longest = new Float32Array(Math.ceil(length) + 1);
  for (let i = from; i <= Math.min(to, window.first + window.count - 1); i++) {
    const at = window.place(i);
    const long = (MARGIN - 3) * share(i);
    if (size >= 3) {
      bar(at, size - (size >= 6 ? 1 : 0), long);
      continue;
    }
    for (let pixel = Math.max(0, Math.floor(at)); pixel < Math.max(at + size, Math.floor(at) + 1); pixel++) {
      longest[pixel] = Math.max(longest[pixel] as number, long);
    }
  }
  if (size < 3) for (const [pixel, long] of longest.entries()) bar(pixel, 1, long);
}
