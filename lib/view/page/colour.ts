import { rgb } from 'd3-color';
import { interpolateBlues, interpolateMagma } from 'd3-scale-chromatic';
import { ABSENT, decodeWeight, type LogCode, MASKED, TINY, ZERO } from '../weight-code';
import type { ColourScale } from './state';

/** Whether the page is dark: as chosen with its button, else as the system says. */
export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

/** What colours stand for: weights from 0, or on the logarithmic scale from `floorOf`, to `largest`. */
export interface Scale {
  kind: ColourScale;
  largest: number;
  /** Weights are negative too: their size has the colours of its sign. */
  signed?: boolean;
}

/** The smallest weight that has a colour of its own on the logarithmic scale: 0.0005, less where all weights are small. */
export function floorOf({ largest }: Scale): number {
  return Math.min(0.0005, largest / 100);
}

/** The share of the colours that a weight has, between 0 and 1; of a negative one, its size's. */
export function shareOf(weight: number, scale: Scale): number {
  const { kind, largest } = scale;
  const size = Math.abs(weight);
  if (!(size > 0) || !(largest > 0)) return 0;
  if (kind === 'linear') return Math.min(1, size / largest);
  if (kind === 'root') return Math.min(1, Math.sqrt(size / largest));
  const floor = floorOf(scale);
  return Math.max(0, Math.min(1, Math.log(size / floor) / Math.log(largest / floor)));
}

/** The colour of a weight. */
export function colourOf(weight: number, scale: Scale): string {
  const share = shareOf(weight, scale);
  return scale.signed ? divergingRamp(weight < 0 ? -share : share) : ramp(share);
}

/** The weight that has a share of the colours. */
export function weightAt(share: number, scale: Scale): number {
  const { kind, largest } = scale;
  if (kind === 'linear') return share * largest;
  if (kind === 'root') return share * share * largest;
  const floor = floorOf(scale);
  return floor * (largest / floor) ** share;
}

/** The colour of a share between 0 and 1. Zero is the page's own paper. */
export function ramp(share: number): string {
  // The ends of the ramps are left out: pale blue is no zero on white, nor is white a maximum on black.
  if (isDark()) return interpolateMagma(0.05 + share * 0.93);
  return share < 0.1 ? mixWithWhite(interpolateBlues(0.1), share / 0.1) : interpolateBlues(share);
}

/** Whether white text on a colour is easier to read than black. */
export function isStrong(colour: string): boolean {
  const { r, g, b } = rgb(colour);
  const linear = (part: number) => (part <= 10 ? part / 3294 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  // Contrast 1.05 / (L + 0.05) with white, (L + 0.05) / 0.05 with black.
  return (luminance + 0.05) ** 2 < 1.05 * 0.05;
}

/** The colour of NaN: on neither ramp. */
export function nanColour(): string {
  return isDark() ? '#19d3a2' : '#e8590c';
}

/** The colour of what was not captured. */
export function absentColour(): string {
  return isDark() ? '#33383f' : '#e3e6ea';
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
interface RampPixels {
  dark: boolean;
  pixels: Uint32Array;
  negative: Uint32Array;
  positive: Uint32Array;
  nan: number;
  absent: number;
}
let ramps: RampPixels | undefined;

function rampPixels(): RampPixels {
  const dark = isDark();
  if (ramps?.dark !== dark) {
    const steps = (colour: (share: number) => string) =>
      toPixels(Array.from({ length: RAMP_STEPS }, (_, i) => colour(i / (RAMP_STEPS - 1))));
    const [nan, absent] = toPixels([nanColour(), absentColour()]) as unknown as [number, number];
    ramps = {
      dark,
      pixels: steps(ramp),
      negative: steps((share) => divergingRamp(-share)),
      positive: steps(divergingRamp),
      nan,
      absent,
    };
    palettes.clear();
  }
  return ramps;
}

const palettes = new Map<string, Uint32Array>();

/**
 * The pixel of each code: weights in the colours of a scale, masked cells transparent (hatching shows through), cells that
 * were not captured and NaN in colours of their own.
 */
export function palette(code: LogCode, codeScale: number, scale: Scale): Uint32Array {
  const { pixels, negative, positive, nan, absent } = rampPixels();
  const key = [code.bits, code.signed, codeScale, scale.kind, scale.largest, scale.signed].join('/');
  const known = palettes.get(key);
  if (known) return known;
  const colours = new Uint32Array(code.nan + 1);
  colours[MASKED] = 0;
  colours[ABSENT] = absent;
  for (let i = ZERO; i < code.nan; i++) {
    const weight = decodeWeight(code, i, codeScale);
    const steps = scale.signed ? (weight < 0 ? negative : positive) : pixels;
    colours[i] = steps[i < TINY ? 0 : Math.round(shareOf(weight, scale) * (RAMP_STEPS - 1))] as number;
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
