import type { ViewDataAttention } from '../view-data';
import { divergingRamp, LOG_FLOOR, ramp, type Scale, weightAt } from './colour';
import { element } from './dom';
import { formatShort } from './format';

const STOPS = 16;

/** The colour bar: which colour stands for which weight, and what is no weight. */
export function drawLegend(root: HTMLElement, scale: Scale, attentions: readonly ViewDataAttention[]): void {
  const from = scale.kind === 'log' ? formatShort(LOG_FLOOR) : '0';
  const to = formatShort(scale.largest);
  const middle = formatShort(weightAt(0.5, scale));
  const stops = Array.from({ length: STOPS + 1 }, (_, i) => ramp(i / STOPS));
  drawBar(root, stops, [scale.kind === 'log' ? `≤ ${from}` : from, middle, to]);
  root.setAttribute('aria-label', `Colours from ${from} by ${middle} to ${to}`);
  if (attentions.some(({ masked }) => masked)) root.append(swatch('hatched', 'masked'));
  if (attentions.some(({ capturedTopK }) => capturedTopK !== undefined)) root.append(swatch('absent', 'not captured'));
  if (attentions.some(({ stats }) => stats.some(({ nan }) => nan > 0))) root.append(swatch('nan', 'NaN'));
}

/** The colour bar of differences. */
export function drawDifferenceLegend(root: HTMLElement, largest: number): void {
  const stops = Array.from({ length: STOPS + 1 }, (_, i) => divergingRamp((2 * i) / STOPS - 1));
  drawBar(root, stops, [`−${formatShort(largest)} less in A`, '0', `+${formatShort(largest)} more in A`]);
  root.setAttribute('aria-label', `Differences from −${formatShort(largest)} to ${formatShort(largest)}`);
}

function drawBar(root: HTMLElement, stops: readonly string[], labels: readonly [string, string, string]): void {
  const bar = element('span', 'legend-bar');
  bar.style.backgroundImage = `linear-gradient(to right, ${stops.join(', ')})`;
  const ticks = element('span', 'legend-ticks');
  ticks.append(...labels.map((label) => element('span', '', label)));
  const column = element('span', 'legend-scale');
  column.append(bar, ticks);
  root.setAttribute('role', 'img');
  root.replaceChildren(column);
}

function swatch(kind: string, text: string): HTMLElement {
  const item = element('span', 'legend-item');
  item.append(element('span', `swatch ${kind}`), text);
  return item;
}
