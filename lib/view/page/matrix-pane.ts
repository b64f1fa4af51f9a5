import { pointer, select } from 'd3-selection';
import { type D3ZoomEvent, type ZoomBehavior, zoom, zoomIdentity } from 'd3-zoom';
import type { ViewDataAttention } from '../view-data';
import type { AxisLabels } from './axis-labels';
import { AxisWindow } from './axis-window';
import { arrowStep, element, find, oncePerFrame } from './dom';
import { MARGIN, paintBars } from './margin-bars';
import type { Matrix } from './matrix';
import { MatrixAxis } from './matrix-axis';
import { paintCells, paintMinimap, resize } from './matrix-cells';

/** Of few tokens cells are larger, up to the second; in both cases as long as the whole is no larger than the third. */
const [LARGEST_CELL, LARGEST_OF_FEW, LARGE] = [34, 64, 440];
/** Sides of a matrix of few rows or columns are stretched to this, so that they are no hairlines. */
const LEAST_SIDE = 220;

/** What lies over the cells: the row and column that are pointed at or kept, and where they meet; what is beside a kept row. */
const MARKS = ['band row', 'band column', 'cell', 'shade above', 'shade below'] as const;
type Mark = (typeof MARKS)[number];

/** What a pane draws. */
export interface Subject {
  /** How it is called: 'layer 3, head 5'. */
  name: string;
  matrix: Matrix;
  /** Of the attention; the matrix may be a picture of it. */
  rows: number;
  columns: number;
  shown: ViewDataAttention['shown'];
  queries: AxisLabels;
  keys: AxisLabels;
  colours: Uint32Array;
  /** Lengths of the bars above and beside, from 0 to 1; none where there are no margins. */
  margins?: { received: (column: number) => number; entropy: (row: number) => number };
}

/** Rows and columns are those of the attention, padding included, whether it is shown or not. */
export interface Cell {
  row: number;
  column: number;
}

/** How often a matrix is enlarged, and which share of it lies left of and above the window. */
export type Zoom = [number, number, number];

export interface PaneEvents {
  /** A cell is pointed at, with the pointer or with keys; null: none any more. */
  onPoint(cell: Cell | null, at: { x: number; y: number }): void;
  /** A row is clicked. */
  onChoose(row: number): void;
  onRelease(): void;
  onZoom(zoom: Zoom): void;
  /** Keys went to another row. */
  onRow?(row: number): void;
}

/**
 * One matrix in a window: queries down, keys across. The whole of it always fits; wheel, drag, fingers and keys enlarge
 * parts. Labels and marks lie over the cells, so that pointing repaints nothing.
 */
export class MatrixPane {
  private readonly axes: { top: MatrixAxis; left: MatrixAxis };
  private readonly grid: SVGSVGElement;
  private readonly marks: Map<Mark, HTMLElement>;
  private readonly body: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly received: HTMLCanvasElement;
  private readonly entropy: HTMLCanvasElement;
  private readonly minimap: HTMLCanvasElement;
  private readonly frame: HTMLElement;
  private readonly behaviour: ZoomBehavior<HTMLElement, unknown>;
  private readonly scratch = document.createElement('canvas');
  private readonly repaint = oncePerFrame(() => this.paint());

  private subject: Subject | undefined;
  private across = new AxisWindow(0, 1, 1);
  private down = new AxisWindow(0, 1, 1);
  private cursor: Cell | null = null;
  private locked: { row: number | null; column: number | null } = { row: null, column: null };
  private settingZoom = false;

  constructor(
    private readonly root: HTMLElement,
    private readonly events: PaneEvents,
  ) {
    root.innerHTML = `
      <div class="matrix-frame" hidden>
        <div class="matrix-corner" aria-hidden="true"></div>
        <canvas class="margin received" aria-hidden="true" title="What each key receives, on average over the queries"></canvas>
        <div class="matrix-top" aria-hidden="true"><svg></svg><span class="marked"></span></div>
        <div class="matrix-left" aria-hidden="true"><svg></svg><span class="marked"></span></div>
        <div class="matrix-body hatched" tabindex="0" role="application" aria-describedby="matrix-help">
          <canvas></canvas><svg class="matrix-grid" aria-hidden="true"></svg>
          <div class="matrix-marks" aria-hidden="true">${MARKS.map((kind) => `<div class="${kind}" hidden></div>`).join('')}</div>
        </div>
        <span class="entropy-title" aria-hidden="true">entropy</span>
        <canvas class="margin entropy" aria-hidden="true" title="How broadly each query looks: its entropy, as a share of its largest"></canvas>
      </div>
      <canvas class="minimap" aria-hidden="true"></canvas>`;
    this.frame = find(root, '.matrix-frame');
    this.axes = {
      top: new MatrixAxis(find(root, '.matrix-top'), 'top'),
      left: new MatrixAxis(find(root, '.matrix-left'), 'left'),
    };
    this.grid = find<SVGSVGElement>(root, '.matrix-grid');
    this.marks = new Map(MARKS.map((kind) => [kind, find(root, `.matrix-marks .${kind.replace(' ', '.')}`)]));
    this.body = find(root, '.matrix-body');
    this.canvas = find(root, '.matrix-body canvas');
    this.received = find(root, '.received');
    this.entropy = find(root, '.entropy');
    this.minimap = find(root, '.minimap');

    this.behaviour = zoom<HTMLElement, unknown>()
      // One finger scrolls the page until something is enlarged.
      .filter((event: Event) => {
        const { ctrlKey, button, touches } = event as MouseEvent & TouchEvent;
        if (touches && touches.length < 2 && this.across.enlarged === 1) return false;
        return (!ctrlKey || event.type === 'wheel') && !button;
      })
      .on('zoom', (event: D3ZoomEvent<HTMLElement, unknown>) => this.onZoom(event));
    select(this.body).call(this.behaviour).on('dblclick.zoom', null);
    this.body.addEventListener('pointermove', (event) => this.point(this.cellAt(event), event));
    for (const over of ['pointerleave', 'blur']) this.body.addEventListener(over, () => this.point(null));
    this.body.addEventListener('click', (event) => {
      const cell = this.cellAt(event);
      if (cell) this.events.onChoose(cell.row);
    });
    this.body.addEventListener('keydown', (event) => this.onKey(event));
  }

  /** Shows a matrix, at the part that is asked for. */
  update(subject: Subject, to: Zoom, mostHeight: number): void {
    this.subject = subject;
    this.layOut(subject, mostHeight);
    this.setZoom(to);
    this.paint();
  }

  private layOut(subject: Subject, mostHeight: number): void {
    const { shown, queries, keys, margins } = subject;
    const { top, left } = this.axes;
    const measure = this.measure();
    top.setLabels(keys, measure);
    left.setLabels(queries, measure);
    const margin = margins ? MARGIN : 0;
    const [rows, columns] = [shown.rows[1] - shown.rows[0], shown.columns[1] - shown.columns[0]];
    const beside = left.reserve(0, 0, margin).room;
    const room = this.root.clientWidth - beside - margin - 12;
    const largest = Math.max(LARGEST_CELL, Math.min(LARGEST_OF_FEW, Math.floor(LARGE / Math.max(rows, columns))));
    const measured = (size: number) => {
      const above = top.reserve(size, largest, margin);
      const width = Math.max(120, room - above.overhang);
      const height = Math.max(Math.min(260, width), Math.min(mostHeight - above.room - margin - 20, 1.25 * width));
      return { above, width, height, cell: Math.min(largest, width / columns, height / rows) };
    };
    const widest = measured(room / columns);
    // Where the height lets columns be no wider than that, turned labels wouldn't fit, and aren't worth their room.
    const { above, width, height, cell } = widest.cell < room / columns ? measured(widest.cell) : widest;
    const side = (count: number, limit: number) => {
      const size = Math.max(cell, Math.min(largest, Math.min(limit, LEAST_SIDE) / count));
      return Math.min(limit, (size >= 4 ? Math.floor(size) : size) * count);
    };
    this.across = new AxisWindow(shown.columns[0], columns, side(columns, width));
    this.down = new AxisWindow(shown.rows[0], rows, side(rows, height));
    const [wide, high] = [this.across.length, this.down.length];

    // Before that canvases have a browser's own size, wider than small windows.
    this.frame.hidden = false;
    this.frame.style.gridTemplateColumns = `${beside}px ${wide}px ${margin}px`;
    this.frame.style.gridTemplateRows = `${margin}px ${above.room}px ${high}px`;
    resize(this.canvas, wide, high);
    this.received.hidden = !margins;
    this.entropy.hidden = !margins;
    find(this.root, '.entropy-title').hidden = !margins;
    if (margins) {
      resize(this.received, wide, MARGIN);
      resize(this.entropy, MARGIN, high);
    }
    this.grid.setAttribute('width', String(wide));
    this.grid.setAttribute('height', String(high));
    const corner = [...(margins ? ['received ↑'] : []), 'keys →', 'queries ↓'];
    find(this.root, '.matrix-corner').replaceChildren(...corner.map((text) => element('span', '', text)));
    this.body.setAttribute('aria-label', `Attention of ${subject.name}: ${rows} queries by ${columns} keys`);
    const most = Math.max(8, (2 * LARGEST_CELL) / this.across.size, (2 * LARGEST_CELL) / this.down.size);
    const extent: [[number, number], [number, number]] = [
      [0, 0],
      [wide, high],
    ];
    this.behaviour.scaleExtent([1, most]).extent(extent).translateExtent(extent);
  }

  private measure(): (text: string) => number {
    const context = this.scratch.getContext('2d');
    if (!context) return () => 80;
    context.font = getComputedStyle(this.root).getPropertyValue('--label-font');
    return (text) => context.measureText(text).width;
  }

  /** Enlarges as another pane, or an address, says. */
  setZoom([k, x, y]: Zoom): void {
    const [, most] = this.behaviour.scaleExtent();
    const enlarged = Math.max(1, Math.min(k, most));
    // Addresses may say anything; what is asked for lies within.
    const within = (share: number) => Math.max(0, Math.min(share, 1 - 1 / enlarged));
    const to = zoomIdentity
      .translate(-within(x) * this.across.length * enlarged, -within(y) * this.down.length * enlarged)
      .scale(enlarged);
    this.settingZoom = true;
    select(this.body).call(this.behaviour.transform, to);
    this.settingZoom = false;
    this.repaint();
  }

  private onZoom({ transform }: D3ZoomEvent<HTMLElement, unknown>): void {
    const { k, x, y } = transform;
    this.across = this.across.at(k, x);
    this.down = this.down.at(k, y);
    this.body.style.touchAction = k > 1 ? 'none' : 'pan-x pan-y';
    this.body.classList.toggle('enlarged', k > 1);
    if (this.settingZoom) return;
    this.repaint();
    this.events.onZoom([k, -x / k / this.across.length, -y / k / this.down.length]);
  }

  private paint(): void {
    const { subject, across, down } = this;
    if (!subject) return;
    const { matrix, colours, shown, margins } = subject;
    const style = getComputedStyle(this.root);
    paintCells(this.canvas, this.scratch, matrix, subject, { across, down }, colours);
    if (margins) {
      const bars = style.getPropertyValue('--accent');
      paintBars(this.received, 'top', margins.received, across, bars);
      paintBars(this.entropy, 'right', margins.entropy, down, bars);
    }
    const frame = style.getPropertyValue('--mark');
    paintMinimap(this.minimap, this.scratch, matrix, subject, shown, { across, down }, colours, frame);
    this.axes.top.draw(across);
    this.axes.left.draw(down);
    select(this.grid)
      .selectAll('path.cells')
      .data([this.gridPath()])
      .join('path')
      .attr('class', 'cells')
      .attr('d', String);
    this.drawMarks();
  }

  /** Lines between cells that are large enough. */
  private gridPath(): string {
    const { across, down } = this;
    if (across.size < 12 || down.size < 12) return '';
    const lines = (window: AxisWindow, line: (at: number) => string) => {
      const [from, to] = window.visible;
      const parts: string[] = [];
      for (let i = Math.floor(from) + 1; i < to; i++) parts.push(line(window.place(i)));
      return parts.join('');
    };
    return lines(across, (x) => `M${x},0V${down.length}`) + lines(down, (y) => `M0,${y}H${across.length}`);
  }

  /** Shows what is pointed at, in this pane or another one beside it. */
  setCursor(cell: Cell | null): void {
    this.cursor = cell;
    this.drawMarks();
  }

  /** Shows which row or column is kept. */
  setLocked(locked: number | null, from: 'query' | 'key'): void {
    this.locked = { row: from === 'query' ? locked : null, column: from === 'key' ? locked : null };
    this.drawMarks();
  }

  /** What is pointed at or kept; nothing else is drawn anew. */
  private drawMarks(): void {
    if (!this.subject) return;
    const { across, down, locked } = this;
    const row = locked.row ?? this.cursor?.row ?? null;
    const column = locked.column ?? this.cursor?.column ?? null;
    const [width, height] = [Math.max(1, across.size), Math.max(1, down.size)];
    const thin = across.size < 6 || down.size < 6;
    const boxes: Partial<Record<Mark, [x: number, y: number, width: number, height: number]>> = {};
    if (row !== null) boxes['band row'] = [0, down.place(row), across.length, height];
    if (column !== null) boxes['band column'] = [across.place(column), 0, width, down.length];
    if (row !== null && column !== null && !thin) boxes.cell = [across.place(column), down.place(row), width, height];
    if (locked.row !== null && !thin) {
      const below = down.place(locked.row) + height;
      boxes['shade above'] = [0, 0, across.length, down.place(locked.row)];
      boxes['shade below'] = [0, below, across.length, down.length - below];
    }
    const pixel = (value: number) => Math.round(value * devicePixelRatio) / devicePixelRatio;
    for (const [kind, node] of this.marks) {
      const box = boxes[kind]?.map(pixel);
      node.hidden = box === undefined || (box[2] as number) <= 0 || (box[3] as number) <= 0;
      if (!box || node.hidden) continue;
      // Marks are layers: where only their place changes, nothing is laid out or painted.
      node.classList.toggle('thin', thin);
      node.style.width = `${box[2]}px`;
      node.style.height = `${box[3]}px`;
      node.style.transform = `translate(${box[0]}px, ${box[1]}px)`;
    }
    this.axes.left.mark(row, down);
    this.axes.top.mark(column, across);
  }

  private cellAt(event: MouseEvent): Cell | null {
    const [x, y] = pointer(event, this.body);
    const { across, down } = this;
    if (x < 0 || y < 0 || x >= across.length || y >= down.length) return null;
    return { row: down.indexAt(y), column: across.indexAt(x) };
  }

  private point(cell: Cell | null, event?: PointerEvent): void {
    const moved = cell?.row !== this.cursor?.row || cell?.column !== this.cursor?.column;
    if (moved) this.setCursor(cell);
    const bounds = event || !cell ? undefined : this.body.getBoundingClientRect();
    const x = event?.clientX ?? (bounds?.left ?? 0) + this.across.place((cell?.column ?? 0) + 1);
    const y = event?.clientY ?? (bounds?.top ?? 0) + this.down.place((cell?.row ?? 0) + 1);
    this.events.onPoint(cell, { x, y });
  }

  private onKey(event: KeyboardEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const actions: Record<string, () => void> = {
      Enter: () => this.cursor && this.events.onChoose(this.cursor.row),
      Escape: () => this.events.onRelease(),
      '+': () => this.enlarge(1.5),
      '-': () => this.enlarge(1 / 1.5),
      '0': () => this.enlarge(0),
    };
    const same: Record<string, string> = { ' ': 'Enter', '=': '+' };
    const step = arrowStep(event.key);
    const action = actions[same[event.key] ?? event.key];
    if (!step && !action) return;
    event.preventDefault();
    if (step) this.move(step, event.shiftKey);
    else action?.();
  }

  /** Enlarges by a factor around the cursor, or the middle; 0 shows the whole head. */
  enlarge(factor: number): void {
    const body = select(this.body);
    if (factor === 0) {
      body.call(this.behaviour.transform, zoomIdentity);
      return;
    }
    const { across, down, cursor } = this;
    const at: [number, number] = cursor
      ? [across.place(cursor.column + 0.5), down.place(cursor.row + 0.5)]
      : [across.length / 2, down.length / 2];
    body.call(this.behaviour.scaleBy, factor, at);
  }

  /** To the next cell; where there is a picture only, to its next; with shift, ten at a time. */
  private move([down, across]: [number, number], far: boolean): void {
    const { matrix, rows, columns } = this.subject as Subject;
    const stride = (cells: number, length: number) => Math.max(1, Math.round(length / cells)) * (far ? 10 : 1);
    // The first key goes to the first cell, wherever it points.
    const from = this.cursor ?? {
      row: this.down.first - (down > 0 ? 1 : 0),
      column: this.across.first - (across > 0 ? 1 : 0),
    };
    const cell = {
      row: this.down.clamp(from.row + down * stride(matrix.rows, rows)),
      column: this.across.clamp(from.column + across * stride(matrix.columns, columns)),
    };
    if (down !== 0) this.events.onRow?.(cell.row);
    this.bringIntoSight(cell);
    this.point(cell);
  }

  private bringIntoSight({ row, column }: Cell): void {
    const [dx, dy] = [this.across.beyond(column), this.down.beyond(row)];
    const { enlarged } = this.across;
    if (dx || dy) select(this.body).call(this.behaviour.translateBy, -dx / enlarged, -dy / enlarged);
  }

  /** The rows and columns in sight, whole: [from, to). */
  get visible(): ViewDataAttention['shown'] {
    const whole = ({ visible: [from, to] }: AxisWindow): [number, number] => [
      Math.floor(from + 1e-6),
      Math.max(Math.floor(from + 1e-6) + 1, Math.ceil(to - 1e-6)),
    ];
    return { rows: whole(this.down), columns: whole(this.across) };
  }

  /** How many weights one pixel stands for, in words; empty where each weight has its own. */
  get note(): string {
    const ratio = devicePixelRatio;
    const [height, width] = [this.down.size * ratio, this.across.size * ratio];
    if (width >= 1 && height >= 1) return '';
    const each = (size: number) => (1 / Math.min(1, size)).toFixed(1).replace(/\.0$/, '');
    return `each pixel the largest of ${each(height)} × ${each(width)} weights`;
  }
}
