import { scaleLinear } from 'd3-scale';
import { select } from 'd3-selection';
import { ramp, shareOf } from './colour';
import { formatWeight } from './format';
import type { ColourScale } from './state';

const WIDTH = 180;
const STOPS = 24;

/** The colour bar: which colour stands for which weight. */
export function drawLegend(root: SVGSVGElement, scale: ColourScale, maximum: number): void {
  const largest = scale === 'one' ? 1 : maximum;
  const x = scaleLinear([0, largest || 1], [0, WIDTH]);
  const svg = select(root)
    .attr('width', WIDTH + 36)
    .attr('height', 30)
    .attr('viewBox', `-18 0 ${WIDTH + 36} 30`);
  svg.attr('aria-label', `Colours from 0 to ${formatWeight(largest)}`);
  svg
    .selectAll('stop')
    .data(Array.from({ length: STOPS + 1 }, (_, i) => i / STOPS))
    .join((enter) => enter.append('stop'))
    .attr('offset', String)
    .attr('stop-color', (t) => ramp(shareOf(t * largest, scale, maximum)));
  const gradient = svg.selectAll('linearGradient').data([0]).join('linearGradient').attr('id', 'legend-gradient');
  svg.selectAll<SVGStopElement, number>('stop').each(function () {
    (gradient.node() as Element).append(this);
  });
  svg
    .selectAll('rect')
    .data([0])
    .join('rect')
    .attr('class', 'legend-bar')
    .attr('width', WIDTH)
    .attr('height', 10)
    .attr('rx', 2)
    .attr('fill', 'url(#legend-gradient)');
  svg
    .selectAll('text')
    .data([0, largest / 2, largest])
    .join('text')
    .attr('x', (weight) => x(weight))
    .attr('y', 25)
    .attr('text-anchor', 'middle')
    .text((weight) => (weight === 0 ? '0' : weight === 1 ? '1' : formatWeight(weight)));
}
