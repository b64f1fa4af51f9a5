import { axisLeft, axisTop } from 'd3-axis';
import { scaleLinear } from 'd3-scale';
import { type Selection as D3Selection, select } from 'd3-selection';
import type { AxisLabels } from './axis-labels';
import { labelOf, ticksOf, tickText } from './axis-ticks';
import type { AxisWindow } from './axis-window';
import { find } from './dom';

/** The least distance between two labels down the left side, or turned ones above, in pixels. */
const PITCH = 13;
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

  private readonly marked: HTMLElement;

  constructor(
    root: HTMLElement,
    private readonly side: 'top' | 'left',
  ) {
    this.svg = select(find<SVGSVGElement>(root, 'svg'));
    this.marked = find(root, '.marked');
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
    const level = top && !turned;
    const pitch = level ? Math.min(LEVEL_PITCH, this.widest + 10) : PITCH;
    // The outermost begin and end with the matrix, and reach further into it.
    const ticks = ticksOf(labels, window, pitch, level ? Math.min(LEVEL_PITCH + 8, 1.5 * this.widest + 8) : PITCH);
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

  /** Shows one label over the others: of what is pointed at, or kept. It is a layer: the others stay as they are. */
  mark(i: number | null, window: AxisWindow): void {
    const { marked, side, room, turned, labels } = this;
    marked.hidden = i === null || !labels;
    if (i === null || !labels) return;
    const text = tickText(labels.text[i] ?? '');
    if (marked.textContent !== text) marked.textContent = text;
    marked.classList.toggle('level', side === 'top' && !turned);
    // Bold, it would be longer than there is room for.
    marked.style.maxWidth = side === 'left' || turned ? `${this.widest + 10}px` : '';
    const at = Math.max(8, Math.min(window.place(i + 0.5), window.length - 8));
    const place = (x: string, y: string) => `translate(${x}, ${y})`;
    if (side === 'left') marked.style.transform = place(`calc(${room - 4}px - 100%)`, `calc(${at}px - 50%)`);
    else if (turned)
      // Over the label that it stands for.
      marked.style.transform = `translate(${at - 8.6}px, ${room - 3.6}px) rotate(${TOP_ANGLE}deg) translateY(-50%)`;
    else marked.style.transform = place(`calc(${at}px - 50%)`, `calc(${room - 12}px - 50%)`);
  }
}
