import { axisLeft, axisTop } from 'd3-axis';
import { scaleLinear } from 'd3-scale';
import { type Selection as D3Selection, pointer, select } from 'd3-selection';
import { type D3ZoomEvent, type ZoomBehavior, type ZoomTransform, zoom, zoomIdentity } from 'd3-zoom';
import { maxPool } from '../max-pool';
import { palette, shareOf } from './colour';
import { element, find, oncePerFrame } from './dom';
import { percent, shorten, visible } from './format';
import { blockOf, cellOf, cellValue, describeValue } from './head-values';
import { paintCodes } from './matrix';
import { crop } from './model-view';
import { type AxisLabels, describePosition, headName, keyLabels, queryLabels, type State } from './state';
import type { HeadData } from './store';
import type { Tooltip } from './tooltip';

const LABEL_CHARACTERS = 16;
/** The least distance between two labels of an axis, in pixels. */
const LABEL_PITCH = 14;
const LARGEST_CELL = 34;
const TOP_ANGLE = -60;
/** Height of the margin of attention received, width of that of entropy. */
const MARGIN = 36;
const MINIMAP = 110;

type Svg = D3Selection<SVGSVGElement, unknown, null, undefined>;

interface Cell {
  row: number;
  column: number;
}

/**
 * One head large: queries down, keys across. The whole of it always fits; wheel, drag, fingers and keys enlarge parts.
 * Rows and columns here are those of the attention, padding included, whether it is shown or not.
 */
export class MatrixView {
  private readonly top: Svg;
  private readonly left: Svg;
  private readonly overlay: Svg;
  private readonly body: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly received: HTMLCanvasElement;
  private readonly entropy: HTMLCanvasElement;
  private readonly minimap: HTMLCanvasElement;
  private readonly frame: HTMLElement;
  private readonly behaviour: ZoomBehavior<HTMLElement, unknown>;
  private readonly scratch = document.createElement('canvas');
  private readonly repaint = oncePerFrame(() => this.paint());

  private data: HeadData | undefined;
  private queries: AxisLabels | undefined;
  private keys: AxisLabels | undefined;
  private transform: ZoomTransform = zoomIdentity;
  private cursor: Cell | null = null;
  /** First row and column that are shown, how many, and their size in pixels while nothing is enlarged. */
  private area = { row: 0, column: 0, rows: 1, columns: 1, height: 1, width: 1 };
  private angle = 0;

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly tooltip: Tooltip,
    private readonly onPoint: (row: number | null) => void,
  ) {
    root.innerHTML = `
      <div class="matrix-frame">
        <div class="matrix-corner" aria-hidden="true"></div>
        <canvas class="margin received" aria-hidden="true"></canvas>
        <svg class="matrix-top" aria-hidden="true"></svg>
        <svg class="matrix-left" aria-hidden="true"></svg>
        <div class="matrix-body hatched" tabindex="0" role="application" aria-describedby="matrix-help">
          <canvas></canvas><svg class="matrix-overlay" aria-hidden="true"></svg>
        </div>
        <canvas class="margin entropy" aria-hidden="true"></canvas>
      </div>
      <canvas class="minimap" aria-hidden="true"></canvas>
      <p id="matrix-help" class="visually-hidden">Arrow keys move from cell to cell, Enter keeps the row, Escape lets it go,
        plus and minus enlarge and reduce, 0 shows the whole head.</p>`;
    this.frame = find(root, '.matrix-frame');
    this.top = select(find<SVGSVGElement>(root, '.matrix-top'));
    this.left = select(find<SVGSVGElement>(root, '.matrix-left'));
    this.overlay = select(find<SVGSVGElement>(root, '.matrix-overlay'));
    this.body = find(root, '.matrix-body');
    this.canvas = find(root, '.matrix-body canvas');
    this.received = find(root, '.received');
    this.entropy = find(root, '.entropy');
    this.minimap = find(root, '.minimap');

    this.behaviour = zoom<HTMLElement, unknown>()
      // One finger scrolls the page until something is enlarged.
      .filter((event: Event) => {
        const { ctrlKey, button, touches } = event as MouseEvent & TouchEvent;
        if (touches && touches.length < 2 && this.transform.k === 1) return false;
        return (!ctrlKey || event.type === 'wheel') && !button;
      })
      .on('zoom', (event: D3ZoomEvent<HTMLElement, unknown>) => this.onZoom(event));
    select(this.body).call(this.behaviour).on('dblclick.zoom', null);
    this.body.addEventListener('pointermove', (event) => this.point(this.cellAt(event), event));
    this.body.addEventListener('pointerleave', () => this.point(null));
    this.body.addEventListener('click', (event) => this.toggleLock(this.cellAt(event)?.row));
    this.body.addEventListener('keydown', (event) => this.onKey(event));
    this.body.addEventListener('blur', () => this.point(null));
  }

  /** Shows a head, at the part that the state says. */
  update(data: HeadData): void {
    const { example, attention } = this.state;
    this.data = data;
    this.queries = queryLabels(example, attention);
    this.keys = keyLabels(example, attention);
    this.layOut();
    this.paint();
  }

  /** After the row that is kept changed: marks only, no painting. */
  updateMarks(): void {
    this.drawMarks();
  }

  private layOut(): void {
    const { attention } = this.state;
    const { rows, columns } = this.state.shown();
    const area = {
      row: rows[0],
      column: columns[0],
      rows: rows[1] - rows[0],
      columns: columns[1] - columns[0],
      height: 1,
      width: 1,
    };
    const left = Math.max(56, Math.ceil(this.widest(this.queries)) + 16);
    const label = Math.ceil(this.widest(this.keys));
    const room = this.root.clientWidth - left - MARGIN - 12;
    const fitsUpright = label < Math.min(LARGEST_CELL, room / area.columns) - 4;
    const turned = LABEL_PITCH <= room / area.columns && !fitsUpright;
    this.angle = turned ? TOP_ANGLE : 0;
    const top = turned ? Math.max(40, Math.ceil(label * Math.sin((-TOP_ANGLE * Math.PI) / 180)) + 18) : 28;
    const overhang = turned ? Math.max(0, Math.ceil(label * Math.cos((TOP_ANGLE * Math.PI) / 180)) - MARGIN) : 0;
    const width = Math.max(120, room - overhang);
    const below = window.innerHeight - this.root.getBoundingClientRect().top - window.scrollY - top - MARGIN - 20;
    const height = Math.max(260, Math.min(below, 1.25 * width));
    const cell = Math.min(LARGEST_CELL, width / area.columns, height / area.rows);
    // A few rows of many columns are stretched, so that they are no hairlines.
    const stretched = (count: number, limit: number) => Math.max(cell, Math.min(LARGEST_CELL, limit / count));
    const whole = (size: number) => (size >= 4 ? Math.floor(size) : size);
    area.width = whole(stretched(area.columns, Math.min(width, 220))) * area.columns;
    area.height = whole(stretched(area.rows, Math.min(height, 220))) * area.rows;
    area.width = Math.min(area.width, width);
    this.area = area;

    this.frame.style.gridTemplateColumns = `${left}px ${area.width}px ${MARGIN}px`;
    this.frame.style.gridTemplateRows = `${MARGIN}px ${top}px ${area.height}px`;
    resize(this.canvas, area.width, area.height);
    resize(this.received, area.width, MARGIN);
    resize(this.entropy, MARGIN, area.height);
    this.overlay.attr('width', area.width).attr('height', area.height);
    this.top.attr('width', area.width).attr('height', top);
    this.left.attr('width', left).attr('height', area.height);
    const corner = find(this.root, '.matrix-corner');
    corner.replaceChildren(
      element('span', '', 'received ↑'),
      element('span', '', 'keys →'),
      element('span', '', 'queries ↓'),
    );
    const name = `${attention.label}, ${headName(attention, this.state.current.head)}`;
    this.body.setAttribute('aria-label', `Attention of ${name}: ${area.rows} queries by ${area.columns} keys`);

    const most = Math.max(
      8,
      (2 * LARGEST_CELL * area.columns) / area.width,
      (2 * LARGEST_CELL * area.rows) / area.height,
    );
    this.behaviour
      .scaleExtent([1, most])
      .extent([
        [0, 0],
        [area.width, area.height],
      ])
      .translateExtent([
        [0, 0],
        [area.width, area.height],
      ]);
    const [k, x, y] = this.state.current.zoom;
    const scale = Math.max(1, Math.min(k, most));
    const target = zoomIdentity.translate(-x * area.width * scale, -y * area.height * scale).scale(scale);
    this.settingZoom = true;
    select(this.body).call(this.behaviour.transform, target);
    this.settingZoom = false;
  }

  private settingZoom = false;

  private onZoom(event: D3ZoomEvent<HTMLElement, unknown>): void {
    this.transform = event.transform;
    this.body.style.touchAction = this.transform.k > 1 ? 'none' : 'pan-x pan-y';
    this.body.classList.toggle('enlarged', this.transform.k > 1);
    if (this.settingZoom) return;
    this.repaint();
    const { k, x, y } = this.transform;
    const { width, height } = this.area;
    this.state.set({ zoom: [k, -x / k / width, -y / k / height] });
  }

  private widest(labels: AxisLabels | undefined): number {
    const context = this.scratch.getContext('2d');
    if (!context || !labels) return 80;
    context.font = getComputedStyle(this.root).getPropertyValue('--label-font');
    // Of very many labels the first few hundred say how wide they get.
    const texts = labels.text.slice(0, 400);
    return Math.min(120, Math.max(14, ...texts.map((token) => context.measureText(this.label(token)).width)));
  }

  private label(token: string): string {
    return shorten(visible(token), LABEL_CHARACTERS);
  }

  /** Size of a cell in pixels, as enlarged. */
  private get cell(): { width: number; height: number } {
    const { rows, columns, width, height } = this.area;
    return { width: (this.transform.k * width) / columns, height: (this.transform.k * height) / rows };
  }

  private x(column: number): number {
    return this.transform.x + (column - this.area.column) * this.cell.width;
  }

  private y(row: number): number {
    return this.transform.y + (row - this.area.row) * this.cell.height;
  }

  private paint(): void {
    if (!this.data) return;
    this.paintCells();
    this.paintMargins();
    this.paintMinimap();
    this.drawAxes();
    this.drawMarks();
  }

  private paintCells(): void {
    const { matrix } = this.data as HeadData;
    const { attention, current } = this.state;
    const context = this.canvas.getContext('2d');
    if (!context) return;
    const { area, cell } = this;
    const ratio = this.canvas.width / area.width;
    // What is seen, in rows and columns of the attention.
    const left = area.column - this.transform.x / cell.width;
    const top = area.row - this.transform.y / cell.height;
    const right = Math.min(area.column + area.columns, left + area.width / cell.width);
    const bottom = Math.min(area.row + area.rows, top + area.height / cell.height);
    // A level with at least as many cells as there are pixels for the whole head.
    const level = matrix.level(cell.height * attention.rows * ratio, cell.width * attention.columns * ratio);
    const perRow = attention.rows / level.rows;
    const perColumn = attention.columns / level.columns;
    const part = {
      rows: [Math.floor(top / perRow), Math.min(level.rows, Math.ceil(bottom / perRow - 1e-6))] as [number, number],
      columns: [Math.floor(left / perColumn), Math.min(level.columns, Math.ceil(right / perColumn - 1e-6))] as [
        number,
        number,
      ],
    };
    let seen = crop(level, part, level);
    const pixels = {
      rows: Math.round((part.rows[1] - part.rows[0]) * perRow * cell.height * ratio),
      columns: Math.round((part.columns[1] - part.columns[0]) * perColumn * cell.width * ratio),
    };
    const rows = Math.max(1, Math.min(seen.rows, pixels.rows));
    const columns = Math.max(1, Math.min(seen.columns, pixels.columns));
    if (rows < seen.rows || columns < seen.columns) {
      seen = { rows, columns, codes: maxPool(seen.codes, seen.rows, seen.columns, rows, columns) };
    }
    paintCodes(this.scratch, seen, palette(matrix.bits, matrix.scale, this.state.scaleOf(attention, current.head)));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = false;
    const x = this.x(part.columns[0] * perColumn);
    const y = this.y(part.rows[0] * perRow);
    const width = (part.columns[1] - part.columns[0]) * perColumn * cell.width;
    const height = (part.rows[1] - part.rows[0]) * perRow * cell.height;
    context.drawImage(
      this.scratch,
      Math.round(x * ratio),
      Math.round(y * ratio),
      Math.round(width * ratio),
      Math.round(height * ratio),
    );
  }

  /** What each key receives on average above, the entropy of each query on the right. */
  private paintMargins(): void {
    const { received, entropy } = this.data as HeadData;
    const style = getComputedStyle(this.root);
    const colour = style.getPropertyValue('--accent');
    const { area, cell } = this;
    const { attention, current } = this.state;
    const scale = this.state.scaleOf(attention, current.head);
    const bars = (
      canvas: HTMLCanvasElement,
      values: Float32Array,
      share: (value: number) => number,
      place: (i: number) => number,
      size: number,
      [from, count]: [number, number],
      vertical: boolean,
    ) => {
      const context = canvas.getContext('2d');
      if (!context) return;
      const ratio = devicePixelRatio;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.fillStyle = colour;
      const limit = vertical ? area.height : area.width;
      const thick = size - (size >= 6 ? 1 : 0);
      // Several bars of one pixel are one, as long as the longest.
      const longest = new Float32Array(Math.ceil(limit) + 1);
      for (let i = from; i < from + count; i++) {
        const at = place(i);
        if (at + size < 0 || at > limit) continue;
        const length = (MARGIN - 3) * share(values[i] as number);
        if (size >= 3) {
          if (vertical) context.fillRect(2, at, length, thick);
          else context.fillRect(at, MARGIN - length, thick, length);
          continue;
        }
        for (let pixel = Math.max(0, Math.floor(at)); pixel < Math.max(at + size, Math.floor(at) + 1); pixel++) {
          longest[pixel] = Math.max(longest[pixel] as number, length);
        }
      }
      if (size >= 3) return;
      for (const [pixel, length] of longest.entries()) {
        if (vertical) context.fillRect(2, pixel, length, 1);
        else context.fillRect(pixel, MARGIN - length, 1, length);
      }
    };
    bars(
      this.received,
      received,
      (value) => shareOf(value, scale),
      (i) => this.x(i),
      cell.width,
      [area.column, area.columns],
      false,
    );
    bars(
      this.entropy,
      entropy,
      (value) => value,
      (i) => this.y(i),
      cell.height,
      [area.row, area.rows],
      true,
    );
  }

  private paintMinimap(): void {
    const enlarged = this.transform.k > 1.001;
    this.minimap.hidden = !enlarged;
    if (!enlarged) return;
    const { matrix } = this.data as HeadData;
    const { attention, current } = this.state;
    const { area } = this;
    const scale = MINIMAP / Math.max(area.width, area.height);
    const [width, height] = [Math.max(20, area.width * scale), Math.max(20, area.height * scale)];
    resize(this.minimap, width, height);
    const level = matrix.level(Math.min(200, attention.rows), Math.min(200, attention.columns));
    const seen = crop(level, this.state.shown(), attention);
    paintCodes(this.scratch, seen, palette(matrix.bits, matrix.scale, this.state.scaleOf(attention, current.head)));
    const context = this.minimap.getContext('2d');
    if (!context) return;
    const ratio = devicePixelRatio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.drawImage(this.scratch, 0, 0, width, height);
    context.strokeStyle = getComputedStyle(this.root).getPropertyValue('--mark');
    context.lineWidth = 2;
    const { k, x, y } = this.transform;
    context.strokeRect((-x / k / area.width) * width, (-y / k / area.height) * height, width / k, height / k);
  }

  private drawAxes(): void {
    const { area, cell } = this;
    const top = Number(this.top.attr('height'));
    const left = Number(this.left.attr('width'));
    const columns = this.ticks(
      this.keys as AxisLabels,
      area.column,
      area.columns,
      cell.width,
      (i) => this.x(i),
      area.width,
      this.angle ? LABEL_PITCH : 44,
    );
    const rows = this.ticks(
      this.queries as AxisLabels,
      area.row,
      area.rows,
      cell.height,
      (i) => this.y(i),
      area.height,
      LABEL_PITCH,
    );
    const across = scaleLinear([area.column, area.column + 1], [this.x(area.column + 0.5), this.x(area.column + 1.5)]);
    const down = scaleLinear([area.row, area.row + 1], [this.y(area.row + 0.5), this.y(area.row + 1.5)]);
    const keyText = (i: number) => this.tickLabel(this.keys as AxisLabels, i, columns.tokens);
    const queryText = (i: number) => this.tickLabel(this.queries as AxisLabels, i, rows.tokens);
    const topGroup = this.top.selectAll<SVGGElement, number>('g.axis').data([0]).join('g').attr('class', 'axis');
    topGroup.attr('transform', `translate(0,${top})`).call(
      axisTop(across)
        .tickValues(columns.at)
        .tickFormat((i) => keyText(Number(i)))
        .tickSize(4)
        .tickPadding(4),
    );
    topGroup
      .selectAll('text')
      .attr('transform', this.angle ? `translate(4,-1) rotate(${this.angle})` : null)
      // The outermost would reach into the corner, or beyond the margin.
      .attr('text-anchor', (i) => {
        if (this.angle) return 'start';
        const x = this.x(Number(i) + 0.5);
        return x < 16 ? 'start' : x > area.width - 16 ? 'end' : 'middle';
      });
    const leftGroup = this.left.selectAll<SVGGElement, number>('g.axis').data([0]).join('g').attr('class', 'axis');
    leftGroup.attr('transform', `translate(${left},0)`).call(
      axisLeft(down)
        .tickValues(rows.at)
        .tickFormat((i) => queryText(Number(i)))
        .tickSize(4)
        .tickPadding(4),
    );
    const lines = cell.width >= 12 && cell.height >= 12;
    const path = lines ? this.gridPath() : '';
    this.overlay.selectAll('path.cells').data([path]).join('path').attr('class', 'cells').attr('d', String);
  }

  private gridPath(): string {
    const { area, cell } = this;
    const parts: string[] = [];
    const firstColumn = Math.max(1, Math.floor(-this.transform.x / cell.width));
    for (let i = firstColumn; i < area.columns && this.x(area.column + i) < area.width; i++) {
      parts.push(`M${this.x(area.column + i)},0V${area.height}`);
    }
    const firstRow = Math.max(1, Math.floor(-this.transform.y / cell.height));
    for (let i = firstRow; i < area.rows && this.y(area.row + i) < area.height; i++) {
      parts.push(`M0,${this.y(area.row + i)}H${area.width}`);
    }
    return parts.join('');
  }

  /** Which rows or columns have a label: evenly, the first and last of the window always. */
  private ticks(
    labels: AxisLabels,
    from: number,
    count: number,
    size: number,
    place: (i: number) => number,
    limit: number,
    pitch: number,
  ): { at: number[]; tokens: boolean } {
    const first = Math.max(from, from + Math.ceil(-(place(from) + size / 2) / size));
    const last = Math.min(from + count - 1, from + Math.floor((limit - place(from) - size / 2) / size));
    const every = size >= pitch ? 1 : Math.ceil(pitch / size);
    // Tokens where each has a label; else round positions are more use.
    const tokens = labels.areTokens && every <= 2;
    const step = tokens || every === 1 ? every : roundStep(every);
    const at = [first];
    for (let i = Math.ceil((first + 0.001) / step) * step; i < last; i += step) {
      if ((i - first) * size >= pitch && (last - i) * size >= pitch) at.push(i);
    }
    if (last > first && (last - first) * size >= pitch) at.push(last);
    return { at, tokens };
  }

  private tickLabel(labels: AxisLabels, i: number, tokens: boolean): string {
    const token = this.label(labels.text[i] ?? '');
    if (tokens || !labels.areTokens) return token;
    // Special tokens keep their names among positions.
    return labels.special.has(i) ? token : String(labels.positions[i]);
  }

  /** What is pointed at or kept; nothing else is drawn anew. */
  private drawMarks(): void {
    if (!this.data) return;
    const { area, cell } = this;
    const { locked, from } = this.state.current;
    const lockedRow = from === 'query' ? locked : null;
    const lockedColumn = from === 'key' ? locked : null;
    const row = lockedRow ?? this.cursor?.row ?? null;
    const column = lockedColumn ?? this.cursor?.column ?? null;
    type Box = [kind: string, x: number, y: number, width: number, height: number];
    const boxes: Box[] = [];
    const thin = cell.width < 6 || cell.height < 6 ? ' thin' : '';
    if (row !== null) boxes.push([`band${thin}`, 0, this.y(row), area.width, Math.max(1, cell.height)]);
    if (column !== null) boxes.push([`band${thin}`, this.x(column), 0, Math.max(1, cell.width), area.height]);
    if (row !== null && column !== null && !thin)
      boxes.push(['cell', this.x(column), this.y(row), cell.width, cell.height]);
    if (lockedRow !== null && !thin) {
      boxes.push(['shade', 0, 0, area.width, this.y(lockedRow)]);
      const below = this.y(lockedRow) + Math.max(1, cell.height);
      boxes.push(['shade', 0, below, area.width, area.height - below]);
    }
    this.overlay
      .selectAll<SVGRectElement, Box>('rect')
      .data(boxes)
      .join('rect')
      .attr('class', ([kind]) => kind)
      .attr('x', ([, x]) => x)
      .attr('y', ([, , y]) => y)
      .attr('width', ([, , , width]) => Math.max(0, width))
      .attr('height', ([, , , , height]) => Math.max(0, height));
    this.markLabel(this.left, row === null ? null : this.label((this.queries as AxisLabels).text[row] ?? ''), (node) =>
      node
        .attr('text-anchor', 'end')
        .attr(
          'transform',
          `translate(${Number(this.left.attr('width')) - 8},${clamp(this.y((row ?? 0) + 0.5), 7, area.height - 7)})`,
        ),
    );
    const top = Number(this.top.attr('height'));
    this.markLabel(
      this.top,
      column === null ? null : this.label((this.keys as AxisLabels).text[column] ?? ''),
      (node) =>
        node
          .attr('text-anchor', this.angle ? 'start' : 'middle')
          .attr(
            'transform',
            `translate(${clamp(this.x((column ?? 0) + 0.5), 8, area.width - 8)},${top - (this.angle ? 7 : 12)}) rotate(${this.angle})`,
          ),
    );
  }

  /** The label of what is pointed at, over the others. */
  private markLabel(
    svg: Svg,
    text: string | null,
    place: (node: D3Selection<SVGTextElement, string, SVGSVGElement, unknown>) => unknown,
  ): void {
    const nodes = svg
      .selectAll<SVGTextElement, string>('text.marked')
      .data(text === null ? [] : [text])
      .join('text')
      .attr('class', 'marked')
      .attr('dominant-baseline', 'central')
      .text(String);
    place(nodes as unknown as D3Selection<SVGTextElement, string, SVGSVGElement, unknown>);
  }

  private cellAt(event: MouseEvent): Cell | null {
    const [x, y] = pointer(event, this.body);
    const { area, cell } = this;
    if (x < 0 || y < 0 || x >= area.width || y >= area.height) return null;
    return {
      row: clamp(area.row + Math.floor((y - this.transform.y) / cell.height), area.row, area.row + area.rows - 1),
      column: clamp(
        area.column + Math.floor((x - this.transform.x) / cell.width),
        area.column,
        area.column + area.columns - 1,
      ),
    };
  }

  private point(cell: Cell | null, event?: PointerEvent): void {
    if (event && cell?.row === this.cursor?.row && cell?.column === this.cursor?.column) {
      if (cell) this.tooltip.moveTo(event.clientX, event.clientY);
      return;
    }
    this.cursor = cell;
    this.drawMarks();
    this.onPoint(cell?.row ?? null);
    if (!cell || !this.data) {
      this.tooltip.hide();
      return;
    }
    const { locked, from } = this.state.current;
    const row = from === 'query' ? (locked ?? cell.row) : cell.row;
    const column = from === 'key' ? (locked ?? cell.column) : cell.column;
    const bounds = this.body.getBoundingClientRect();
    const x = event?.clientX ?? bounds.left + this.x(cell.column + 1);
    const y = event?.clientY ?? bounds.top + this.y(row + 1);
    this.tooltip.show(this.describe({ row, column }), x, y);
  }

  private describe({ row, column }: Cell): { heading: string; rows: [string, string][] } {
    const data = this.data as HeadData;
    const { attention } = this.state;
    const { matrix, pooled } = data;
    const [queries, keys] = [this.queries as AxisLabels, this.keys as AxisLabels];
    let at = { row, column };
    let value = cellValue(data, attention, row, column);
    const rows: [string, string][] = [];
    if (value.block && value.state === 'weight') {
      // The largest weight of the block may be one of those that are known exactly.
      const best = this.strongestOf(value.block);
      if (best) {
        at = best;
        value = { ...cellValue(data, attention, best.row, best.column), block: value.block };
      }
      const {
        rows: [top, bottom],
        columns: [left, right],
      } = value.block as NonNullable<typeof value.block>;
      rows.push(['largest of', `${bottom - top} × ${right - left} weights`]);
      rows.push(
        best
          ? ['query', describePosition(queries, at.row)]
          : ['queries', `${queries.positions[top]} to ${queries.positions[bottom - 1]}`],
      );
      rows.push(best ? ['key', describePosition(keys, at.column)] : ['keys', `${left} to ${right - 1}`]);
    } else {
      rows.push(['query', describePosition(queries, row)], ['key', describePosition(keys, column)]);
    }
    if (!pooled && !attention.capturedTopK) {
      let sum = 0;
      const start = row * attention.columns;
      for (let i = start; i < start + attention.columns; i++) sum += matrix.value(i);
      rows.push(['row sum', `${matrix.error ? '≈ ' : ''}${sum.toFixed(4)}`]);
    }
    if (!attention.capturedTopK) rows.push(['entropy of the query', percent(data.entropy[at.row] as number)]);
    return { heading: describeValue(value, matrix.error), rows };
  }

  private strongestOf({ rows, columns }: { rows: [number, number]; columns: [number, number] }): Cell | undefined {
    const { top, matrix } = this.data as HeadData;
    const { attention } = this.state;
    let best: (Cell & { weight: number }) | undefined;
    for (let row = rows[0]; row < rows[1]; row++) {
      for (const { key, weight } of top.row(row)) {
        if (key >= columns[0] && key < columns[1] && weight > (best?.weight ?? 0)) best = { row, column: key, weight };
      }
    }
    if (!best) return undefined;
    const cell =
      cellOf(best.row, attention.rows, matrix.rows) * matrix.columns +
      cellOf(best.column, attention.columns, matrix.columns);
    // Another weight of the block may be larger, but no query's strongest would be missing.
    return best.weight >= matrix.value(cell) * (1 - 1.1 * matrix.error) ? best : undefined;
  }

  private toggleLock(row: number | undefined): void {
    if (row === undefined) return;
    const { locked } = this.state.current;
    this.state.set({ locked: locked === null ? row : null, from: 'query' });
  }

  private onKey(event: KeyboardEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const steps: Record<string, [number, number]> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const step = steps[event.key];
    if (step) {
      this.move(step, event.shiftKey);
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.toggleLock(this.cursor?.row);
    } else if (event.key === 'Escape') {
      this.state.set({ locked: null });
    } else if (event.key === '+' || event.key === '=') {
      this.enlarge(1.5);
    } else if (event.key === '-') {
      this.enlarge(1 / 1.5);
    } else if (event.key === '0') {
      this.enlarge(0);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Enlarges by a factor around the cursor, or the middle; 0 shows the whole head. */
  enlarge(factor: number): void {
    const body = select(this.body);
    if (factor === 0) {
      body.call(this.behaviour.transform, zoomIdentity);
      return;
    }
    const { width, height } = this.area;
    const at: [number, number] = this.cursor
      ? [this.x(this.cursor.column + 0.5), this.y(this.cursor.row + 0.5)]
      : [width / 2, height / 2];
    body.call(this.behaviour.scaleBy, factor, at);
  }

  /** To the next cell; where the page has a picture only, to its next; with shift, ten at a time. */
  private move([down, across]: [number, number], far: boolean): void {
    const { area } = this;
    const data = this.data as HeadData;
    const stride = (cells: number, length: number) =>
      (data.pooled ? Math.max(1, Math.round(length / cells)) : 1) * (far ? 10 : 1);
    const { attention } = this.state;
    const from = this.cursor ?? { row: area.row - (down > 0 ? 1 : 0), column: area.column - (across > 0 ? 1 : 0) };
    const cell = {
      row: clamp(from.row + down * stride(data.matrix.rows, attention.rows), area.row, area.row + area.rows - 1),
      column: clamp(
        from.column + across * stride(data.matrix.columns, attention.columns),
        area.column,
        area.column + area.columns - 1,
      ),
    };
    // A kept row follows the cursor keys.
    const { locked, from: side } = this.state.current;
    if (locked !== null && side === 'query' && down !== 0) this.state.set({ locked: cell.row });
    this.bringIntoSight(cell);
    this.cursor = null;
    this.point(cell);
  }

  private bringIntoSight({ row, column }: Cell): void {
    const { area, cell } = this;
    const beyond = (at: number, size: number, limit: number) =>
      at < 0 ? at : at + size > limit ? at + size - limit : 0;
    const dx = beyond(this.x(column), cell.width, area.width);
    const dy = beyond(this.y(row), cell.height, area.height);
    if (dx || dy) select(this.body).call(this.behaviour.translateBy, -dx / this.transform.k, -dy / this.transform.k);
  }

  /** The number of weights that a pixel stands for, in words; empty where each weight has its own. */
  get note(): string {
    if (!this.data) return '';
    const { attention } = this.state;
    const { pooled, matrix } = this.data;
    if (pooled) {
      const [top, bottom] = blockOf(0, attention.rows, matrix.rows);
      const [left, right] = blockOf(0, attention.columns, matrix.columns);
      return `picture: each cell the largest of ${bottom - top} × ${right - left} weights`;
    }
    const { width, height } = this.cell;
    const ratio = devicePixelRatio;
    if (width * ratio >= 1 && height * ratio >= 1) return '';
    const each = (size: number) => (1 / Math.min(1, size * ratio)).toFixed(1).replace(/\.0$/, '');
    return `each pixel the largest of ${each(height)} × ${each(width)} weights`;
  }
}

function clamp(value: number, from: number, to: number): number {
  return Math.max(from, Math.min(value, to));
}

/** A canvas of so many pixels of the page. */
function resize(canvas: HTMLCanvasElement, width: number, height: number): void {
  const [w, h] = [
    Math.max(1, Math.round(width * devicePixelRatio)),
    Math.max(1, Math.round(height * devicePixelRatio)),
  ];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
}

/** The least round number of positions that is at least `least`: powers of two count as round for tokens. */
function roundStep(least: number): number {
  for (let power = 1; ; power *= 10) {
    for (const part of [1, 2, 5]) if (part * power >= least) return part * power;
  }
}
