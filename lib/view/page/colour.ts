import { scaleSequential } from 'd3-scale';
import { interpolateBlues, interpolateMagma, interpolateRainbow, schemeTableau10 } from 'd3-scale-chromatic';
import type { ColourScale } from './state';

/** Whether the page is dark: as chosen with its button, else as the system says. */
export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

/** The colour of a share between 0 and 1. Zero is the page's own paper. */
export function ramp(share: number): string {
  // The ends of the ramps are left out: pale blue is no zero on white, nor is white a maximum on black.
  return isDark()
    ? scaleSequential(interpolateMagma).domain([-0.06, 1.08])(share)
    : scaleSequential((t: number) => (t < 0.1 ? mixWithWhite(interpolateBlues(0.1), t / 0.1) : interpolateBlues(t)))(
        share,
      );
}

let painted: { dark: boolean; colours: Uint32Array } | undefined;

/** The colours of 256 shares as RGBA bytes, for images. */
function rampBytes(): Uint32Array {
  const dark = isDark();
  if (painted?.dark !== dark) painted = { dark, colours: makeRampBytes() };
  return painted.colours;
}

function makeRampBytes(): Uint32Array {
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  if (!context) throw new Error('This browser has no 2D canvas');
  context.canvas.width = 256;
  context.canvas.height = 1;
  for (let i = 0; i < 256; i++) {
    context.fillStyle = ramp(i / 255);
    context.fillRect(i, 0, 1, 1);
  }
  return new Uint32Array(context.getImageData(0, 0, 256, 1).data.buffer);
}

/** A colour for one head among so many that are drawn together. */
export function headColour(head: number, count: number): string {
  return count <= schemeTableau10.length ? (schemeTableau10[head] as string) : interpolateRainbow(head / count);
}

/** The share that a weight has under a colour scale, between 0 and 1. */
export function shareOf(weight: number, scale: ColourScale, maximum: number): number {
  if (scale === 'one') return Math.min(1, weight);
  if (!(maximum > 0)) return 0;
  return scale === 'root' ? Math.sqrt(weight / maximum) : weight / maximum;
}

/** Draws a matrix into a canvas of its own size, one pixel a cell. */
export function paint(
  canvas: HTMLCanvasElement,
  { rows, columns, values }: { rows: number; columns: number; values: Float32Array },
  share: (weight: number) => number,
): void {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext('2d');
  if (!context) return;
  const colours = rampBytes();
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = colours[Math.round(255 * share(values[i] as number))] ?? (colours[0] as number);
  }
  context.putImageData(image, 0, 0);
}

function mixWithWhite(colour: string, share: number): string {
  const [red, green, blue] = (colour.match(/\d+/g) ?? []).map(Number) as [number, number, number];
  const mix = (part: number) => Math.round(255 + (part - 255) * share);
  return `rgb(${mix(red)}, ${mix(green)}, ${mix(blue)})`;
}
