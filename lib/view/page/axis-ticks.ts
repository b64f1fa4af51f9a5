import type { AxisLabels } from './axis-labels';
import type { AxisWindow } from './axis-window';
import { shorten, visible } from './format';

const LABEL_CHARACTERS = 16;

/** A token as a label. */
export function tickText(token: string): string {
  return shorten(visible(token), LABEL_CHARACTERS);
}

/** What a row or column is called: its token, or among round positions its position. */
export function labelOf(labels: AxisLabels, i: number, tokens: boolean): string {
  const token = tickText(labels.text[i] ?? '');
  if (tokens || !labels.areTokens) return token;
  // Special tokens keep their names among positions.
  return labels.special.has(i) ? token : String(labels.positions[i]);
}

/**
 * Which rows or columns have a label: evenly, the first and last of the window always.
 * @param pitch The least distance of two labels in pixels; `endPitch` that from the first and the last.
 */
export function ticksOf(
  labels: AxisLabels,
  window: AxisWindow,
  pitch: number,
  endPitch = pitch,
): { at: number[]; tokens: boolean } {
  const { size } = window;
  const [from, to] = window.visible;
  const first = window.clamp(Math.ceil(from - 0.5));
  const last = window.clamp(Math.floor(to - 0.5));
  const every = size >= pitch ? 1 : Math.ceil(pitch / size);
  // Tokens where each has a label; else round positions are more use.
  const tokens = labels.areTokens && every <= 2;
  const step = tokens || every === 1 ? every : roundStep(every);
  const at = [first];
  for (let i = Math.ceil((first + 0.001) / step) * step; i < last; i += step) {
    if ((i - first) * size >= endPitch && (last - i) * size >= endPitch) at.push(i);
  }
  if (last > first && (last - first) * size >= pitch) at.push(last);
  return { at, tokens };
}

/** The least round number of positions that is at least `least`. */
function roundStep(least: number): number {
  for (let power = 1; ; power *= 10) {
    for (const part of [1, 2, 5]) if (part * power >= least) return part * power;
  }
}
