import { rgb } from 'd3-color';
import { interpolateBlues, interpolateMagma } from 'd3-scale-chromatic';
import { ABSENT, decodeWeight, type LogCode, MASKED, TINY, ZERO } from '../weight-code';
/** How a weight becomes a colour: one logarithmic scale for all heads, square root by head, linear from 0 to 1. */
export type ColourScale = 'log' | 'root' | 'linear';

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
export function colourOf(weight: number, scale: Scale, dark: boolean): string {
  const share = shareOf(weight, scale);
  return scale.signed ? divergingRamp(weight < 0 ? -share : share, dark) : ramp(share, dark);
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
function ramp(share: number, dark: boolean): string {
  // The ends of the ramps are left out: pale blue is no zero on white, nor is white a maximum on black.
  if (dark) return interpolateMagma(0.05 + share * 0.93);
  return share < 0.1 ? mixWithWhite(interpolateBlues(0.1), share / 0.1) : interpolateBlues(share);
}

function luminance(colour: string): number {
  const { r, g, b } = rgb(colour);
  const linear = (part: number) => (part <= 10 ? part / 3294 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
}

/** The colour of a text on another one: its own where that can be read easily, else black or white. */
export function textOver(colour: string, own: string): string {
  const [behind, text] = [luminance(colour) + 0.05, luminance(own) + 0.05];
  if (Math.max(behind, text) / Math.min(behind, text) >= 4.5) return own;
  // Contrast 1.05 / (L + 0.05) with white, (L + 0.05) / 0.05 with black.
  return behind ** 2 < 1.05 * 0.05 ? '#fff' : '#000';
}

/** The colour of NaN: on neither ramp. */
export function nanColour(dark: boolean): string {
  return dark ? '#19d3a2' : '#e8590c';
}

/** The colour of what was not captured. */
export function absentColour(dark: boolean): string {
  return dark ? '#33383f' : '#e3e6ea';
}

/** Colours of `share` from -1 to 1 for differences; 0 is the page's paper. */
function divergingRamp(share: number, dark: boolean): string {
  const [from, to] = dark
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

/** A colour as the four bytes of a pixel. */
function toPixel(colour: string): number {
  const { r, g, b } = rgb(colour);
  return ((255 << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r)) >>> 0;
}

const RAMP_STEPS = 256;
interface RampPixels {
  unsigned: Uint32Array;
  negative: Uint32Array;
  positive: Uint32Array;
  nan: number;
  absent: number;
}
const ramps: Partial<Record<'dark' | 'light', RampPixels>> = {};

function rampPixels(dark: boolean): RampPixels {
  const steps = (colour: (share: number) => string) =>
    Uint32Array.from({ length: RAMP_STEPS }, (_, i) => toPixel(colour(i / (RAMP_STEPS - 1))));
  return (ramps[dark ? 'dark' : 'light'] ??= {
    unsigned: steps((share) => ramp(share, dark)),
    negative: steps((share) => divergingRamp(-share, dark)),
    positive: steps((share) => divergingRamp(share, dark)),
    nan: toPixel(nanColour(dark)),
    absent: toPixel(absentColour(dark)),
  });
}

const palettes = new Map<string, Uint32Array>();

/**
 * The pixel of each code: weights in the colours of a scale, masked cells transparent (hatching shows through), cells that
 * were not captured and NaN in colours of their own.
 */
export function palette(code: LogCode, codeScale: number, scale: Scale, dark: boolean): Uint32Array {
  const { unsigned, negative, positive, nan, absent } = rampPixels(dark);
  const key = [code.bits, code.signed, codeScale, scale.kind, scale.largest, scale.signed, dark].join('/');
  const known = palettes.get(key);
  if (known) return known;
  const colours = new Uint32Array(code.nan + 1);
  colours[MASKED] = 0;
  colours[ABSENT] = absent;
  for (let i = ZERO; i < code.nan; i++) {
    const weight = decodeWeight(code, i, codeScale);
    const steps = scale.signed ? (weight < 0 ? negative : positive) : unsigned;
    colours[i] = steps[i < TINY ? 0 : Math.round(shareOf(weight, scale) * (RAMP_STEPS - 1))] as number;
  }
  colours[code.nan] = nan;
  if (palettes.size > 200) palettes.clear();
  palettes.set(key, colours);
  return colours;
}

/**
 * How opaque and wide a line is: by its weight's share of the colours; all of many lines paler than few, or nothing could
 * be told apart. Lines of what isn't asked for step back.
 */
export function lineStrength(
  share: number,
  { asked, focus, faded, count }: { asked: boolean; focus: boolean; faded: boolean; count: number },
): { opacity: number; width: number } {
  const crowd = Math.min(1, Math.sqrt(250 / Math.max(1, count)));
  const opacity = focus ? (asked ? 0.35 + 0.65 * share : 0.05) : (0.08 + 0.84 * share * share) * crowd;
  return { opacity: opacity * (faded ? 0.25 : 1), width: focus && asked ? 1 + 2.5 * share : 0.6 + 1.8 * share };
}

/** Colours of lines that colour-blind readers tell apart (Okabe and Ito), with dashes for those who see none. */
const LINE_COLOURS = {
  light: ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#a07800', '#3d8fc4', '#1d2329', '#7a5195'],
  dark: ['#56b4e9', '#ff9b54', '#2fd6a3', '#f0a3cc', '#f0e442', '#9ad4f5', '#e4e7ea', '#b9a1e6'],
};
const DASHES = [[], [8, 3], [3, 2], [10, 3, 2, 3], [14, 4], [2, 5], [6, 2, 2, 2, 2, 2], [18, 3, 6, 3]];
export const MOST_LINES = LINE_COLOURS.light.length;

/** The colour and dashes of the i-th of the heads that are drawn together. */
export function lineStyle(i: number, dark: boolean): { colour: string; dash: number[] } {
  const colours = LINE_COLOURS[dark ? 'dark' : 'light'];
  return { colour: colours[i % colours.length] as string, dash: DASHES[i % DASHES.length] as number[] };
}

/** The colour of a line: its head's; of one head whose values have signs, its sign's. */
export function lineColour(
  { head, negative }: { head: number; negative: boolean },
  { heads, signed, dark }: { heads: number; signed: boolean | undefined; dark: boolean },
): string {
  return signed && heads === 1 ? divergingRamp(negative ? -1 : 1, dark) : lineStyle(head, dark).colour;
}
