import type { ViewDataAttention } from '../view-data';
import type { Scale } from './colour';
import { element } from './dom';
import { maskedIn } from './head-values';
import { scaleLabels, scaleStops } from './scale-labels';
import { isDark } from './theme';

/** The colour bar: which colour stands for which weight, and what is no weight. */
export function drawLegend(
  root: HTMLElement,
  scale: Scale,
  attentions: readonly ViewDataAttention[],
  stops = scaleStops(scale, isDark()),
): void {
  drawScale(root, scale, stops);
  const name = maskedIn(attentions);
  if (name) root.append(swatch('hatched', name, 'weights that are 0 in every head'));
  if (attentions.some(({ capturedTopK }) => capturedTopK !== undefined)) root.append(swatch('absent', 'not captured'));
  if (attentions.some(({ stats }) => stats.some(({ nan }) => nan > 0))) root.append(swatch('nan', 'NaN'));
}

/** The colour bar of differences. */
export function drawDifferenceLegend(root: HTMLElement, scale: Scale): void {
  drawScale(root, scale, scaleStops(scale, isDark()), ['more in B', 'more in A']);
}

function drawScale(root: HTMLElement, scale: Scale, stops: readonly string[], ends: [string, string] = ['', '']): void {
  const labels = scaleLabels(scale);
  const bar = element('span', 'legend-bar');
  bar.style.backgroundImage = `linear-gradient(to right, ${stops.join(', ')})`;
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

function swatch(kind: string, text: string, title = ''): HTMLElement {
  const item = element('span', 'legend-item');
  item.title = title;
  item.append(element('span', `swatch ${kind}`), text);
  return item;
}
