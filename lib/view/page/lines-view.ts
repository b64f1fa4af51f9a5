import { select } from 'd3-selection';
import { headColour, shareOf } from './colour';
import { formatWeight, shorten, visible } from './format';
import { type AxisLabels, headName, keyLabels, matrixCount, queryLabels, type State } from './state';
import type { Matrix, Weights } from './weights';

const LABEL_CHARACTERS = 16;
const COLUMN = 210;
/** Where several heads share a token, its outer part shows their shares. */
const SHARES = 84;
const TOP = 30;
/** Weights below this share of the scale draw no line while no token is pointed at. */
const LEAST_SHARE = 0.04;
/** Lines drawn from each query then, strongest first. */
const LINES_PER_QUERY = 12;

type Side = 'query' | 'key';

/** Queries on the left, keys on the right, a line between them as strong as the weight. */
export class LinesView {
  private readonly canvas: HTMLCanvasElement;
  private readonly svg: SVGSVGElement;
  private readonly headList: HTMLElement;

  private matrices: { matrix: Matrix; colour: string; name: string }[] = [];
  private queries: AxisLabels = { text: [], positions: [], areTokens: false };
  private keys: AxisLabels = { text: [], positions: [], areTokens: false };
  private pointed: { side: Side; index: number } | null = null;
  private readonly hidden = new Set<number>();
  private pitch = 20;
  private width = 0;

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly weights: Weights,
    private readonly onRow: (row: number | null) => void,
  ) {
    root.innerHTML = `
      <div class="head-list" role="group" aria-label="Heads drawn"></div>
      <div class="lines-scroll"><canvas></canvas><svg class="lines" role="group" aria-label="Tokens"></svg></div>`;
    this.headList = root.querySelector('.head-list') as HTMLElement;
    this.canvas = root.querySelector('canvas') as HTMLCanvasElement;
    this.svg = root.querySelector('svg') as SVGSVGElement;
    this.headList.addEventListener('click', (event) => {
      const head = (event.target as Element).closest<HTMLElement>('button')?.dataset.head;
      if (head === undefined) return;
      if (!this.hidden.delete(Number(head))) this.hidden.add(Number(head));
      this.update();
    });
  }

  update(): void {
    const { example, attention } = this.state;
    const { head, allHeads } = this.state.current;
    const count = matrixCount(attention);
    const together = allHeads && count > 1;
    const heads = together ? Array.from({ length: count }, (_, i) => i) : [head];
    this.matrices = heads
      .filter((i) => !together || !this.hidden.has(i))
      .map((i) => ({
        matrix: this.weights.matrix(attention, i),
        colour: together ? headColour(i, count) : '',
        name: headName(attention, i),
      }));
    this.queries = queryLabels(example, attention);
    this.keys = keyLabels(example, attention);
    this.pointed = null;
    this.drawHeadList(together ? heads : []);

    const longest = Math.max(this.queries.text.length, this.keys.text.length);
    this.pitch = longest > 80 ? 15 : 22;
    this.width = Math.max(430, Math.min(this.root.clientWidth - 24, 760));
    const height = TOP + longest * this.pitch + 8;
    // Canvases have a largest size; very long sequences are drawn a little less sharp.
    const ratio = Math.min(devicePixelRatio, 16000 / height);
    this.canvas.width = this.width * ratio;
    this.canvas.height = height * ratio;
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${height}px`;
    this.canvas.getContext('2d')?.setTransform(ratio, 0, 0, ratio, 0, 0);
    select(this.svg).attr('width', this.width).attr('height', height);
    this.drawTokens();
    this.drawMarks();
  }

  updateLock(): void {
    this.drawMarks();
  }

  private drawHeadList(heads: number[]): void {
    this.headList.hidden = heads.length === 0;
    this.headList.replaceChildren(
      ...heads.map((head) => {
        const button = document.createElement('button');
        button.type = 'button';
        button.dataset.head = String(head);
        button.textContent = String(this.state.attention.heads[head]);
        button.setAttribute('aria-label', headName(this.state.attention, head));
        button.setAttribute('aria-pressed', String(!this.hidden.has(head)));
        button.style.setProperty('--head-colour', headColour(head, heads.length));
        return button;
      }),
    );
  }

  private drawTokens(): void {
    select(this.svg)
      .selectAll('text.axis-title')
      .data(['query', 'key'])
      .join('text')
      .attr('class', 'axis-title')
      .attr('x', (side) => (side === 'query' ? COLUMN - 10 : this.width - COLUMN + 10))
      .attr('y', 14)
      .attr('text-anchor', (side) => (side === 'query' ? 'end' : 'start'))
      .text((side) => (side === 'query' ? 'queries' : 'keys'));
    const tokens = (['query', 'key'] as const).flatMap((side) =>
      this.labelsOf(side).text.map((text, index) => ({ side, index, text })),
    );
    const groups = select(this.svg)
      .selectAll<SVGGElement, (typeof tokens)[number]>('g.token')
      .data(tokens, ({ side, index }) => `${side}${index}`)
      .join((enter) => {
        const group = enter.append('g').attr('class', 'token');
        group.append('rect').attr('class', 'token-box').attr('rx', 3);
        group.append('g').attr('class', 'shares');
        group.append('text').attr('class', 'token-text').attr('dominant-baseline', 'central');
        group.append('text').attr('class', 'token-weight').attr('dominant-baseline', 'central');
        return group;
      })
      .attr(
        'transform',
        ({ side, index }) =>
          `translate(${side === 'query' ? 0 : this.width - COLUMN},${this.y(index) - this.pitch / 2})`,
      )
      .on('pointerenter', (_event, { side, index }) => this.point({ side, index }))
      .on('pointerleave', () => this.point(null))
      .on('click', (_event, { side, index }) => {
        if (side === 'query') this.state.set({ lockedRow: this.state.current.lockedRow === index ? null : index });
      });
    groups.select('.token-box').attr('width', COLUMN).attr('height', this.pitch);
    groups
      .select('.token-text')
      .attr('x', ({ side }) => (side === 'query' ? COLUMN - 10 : 10))
      .attr('y', this.pitch / 2)
      .attr('text-anchor', ({ side }) => (side === 'query' ? 'end' : 'start'))
      .text(({ text }) => shorten(visible(text), LABEL_CHARACTERS));
    groups
      .select('.token-weight')
      .attr('x', ({ side }) => (side === 'query' ? 6 : COLUMN - 6))
      .attr('y', this.pitch / 2)
      .attr('text-anchor', ({ side }) => (side === 'query' ? 'start' : 'end'));
  }

  private labelsOf(side: Side): AxisLabels {
    return side === 'query' ? this.queries : this.keys;
  }

  private y(index: number): number {
    return TOP + (index + 0.5) * this.pitch;
  }

  private point(pointed: { side: Side; index: number } | null): void {
    this.pointed = pointed;
    this.drawMarks();
    const { lockedRow } = this.state.current;
    this.onRow(lockedRow ?? (pointed?.side === 'query' ? pointed.index : null));
  }

  private drawMarks(): void {
    const { lockedRow } = this.state.current;
    const focus = lockedRow === null ? this.pointed : { side: 'query' as const, index: lockedRow };
    select(this.svg)
      .selectAll<SVGGElement, { side: Side; index: number }>('g.token')
      .classed('focus', (token) => focus !== null && token.side === focus.side && token.index === focus.index)
      .each((token, i, nodes) => this.drawShares(nodes[i] as SVGGElement, token, focus));
    this.drawLines(focus);
  }

  /** On the tokens across from the one pointed at: how much of its weight they have. */
  private drawShares(
    group: SVGGElement,
    token: { side: Side; index: number },
    focus: { side: Side; index: number } | null,
  ): void {
    const across = focus !== null && token.side !== focus.side;
    const cells = across
      ? this.matrices.map(({ matrix, colour }) => {
          const [row, column] = token.side === 'key' ? [focus.index, token.index] : [token.index, focus.index];
          const weight = matrix.values[row * matrix.columns + column] as number;
          return { weight, colour, share: this.share(weight, matrix) };
        })
      : [];
    const several = this.matrices.length > 1;
    const size = several ? SHARES / cells.length : COLUMN;
    const start = several && token.side === 'key' ? COLUMN - SHARES : 0;
    select(group)
      .select('.shares')
      .selectAll('rect')
      .data(cells)
      .join('rect')
      .attr('x', (_cell, i) => start + i * size)
      .attr('y', 1)
      .attr('width', size)
      .attr('height', this.pitch - 2)
      .attr('class', (cell) => (cell.colour ? null : 'accent'))
      .attr('fill', (cell) => cell.colour || null)
      .attr('fill-opacity', (cell) => (several ? 1 : 0.6) * cell.share);
    const only = cells.length === 1 ? cells[0] : undefined;
    select(group)
      .select('.token-weight')
      .text(only ? formatWeight(only.weight) : '');
  }

  private share(weight: number, matrix: Matrix): number {
    return shareOf(weight, this.state.current.scale, matrix.maximum);
  }

  private drawLines(focus: { side: Side; index: number } | null): void {
    const context = this.canvas.getContext('2d');
    if (!context) return;
    context.clearRect(0, 0, this.width, this.canvas.height);
    const accent = getComputedStyle(this.root).getPropertyValue('--accent');
    for (const { matrix, colour } of this.matrices) {
      context.strokeStyle = colour || accent;
      for (let row = 0; row < matrix.rows; row++) {
        if (focus?.side === 'query' && row !== focus.index) continue;
        for (const column of this.columnsToDraw(matrix, row, focus)) {
          const share = this.share(matrix.values[row * matrix.columns + column] as number, matrix);
          context.globalAlpha = share ** 0.75;
          context.lineWidth = 0.75 + 1.75 * share;
          context.beginPath();
          const [from, to] = [this.y(row), this.y(column)];
          const [left, right] = [COLUMN + 2, this.width - COLUMN - 2];
          context.moveTo(left, from);
          context.bezierCurveTo((left + right) / 2, from, (left + right) / 2, to, right, to);
          context.stroke();
        }
      }
    }
    context.globalAlpha = 1;
  }

  private columnsToDraw(matrix: Matrix, row: number, focus: { side: Side; index: number } | null): number[] {
    if (focus?.side === 'key') return [focus.index];
    const weights = matrix.values.subarray(row * matrix.columns, (row + 1) * matrix.columns);
    const columns = Array.from(weights.keys()).filter((column) => {
      return this.share(weights[column] as number, matrix) >= (focus ? 0.002 : LEAST_SHARE);
    });
    if (focus || columns.length <= LINES_PER_QUERY) return columns;
    return columns.sort((a, b) => (weights[b] as number) - (weights[a] as number)).slice(0, LINES_PER_QUERY);
  }
}
