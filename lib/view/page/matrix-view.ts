import { type Selection as D3Selection, select } from 'd3-selection';
import { paint, shareOf } from './colour';
import { formatWeight, shorten, visible } from './format';
import { type AxisLabels, describePosition, headName, keyLabels, queryLabels, type State } from './state';
import type { Tooltip } from './tooltip';
import type { Matrix, Weights } from './weights';

const LABEL_CHARACTERS = 16;
/** The least distance between two labels of an axis, in pixels. */
const LABEL_PITCH = 13;
const LARGEST_CELL = 34;
const TOP_ANGLE = -60;

interface Cell {
  row: number;
  column: number;
}

/** One head large: queries down, keys across, axes that stay in sight, and a cell under the pointer or the cursor keys. */
export class MatrixView {
  private readonly corner: HTMLElement;
  private readonly top: D3Selection<SVGSVGElement, unknown, null, undefined>;
  private readonly left: D3Selection<SVGSVGElement, unknown, null, undefined>;
  private readonly body: HTMLElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly overlay: D3Selection<SVGSVGElement, unknown, null, undefined>;

  private matrix: Matrix | undefined;
  private queries: AxisLabels = { text: [], positions: [], areTokens: false };
  private keys: AxisLabels = { text: [], positions: [], areTokens: false };
  private cell = 1;
  private angle = TOP_ANGLE;
  private cursor: Cell | null = null;

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly weights: Weights,
    private readonly tooltip: Tooltip,
    private readonly onRow: (row: number | null) => void,
  ) {
    root.innerHTML = `
      <div class="matrix-scroll">
        <div class="matrix-frame">
          <div class="matrix-corner" aria-hidden="true"><span>keys →</span><span>queries ↓</span></div>
          <svg class="matrix-top" aria-hidden="true"></svg>
          <svg class="matrix-left" aria-hidden="true"></svg>
          <div class="matrix-body" tabindex="0" role="application" aria-describedby="matrix-help">
            <canvas></canvas><svg class="matrix-overlay" aria-hidden="true"></svg>
          </div>
        </div>
      </div>
      <p id="matrix-help" class="visually-hidden">Arrow keys move from cell to cell, Enter keeps the row, Escape lets it go,
        plus and minus zoom.</p>`;
    const find = <T extends Element>(selector: string) => root.querySelector<T>(selector) as T;
    this.corner = find('.matrix-corner');
    this.top = select(find<SVGSVGElement>('.matrix-top'));
    this.left = select(find<SVGSVGElement>('.matrix-left'));
    this.body = find('.matrix-body');
    this.canvas = find('canvas');
    this.overlay = select(find<SVGSVGElement>('.matrix-overlay'));

    this.body.addEventListener('pointermove', (event) => this.point(this.cellAt(event), event));
    this.body.addEventListener('pointerleave', () => this.point(null));
    this.body.addEventListener('click', (event) => this.toggleLock(this.cellAt(event)?.row));
    this.body.addEventListener('keydown', (event) => this.onKey(event));
    this.body.addEventListener('blur', () => this.point(null));
  }

  update(): void {
    const { example, attention } = this.state;
    this.matrix = this.weights.matrix(attention, this.state.current.head);
    this.queries = queryLabels(example, attention);
    this.keys = keyLabels(example, attention);
    this.cursor = null;
    this.draw();
  }

  private draw(): void {
    const matrix = this.matrix;
    if (!matrix) return;
    const { scale, zoom, head } = this.state.current;
    const left = Math.max(68, Math.ceil(this.widest(this.queries)) + 14);
    const topLabel = Math.ceil(this.widest(this.keys));
    const top = Math.max(40, Math.ceil(topLabel * Math.sin((-TOP_ANGLE * Math.PI) / 180)) + 16);
    const overhang = Math.ceil(topLabel * Math.cos((TOP_ANGLE * Math.PI) / 180)) + 10;
    const width = this.root.clientWidth - left - overhang - 4;
    const height = Math.max(
      320,
      window.innerHeight - this.root.getBoundingClientRect().top - window.scrollY - top - 48,
    );
    const fit = Math.min(LARGEST_CELL, width / matrix.columns, height / matrix.rows);
    // Whole pixels, so that all cells are of one size, but for small ones, where that would waste too much room.
    const whole = (size: number) => (size >= 4 ? Math.floor(size) : size);
    this.cell = whole(Math.max(whole(fit), 1 / devicePixelRatio) * zoom);
    // Labels narrower than a cell need no turning.
    this.angle = topLabel < this.cell ? 0 : TOP_ANGLE;
    const bodyWidth = this.cell * matrix.columns;
    const bodyHeight = this.cell * matrix.rows;

    const frame = this.corner.parentElement as HTMLElement;
    frame.style.gridTemplateColumns = `${left}px ${bodyWidth}px ${overhang}px`;
    frame.style.gridTemplateRows = `${top}px ${bodyHeight}px`;
    paint(this.canvas, matrix, (weight) => shareOf(weight, scale, matrix.maximum));
    this.canvas.style.width = `${bodyWidth}px`;
    this.canvas.style.height = `${bodyHeight}px`;
    this.overlay.attr('width', bodyWidth).attr('height', bodyHeight);
    this.top
      .attr('width', bodyWidth + overhang)
      .attr('height', top)
      .attr('text-anchor', this.angle ? 'start' : 'middle');
    this.left.attr('width', left).attr('height', bodyHeight);
    const name = `${this.state.attention.label}, ${headName(this.state.attention, head)}`;
    this.body.setAttribute('aria-label', `Attention of ${name}: ${matrix.rows} queries by ${matrix.columns} keys`);
    this.drawGrid(bodyWidth, bodyHeight);
    this.drawMarks();
  }

  private widest({ text }: AxisLabels): number {
    const context = this.canvas.ownerDocument.createElement('canvas').getContext('2d');
    if (!context) return 80;
    context.font = getComputedStyle(this.root).getPropertyValue('--label-font');
    return Math.min(120, Math.max(14, ...text.map((token) => context.measureText(this.label(token)).width)));
  }

  private label(token: string): string {
    return shorten(visible(token), LABEL_CHARACTERS);
  }

  private drawGrid(width: number, height: number): void {
    const lines = this.cell >= 12 && this.matrix ? this.matrix : { rows: 0, columns: 0 };
    const path = [
      ...Array.from({ length: Math.max(0, lines.columns - 1) }, (_, i) => `M${(i + 1) * this.cell},0V${height}`),
      ...Array.from({ length: Math.max(0, lines.rows - 1) }, (_, i) => `M0,${(i + 1) * this.cell}H${width}`),
    ].join('');
    this.overlay.selectAll('path.cells').data([path]).join('path').attr('class', 'cells').attr('d', String);
  }

  /** Labels and marks that depend on the cell pointed at and on the row kept. */
  private drawMarks(): void {
    const matrix = this.matrix;
    if (!matrix) return;
    const { lockedRow } = this.state.current;
    const row = lockedRow ?? this.cursor?.row ?? null;
    const column = this.cursor?.column ?? null;
    const width = this.cell * matrix.columns;
    const height = this.cell * matrix.rows;

    const shades: [number, number, number, number][] = [];
    if (lockedRow !== null) {
      shades.push([0, 0, width, lockedRow * this.cell]);
      shades.push([0, (lockedRow + 1) * this.cell, width, height - (lockedRow + 1) * this.cell]);
    }
    this.overlay
      .selectAll('rect.shade')
      .data(shades)
      .join('rect')
      .attr('class', 'shade')
      .each(function (rectangle) {
        place(this as SVGRectElement, rectangle);
      });
    const bands: [number, number, number, number][] = [];
    if (row !== null) bands.push([0, row * this.cell, width, this.cell]);
    if (column !== null) bands.push([column * this.cell, 0, this.cell, height]);
    this.overlay
      .selectAll('rect.band')
      .data(bands)
      .join('rect')
      .attr('class', this.cell < 6 ? 'band thin' : 'band')
      .each(function (rectangle) {
        place(this as SVGRectElement, rectangle);
      });
    const marked: [number, number, number, number][] =
      row !== null && column !== null ? [[column * this.cell, row * this.cell, this.cell, this.cell]] : [];
    this.overlay
      .selectAll('rect.cell')
      .data(marked)
      .join('rect')
      .attr('class', 'cell')
      .each(function (rectangle) {
        place(this as SVGRectElement, rectangle);
      });

    this.drawLabels(this.left, this.queries, row, (i) => {
      const x = Number(this.left.attr('width')) - 8;
      // A label pointed at that belongs to an outermost small cell would be cut off.
      return `translate(${x},${Math.max(7, Math.min((i + 0.5) * this.cell, height - 7))})`;
    });
    const top = Number(this.top.attr('height'));
    this.drawLabels(this.top, this.keys, column, (i) => {
      return `translate(${(i + 0.5) * this.cell},${top - (this.angle ? 7 : 11)}) rotate(${this.angle})`;
    });
  }

  private drawLabels(
    svg: D3Selection<SVGSVGElement, unknown, null, undefined>,
    labels: AxisLabels,
    marked: number | null,
    transform: (i: number) => string,
  ): void {
    const step = Math.max(1, Math.ceil(LABEL_PITCH / this.cell));
    const reach = LABEL_PITCH / this.cell;
    // From the middle of a step on: the first label of small cells has room above it.
    const start = Math.floor(step / 2);
    const shown = labels.text
      .map((_, i) => i)
      // The label pointed at is always there; those that it would overlap give way.
      .filter((i) => i === marked || (i % step === start && (marked === null || Math.abs(i - marked) >= reach)));
    svg
      .selectAll<SVGTextElement, number>('text')
      .data(shown, String)
      .join('text')
      .attr('class', (i) => (i === marked ? 'marked' : null))
      .attr('dominant-baseline', 'central')
      .attr('transform', transform)
      .text((i) => this.label(labels.text[i] as string));
  }

  private cellAt(event: MouseEvent): Cell | null {
    const bounds = this.body.getBoundingClientRect();
    const row = Math.floor((event.clientY - bounds.top) / this.cell);
    const column = Math.floor((event.clientX - bounds.left) / this.cell);
    const inside = this.matrix && row >= 0 && column >= 0 && row < this.matrix.rows && column < this.matrix.columns;
    return inside ? { row, column } : null;
  }

  private point(cell: Cell | null, event?: PointerEvent): void {
    if (event && cell?.row === this.cursor?.row && cell?.column === this.cursor?.column) {
      if (cell) this.tooltip.moveTo(event.clientX, event.clientY);
      return;
    }
    this.cursor = cell;
    this.drawMarks();
    const row = this.state.current.lockedRow ?? cell?.row ?? null;
    this.onRow(row);
    if (!cell || row === null || !this.matrix) {
      this.tooltip.hide();
      return;
    }
    this.tooltip.show(this.describe({ row, column: cell.column }));
    if (event) {
      this.tooltip.moveTo(event.clientX, event.clientY);
    } else {
      const bounds = this.body.getBoundingClientRect();
      this.tooltip.moveTo(bounds.left + (cell.column + 1) * this.cell, bounds.top + (row + 1) * this.cell);
    }
  }

  private describe({ row, column }: Cell): { weight: string; rows: [string, string][] } {
    const { columns, values } = this.matrix as Matrix;
    const weights = values.subarray(row * columns, (row + 1) * columns);
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return {
      weight: formatWeight(weights[column] as number),
      rows: [
        ['query', describePosition(this.queries, row)],
        ['key', describePosition(this.keys, column)],
        ['row sum', formatWeight(sum)],
      ],
    };
  }

  private toggleLock(row: number | undefined): void {
    if (row === undefined) return;
    this.state.set({ lockedRow: this.state.current.lockedRow === null ? row : null });
  }

  private onKey(event: KeyboardEvent): void {
    const steps: Record<string, [number, number]> = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    const step = steps[event.key];
    if (step && this.matrix) {
      const from = this.cursor ?? { row: step[0] > 0 ? -1 : 0, column: step[1] > 0 ? -1 : 0 };
      const cell = {
        row: Math.max(0, Math.min(from.row + step[0], this.matrix.rows - 1)),
        column: Math.max(0, Math.min(from.column + step[1], this.matrix.columns - 1)),
      };
      // A kept row follows the cursor keys.
      if (this.state.current.lockedRow !== null && step[0] !== 0) this.lockAt(cell);
      else this.point(cell);
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.toggleLock(this.cursor?.row);
    } else if (event.key === 'Escape') {
      this.state.set({ lockedRow: null });
    } else if (event.key === '+' || event.key === '-') {
      const factor = event.key === '+' ? 1.5 : 1 / 1.5;
      this.state.set({ zoom: Math.max(1, Math.min(this.state.current.zoom * factor, 16)) });
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private lockAt(cell: Cell): void {
    this.cursor = cell;
    this.state.set({ lockedRow: cell.row });
    this.point(cell);
  }

  /** After the kept row changed: marks only, no repainting. */
  updateLock(): void {
    const { lockedRow } = this.state.current;
    this.drawMarks();
    this.onRow(lockedRow ?? this.cursor?.row ?? null);
  }
}

function place(rectangle: SVGRectElement, [x, y, width, height]: [number, number, number, number]): void {
  select(rectangle).attr('x', x).attr('y', y).attr('width', Math.max(0, width)).attr('height', Math.max(0, height));
}
