import type { ViewDataAttention } from '../view-data';
import { describePosition, keyLabels, queryLabels } from './axis-labels';
import { palette, shareOf } from './colour';
import { roomBelow } from './dom';
import type { MatrixFigure } from './figure/matrix-drawing';
import { percent } from './format';
import { blockOf, cellOf, cellValue, describeValue } from './head-values';
import { type Cell, MatrixPane, type Subject } from './matrix-pane';
import { type Grouping, groupedLabels, groupingOf, regroup, wordAt } from './regroup';
import { headName, type State } from './state';
import { type HeadData, TopKeys } from './store';
import { isDark } from './theme';
import type { Tooltip } from './tooltip';

/** One head large, with what each key receives above it and the entropy of each query beside it. */
export class MatrixView {
  private readonly pane: MatrixPane;
  private data: HeadData | undefined;
  private subject: Subject | undefined;
  /** Where rows and columns aren't tokens one by one. */
  private grouping: Grouping | undefined;
  private pointed: Cell | null = null;

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly tooltip: Tooltip,
    private readonly onPoint: (row: number | null) => void,
  ) {
    this.pane = new MatrixPane(root, {
      onPoint: (cell, at) => this.point(cell, at),
      onChoose: (row) => this.toggleLock(this.tokenOf('rows', row)),
      onRelease: () => state.set({ locked: null }),
      onZoom: (zoom) => state.set({ zoom }),
      onRow: (row) => {
        // A kept row follows the cursor keys.
        const { locked, from } = state.current;
        if (locked !== null && from === 'query') state.set({ locked: this.tokenOf('rows', row) });
      },
    });
  }

  /** Shows a head, at the part that the state says. */
  update(data: HeadData): void {
    const { attention, current, example } = this.state;
    this.data = data;
    this.pointed = null;
    const whole = {
      ...subjectOf(this.state, data, attention, current.head),
      queries: queryLabels(example, attention),
      keys: keyLabels(example, attention),
    };
    this.grouping = data.pooled ? undefined : groupingOf(example, attention, whole.shown, current);
    this.subject = this.grouping ? this.grouped(whole, this.grouping) : whole;
    this.pane.update(this.subject, current.zoom, roomBelow(this.root));
    this.updateMarks();
  }

  /** After the row that is kept changed: marks only, no painting. */
  updateMarks(): void {
    const { locked, from } = this.state.current;
    this.pane.setLocked(this.placeOf(locked, from), from);
  }

  /** The same with words in place of pieces, or without special tokens. */
  private grouped(whole: Subject, { rows, columns }: Grouping): Subject {
    const { attention, current } = this.state;
    const matrix = regroup(whole.matrix, rows, columns);
    const { margins } = whole;
    const received = (word: number) => {
      const { from, to } = columns[word] as Grouping['columns'][number];
      return Math.max(...Array.from({ length: to - from }, (_, i) => margins?.received(from + i) ?? 0));
    };
    return {
      ...whole,
      matrix,
      rows: rows.length,
      columns: columns.length,
      shown: { rows: [0, rows.length], columns: [0, columns.length] },
      queries: groupedLabels(whole.queries, rows),
      keys: groupedLabels(whole.keys, columns),
      colours: palette(matrix.code, matrix.scale, this.state.scaleOf(attention, current.head), isDark()),
      ...(margins && { margins: { received, entropy: (word) => margins.entropy(rows[word]?.from ?? 0) } }),
    };
  }

  /** The row (or column) of the attention that one of the drawn begins with. */
  private tokenOf(side: keyof Grouping, index: number): number {
    return this.grouping ? (this.grouping[side][index]?.from ?? 0) : index;
  }

  /** The drawn row (or column) in which one of the attention is; null where it isn't drawn. */
  private placeOf(index: number | null, from: 'query' | 'key'): number | null {
    if (index === null || !this.grouping) return index;
    const place = wordAt(this.grouping[from === 'query' ? 'rows' : 'columns'], index);
    return place < 0 ? null : place;
  }

  /** Enlarges by a factor; 0 shows the whole head. */
  enlarge(factor: number): void {
    this.pane.enlarge(factor);
  }

  private toggleLock(row: number): void {
    const { locked } = this.state.current;
    this.state.set({ locked: locked === null ? row : null, from: 'query' });
  }

  private point(cell: Cell | null, at: { x: number; y: number }): void {
    const moved = cell?.row !== this.pointed?.row || cell?.column !== this.pointed?.column;
    this.pointed = cell;
    if (!cell || !this.data) {
      this.onPoint(null);
      this.tooltip.hide();
      return;
    }
    if (!moved && this.tooltip.visible) {
      this.tooltip.moveTo(at.x, at.y);
      return;
    }
    this.onPoint(this.tokenOf('rows', cell.row));
    const { locked: kept, from } = this.state.current;
    const locked = this.placeOf(kept, from);
    const row = from === 'query' ? (locked ?? cell.row) : cell.row;
    const column = from === 'key' ? (locked ?? cell.column) : cell.column;
    this.tooltip.show(this.describe({ row, column }), at.x, at.y);
  }

  private describe({ row, column }: Cell): { heading: string; rows: [string, string][] } {
    const { grouping } = this;
    const { queries, keys, ...size } = this.subject as Subject;
    const whole = this.data as HeadData;
    const data = grouping ? { ...whole, matrix: size.matrix, top: new TopKeys([]) } : whole;
    const attention = { ...this.state.attention, rows: size.rows, columns: size.columns };
    const { matrix, pooled } = data;
    let at = { row, column };
    let value = cellValue(data, attention, row, column);
    const rows: [string, string][] = [];
    if (value.block && value.state === 'weight') {
      // The largest weight of the block may be one of those that are known exactly.
      const best = strongestOf(data, attention, value.block);
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
      if (grouping) rows.push(...piecesOf(grouping, { row, column }));
    }
    const isShare = attention.capturedTopK === undefined && !attention.signed;
    if (!pooled && isShare) {
      let sum = 0;
      const start = row * attention.columns;
      for (let i = start; i < start + attention.columns; i++) sum += matrix.value(i);
      rows.push(['row sum', `${matrix.error ? '≈ ' : ''}${sum.toFixed(4)}`]);
    }
    if (isShare) rows.push(['entropy of the query', percent(data.entropy[this.tokenOf('rows', at.row)] as number)]);
    return { heading: describeValue(value, attention), rows };
  }

  /** What is shown, for a figure. */
  get figure(): MatrixFigure | undefined {
    const { subject } = this;
    const { attention, current } = this.state;
    return subject && { ...subject, shown: this.pane.visible, scale: this.state.scaleOf(attention, current.head) };
  }

  /** How many weights a cell or pixel stands for, in words; empty where each weight has its own. */
  get note(): string {
    if (!this.data) return '';
    return pictureNote(this.data, this.state.attention) || this.pane.note;
  }
}

/** A head as a pane draws it, without its labels. */
export function subjectOf(
  state: State,
  data: HeadData,
  attention: ViewDataAttention,
  head: number,
  example = state.example,
): Omit<Subject, 'queries' | 'keys'> {
  const { matrix, received, entropy } = data;
  const scale = state.scaleOf(attention, head, example);
  return {
    name: `${attention.label}, ${headName(attention, head)}`,
    matrix,
    rows: attention.rows,
    columns: attention.columns,
    shown: state.shown(attention, example),
    colours: palette(matrix.code, matrix.scale, scale, isDark()),
    // Of the strongest keys alone neither is known.
    ...(attention.capturedTopK === undefined && {
      margins: {
        received: (column: number) => shareOf(received[column] as number, { ...scale, signed: false }),
        entropy: (row: number) => entropy[row] as number,
      },
    }),
  };
}

/** Of how many pieces a value is the mean or the sum; empty where it is one token's. */
function piecesOf({ rows, columns }: Grouping, { row, column }: Cell): [string, string][] {
  const count = (word: Grouping['rows'][number] | undefined) => (word ? word.to - word.from : 1);
  const [queries, keys] = [count(rows[row]), count(columns[column])];
  const parts = [...(queries > 1 ? [`mean of ${queries} queries`] : []), ...(keys > 1 ? [`sum of ${keys} keys`] : [])];
  return parts.length ? [['pieces', parts.join(', ')]] : [];
}

/** That a head is there as a picture only, and what its cells stand for. */
export function pictureNote({ pooled, matrix }: HeadData, attention: ViewDataAttention): string {
  if (!pooled) return '';
  const [top, bottom] = blockOf(0, attention.rows, matrix.rows);
  const [left, right] = blockOf(0, attention.columns, matrix.columns);
  return `picture: each cell the largest of ${bottom - top} × ${right - left} weights`;
}

/** The cell of a block whose weight is its largest, where it is one of those that are known exactly. */
function strongestOf(
  { top, matrix }: HeadData,
  attention: ViewDataAttention,
  { rows, columns }: { rows: [number, number]; columns: [number, number] },
): Cell | undefined {
  let best: (Cell & { weight: number }) | undefined;
  for (let row = rows[0]; row < rows[1]; row++) {
    for (const { key, weight } of top.row(row)) {
      const size = Math.abs(weight);
      if (key >= columns[0] && key < columns[1] && size > (best?.weight ?? 0))
        best = { row, column: key, weight: size };
    }
  }
  if (!best) return undefined;
  const cell =
    cellOf(best.row, attention.rows, matrix.rows) * matrix.columns +
    cellOf(best.column, attention.columns, matrix.columns);
  // Another weight of the block may be larger, but no query's strongest would be missing.
  return best.weight >= Math.abs(matrix.value(cell)) * (1 - 1.1 * matrix.error) ? best : undefined;
}
