import { rgb } from 'd3-color';
import { interpolateBlues, interpolateMagma } from 'd3-scale-chromatic';
import { decodeWeight, LOG8, LOG16, TINY, ZERO } from '../weight-code';
import type { ColourScale } from './state';

/** Whether the page is dark: as chosen with its button, else as the system says. */
export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

/** The smallest weight that has a colour of its own on the logarithmic scale. */
export const LOG_FLOOR = 0.0005;

/** What colours stand for: from 0 or `LOG_FLOOR` to `largest`. */
export interface Scale {
  kind: ColourScale;
  largest: number;
}

/** The share of the colours that a weight has, between 0 and 1. */
export function shareOf(weight: number, { kind, largest }: Scale): number {
  if (!(weight > 0) || !(largest > 0)) return 0;
  if (kind === 'linear') return Math.min(1, weight / largest);
  if (kind === 'root') return Math.min(1, Math.sqrt(weight / largest));
  return Math.max(0, Math.min(1, Math.log(weight / LOG_FLOOR) / Math.log(largest / LOG_FLOOR)));
}

/** The weight that has a share of the colours. */
export function weightAt(share: number, { kind, largest }: Scale): number {
  if (kind === 'linear') return share * largest;
  if (kind === 'root') return share * share * largest;
  return LOG_FLOOR * (largest / LOG_FLOOR) ** share;
}

/** The colour of a share between 0 and 1. Zero is the page's own paper. */
export function ramp(share: number): string {
  // The ends of the ramps are left out: pale blue is no zero on white, nor is white a maximum on black.
  if (isDark()) return interpolateMagma(0.05 + share * 0.93);
  return share < 0.1 ? mixWithWhite(interpolateBlues(0.1), share / 0.1) : interpolateBlues(share);
}

/** Whether white text on the colour of this share is easier to read than black. */
export function isStrong(share: number): boolean {
  const { r, g, b } = rgb(ramp(share));
  const linear = (part: number) => (part <= 10 ? part / 3294 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  // Contrast 1.05 / (L + 0.05) with white, (L + 0.05) / 0.05 with black.
  return (luminance + 0.05) ** 2 < 1.05 * 0.05;
}

/** The colour of NaN: on neither ramp. */
export function nanColour(): string {
  return isDark() ? '#19d3a2' : '#e8590c';
}

/** Colours of `share` from -1 to 1 for differences; 0 is the page's paper. */
export function divergingRamp(share: number): string {
  const [from, to] = isDark()
    ? [[20, 22, 26], share < 0 ? [86, 180, 233] : [255, 150, 70]]
    : [[255, 255, 255], share < 0 ? [0, 90, 181] : [196, 62, 0]];
  const strength = Math.min(1, Math.abs(share));
  const mix = (i: number) =>
    Math.round((from?.[i] as number) + ((to?.[i] as number) - (from?.[i] as number)) * strength);
  return `rgb(${mix(0)}, ${mix(1)}, ${mix(2)})`;
}

function mixWithWhite(colour: string, share: number): string {
  const [red, green, blue] = (colour.match(/\d+/g) ?? []).map(Number) as [number, number, number];
  const mix = (part: number) => Math.round(255 + (part - 255) * share);
  return `rgb(${mix(red)}, ${mix(green)}, ${mix(blue)})`;
}

let context: CanvasRenderingContext2D | undefined;

/** Colours as the four bytes of a pixel. */
export function toPixels(colours: readonly string[]): Uint32Array {
  context ??= document
    .createElement('canvas')
    .getContext('2d', { willReadFrequently: true }) as CanvasRenderingContext2D;
  context.canvas.width = colours.length;
  context.canvas.height = 1;
  for (const [i, colour] of colours.entries()) {
    context.fillStyle = colour;
    context.fillRect(i, 0, 1, 1);
  }
  return new Uint32Array(context.getImageData(0, 0, colours.length, 1).data.buffer);
}

const RAMP_STEPS = 256;
let ramps: { dark: boolean; pixels: Uint32Array; nan: number; absent: number } | undefined;

function rampPixels() {
  const dark = isDark();
  if (ramps?.dark !== dark) {
    const pixels = toPixels(Array.from({ length: RAMP_STEPS }, (_, i) => ramp(i / (RAMP_STEPS - 1))));
    const [nan, absent] = toPixels([nanColour(), dark ? '#33383f' : '#e3e6ea']) as unknown as [number, number];
    ramps = { dark, pixels, nan, absent };
    palettes.clear();
  }
  return ramps;
}

const palettes = new Map<string, Uint32Array>();

/**
 * The pixel of each code: weights in the colours of a scale, masked cells transparent (hatching shows through), cells that
 * were not captured and NaN in colours of their own.
 */
export function palette(bits: 8 | 16, codeScale: number, scale: Scale): Uint32Array {
  const { pixels, nan, absent } = rampPixels();
  const key = `${bits}/${codeScale}/${scale.kind}/${scale.largest}`;
  const known = palettes.get(key);
  if (known) return known;
  const code = bits === 8 ? LOG8 : LOG16;
  const colours = new Uint32Array(code.nan + 1);
  colours[0] = 0;
  colours[1] = absent;
  colours[ZERO] = pixels[0] as number;
  for (let i = TINY; i < code.nan; i++) {
    const share = shareOf(decodeWeight(code, i, codeScale), scale);
    colours[i] = pixels[Math.round(share * (RAMP_STEPS - 1))] as number;
  }
  colours[code.nan] = nan;
  if (palettes.size > 200) palettes.clear();
  palettes.set(key, colours);
  return colours;
}

/** Colours of lines that colour-blind readers tell apart (Okabe and Ito), with dashes for those who see none. */
const LINE_COLOURS = {
  light: ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#a07800', '#3d8fc4', '#1d2329', '#7a5195'],
  dark: ['#56b4e9', '#ff9b54', '#2fd6a3', '#f0a3cc', '#f0e442', '#9ad4f5', '#e4e7ea', '#b9a1e6'],
};
const DASHES = [[], [8, 3], [3, 2], [10, 3, 2, 3], [14, 4], [2, 5], [6, 2, 2, 2, 2, 2], [18, 3, 6, 3]];
export const MOST_LINES = LINE_COLOURS.light.length;

/** The colour and dashes of the i-th of the heads that are drawn together. */
export function lineStyle(i: number): { colour: string; dash: number[] } {
  const colours = LINE_COLOURS[isDark() ? 'dark' : 'light'];
  return { colour: colours[i % colours.length] as string, dash: DASHES[i % DASHES.length] as number[] };
}
