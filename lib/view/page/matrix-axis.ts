import { axisLeft, axisTop } from 'd3-axis';
import { scaleLinear } from 'd3-scale';
import { type Selection as D3Selection, select } from 'd3-selection';
import type { AxisLabels } from './axis-labels';
import { labelOf, ticksOf, tickText } from './axis-ticks';
import type { AxisWindow } from './axis-window';

/** The least distance between two labels down the left side, or turned ones above, in pixels. */
const PITCH = 14;
/** The same of positions above, which aren't turned. */
const LEVEL_PITCH = 44;
const TOP_ANGLE = -60;

/** The labels of rows, on the left of a matrix, or of columns, above it. */
export class MatrixAxis {
  private readonly svg: D3Selection<SVGSVGElement, unknown, null, undefined>;
  private labels: AxisLabels | undefined;
  private widest = 0;
  private room = 0;
  private turned = false;

  constructor(
    node: SVGSVGElement,
    private readonly side: 'top' | 'left',
  ) {
    this.svg = select(node);
  }

  /** Takes the labels, and measures them. */
  setLabels(labels: AxisLabels, measure: (text: string) => number): void {
    this.labels = labels;
    // Of very many labels the first few hundred say how wide they get.
    const widths = labels.text.slice(0, 400).map((token) => measure(tickText(token)));
    this.widest = Math.ceil(Math.min(120, Math.max(14, ...widths)));
  }

  /** Pixels that the labels take beside the matrix, and beyond its end; `size` is a row's or column's while nothing is enlarged. */
  reserve(size: number, largest: number, margin: number): { room: number; overhang: number } {
    const upright = this.side === 'left' || this.widest < Math.min(largest, size) - 4;
    this.turned = !upright && size >= PITCH;
    const angle = (-TOP_ANGLE * Math.PI) / 180;
    if (this.side === 'left') this.room = Math.max(72, this.widest + 16);
    else this.room = this.turned ? Math.max(40, Math.ceil(this.widest * Math.sin(angle)) + 18) : 28;
    const overhang = this.turned ? Math.max(0, Math.ceil(this.widest * Math.cos(angle)) - margin) : 0;
    return { room: this.room, overhang };
  }

  draw(window: AxisWindow): void {
    if (!this.labels) return;
    const { svg, side, room, turned, labels } = this;
    const top = side === 'top';
    svg.attr(top ? 'width' : 'height', window.length).attr(top ? 'height' : 'width', room);
    const ticks = ticksOf(labels, window, top && !turned ? Math.min(LEVEL_PITCH, this.widest + 10) : PITCH);
    const text = (i: number) => labelOf(labels, i, ticks.tokens);
    const scale = scaleLinear(
      [window.first, window.first + 1],
      [window.place(window.first + 0.5), window.place(window.first + 1.5)],
    );
    const axis = (top ? axisTop(scale) : axisLeft(scale))
      .tickValues(ticks.at)
      .tickFormat((i) => text(Number(i)))
      .tickSize(4)
      .tickPadding(4);
    const group = svg.selectAll<SVGGElement, number>('g.axis').data([0]).join('g').attr('class', 'axis');
    group.attr('transform', top ? `translate(0,${room})` : `translate(${room},0)`).call(axis);
    if (!top) return;
    group
      .selectAll('text')
      .attr('transform', turned ? `translate(4,-1) rotate(${TOP_ANGLE})` : null)
      // The outermost would reach into the corner, or beyond the margin.
      .attr('text-anchor', (i) => {
        if (turned) return 'start';
        const at = window.place(Number(i) + 0.5);
        return at < 16 ? 'start' : at > window.length - 16 ? 'end' : 'middle';
      });
  }

  /** Draws one label over the others: of what is pointed at, or kept. */
  mark(i: number | null, window: AxisWindow): void {
    const { svg, side, room, turned, labels } = this;
    const at = i === null ? 0 : Math.max(8, Math.min(window.place(i + 0.5), window.length - 8));
    svg
      .selectAll<SVGTextElement, string>('text.marked')
      .data(i === null || !labels ? [] : [tickText(labels.text[i] ?? '')])
      .join('text')
      .attr('class', 'marked')
      .attr('dominant-baseline', 'central')
      .text(String)
      .attr('text-anchor', side === 'left' ? 'end' : turned ? 'start' : 'middle')
      .attr(
        'transform',
        side === 'left'
          ? `translate(${room - 8},${at})`
          : `translate(${at},${room - (turned ? 7 : 12)}) rotate(${turned ? TOP_ANGLE : 0})`,
      );
  }
}
