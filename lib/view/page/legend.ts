import type { ViewDataAttention } from '../view-data';
import { colourOf, floorOf, type Scale, weightAt } from './colour';
import { element } from './dom';
import { formatShort } from './format';

const STOPS = 16;

/** The colour bar: which colour stands for which weight, and what is no weight. */
export function drawLegend(root: HTMLElement, scale: Scale, attentions: readonly ViewDataAttention[]): void {
  drawScale(root, scale);
  if (attentions.some(({ masked }) => masked)) root.append(swatch('hatched', 'masked'));
  if (attentions.some(({ capturedTopK }) => capturedTopK !== undefined)) root.append(swatch('absent', 'not captured'));
  if (attentions.some(({ stats }) => stats.some(({ nan }) => nan > 0))) root.append(swatch('nan', 'NaN'));
}

/** The colour bar of differences. */
export function drawDifferenceLegend(root: HTMLElement, scale: Scale): void {
  drawScale(root, scale, ['more in B', 'more in A']);
}

/** The numbers below a colour bar: at its beginning, middle and end. */
export function scaleLabels(scale: Scale): [string, string, string] {
  const largest = formatShort(scale.largest);
  if (scale.signed) return [`−${largest}`, '0', `+${largest}`];
  const from = scale.kind === 'log' ? `≤ ${formatShort(floorOf(scale))}` : '0';
  return [from, formatShort(weightAt(0.5, scale)), largest];
}

/** The colours of a bar from left to right. */
export function scaleStops(scale: Scale): string[] {
  return Array.from({ length: STOPS + 1 }, (_, i) => {
    const at = i / STOPS;
    if (!scale.signed) return colourOf(weightAt(at, scale), scale);
    const side = 2 * at - 1;
    return colourOf(Math.sign(side) * weightAt(Math.abs(side), scale), scale);
  });
}

function drawScale(root: HTMLElement, scale: Scale, ends: [string, string] = ['', '']): void {
  const labels = scaleLabels(scale);
  const bar = element('span', 'legend-bar');
  bar.style.backgroundImage = `linear-gradient(to right, ${scaleStops(scale).join(', ')})`;
  const ticks = element('span', 'legend-ticks');
  const texts = [`${labels[0]} ${ends[0]}`, labels[1], `${ends[1]} ${labels[2]}`];
  ticks.append(...texts.map((label) => element('span', '', label.trim())));
  const column = element('span', 'legend-scale');
  column.append(bar, ticks);
  root.setAttribute('role', 'img');
  const [from, middle, to] = labels;
  root.setAttribute('aria-label', `Colours from ${from.replace('≤ ', '')} by ${middle} to ${to}`);
  root.replaceChildren(column);
}

function swatch(kind: string, text: string): HTMLElement {
  const item = element('span', 'legend-item');
  item.append(element('span', `swatch ${kind}`), text);
  return item;
}
