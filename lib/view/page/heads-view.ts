import { type AxisLabels, describePosition, keyLabels, queryLabels } from './axis-labels';
import { lineColour, lineStrength, lineStyle, MOST_LINES, shareOf } from './colour';
import { button, element, find, oncePerFrame, roomBelow } from './dom';
import type { LinesFigure } from './figure/lines-drawing';
import { formatShort, percent, shorten, visible } from './format';
import { type HeadLine, headLines } from './head-lines';
import { cellValue, describeValue } from './head-values';
import { resize } from './matrix-cells';
import { headName, type State } from './state';
import { type HeadData, isMean, type Store } from './store';
import { isDark } from './theme';
import type { Tooltip } from './tooltip';
import type { Side } from './word-values';

const LABEL_CHARACTERS = 24;
const TOP = 26;
/** Width of the bars beside the tokens across, by head. */
const BARS = 64;

/** A weight between a token and the one that is asked, across from it. */
interface Across extends Pick<HeadLine, 'head' | 'weight' | 'negative'> {
  share: number;
}

/** Queries on the left, keys on the right, a line between them as strong as the weight, for several heads at once. */
export class HeadsView {
  /** All lines. */
  private readonly canvas: HTMLCanvasElement;
  /** Over them: the lines of the token that is asked, and how much weight the tokens across have. */
  private readonly asked: HTMLCanvasElement;
  private readonly scroll: HTMLElement;
  private readonly sheet: HTMLElement;
  private readonly columns: Record<Side, HTMLElement>;
  private readonly chips: HTMLElement;
  private readonly repaint = oncePerFrame(() => this.paint());
  private readonly remark = oncePerFrame(() => this.paintAsked());

  private heads: { index: number; data: HeadData }[] = [];
  private lines: HeadLine[] = [];
  private labels: Record<Side, AxisLabels> | undefined;
  private pointed: { side: Side; index: number } | null = null;
  private pitch = 22;
  private revealed = '';
  private widths = { query: 100, key: 100, bars: 0, lines: 0 };
  private firsts: Record<Side, number> = { query: 0, key: 0 };

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly store: Store,
    private readonly tooltip: Tooltip,
    private readonly onPoint: (side: Side, index: number | null) => void,
  ) {
    root.innerHTML = `
      <div class="lines-tools">
        <div class="head-chips" role="group" aria-label="Heads drawn"></div>
        <label class="threshold">lines for weights ≥ <input type="range" id="threshold" min="-4" max="0" step="0.05"><output></output></label>
        <span class="lines-count" aria-live="polite"></span>
        <label><input type="checkbox" id="fade"> fade special tokens</label>
      </div>
      <div class="lines-scroll" tabindex="-1"><div class="lines-sheet">
        <div class="token-column queries" role="group" aria-label="Queries"></div>
        <canvas class="lines-all" aria-hidden="true"></canvas>
        <div class="token-column keys" role="group" aria-label="Keys"></div>
        <canvas class="lines-asked" aria-hidden="true"></canvas>
      </div></div>`;
    this.chips = find(root, '.head-chips');
    this.canvas = find(root, '.lines-all');
    this.asked = find(root, '.lines-asked');
    this.scroll = find(root, '.lines-scroll');
    this.sheet = find(root, '.lines-sheet');
    this.columns = { query: find(root, '.queries'), key: find(root, '.keys') };
    this.chips.addEventListener('click', (event) => this.toggleHead(event));
    find<HTMLInputElement>(root, '#threshold').addEventListener('input', (event) => {
      state.set({ threshold: 10 ** Number((event.target as HTMLInputElement).value) });
    });
    find<HTMLInputElement>(root, '#fade').addEventListener('change', (event) => {
      state.set({ fadeSpecial: (event.target as HTMLInputElement).checked });
    });
    this.scroll.addEventListener('scroll', () => {
      this.placeTokens();
      this.repaint();
    });
    this.sheet.addEventListener('pointerover', (event) => this.point(event.target, event));
    this.sheet.addEventListener('pointerleave', () => this.leave());
    this.sheet.addEventListener('focusin', (event) => this.point(event.target));
    this.sheet.addEventListener('focusout', () => this.leave());
    this.sheet.addEventListener('click', (event) => this.choose(event.target));
    this.sheet.addEventListener('keydown', (event) => this.onKey(event));
  }

  /** The matrices that are drawn: those chosen, or the head alone. */
  static drawn(state: State): number[] {
    const { heads, head } = state.current;
    return heads.length ? heads.slice(0, MOST_LINES) : [head];
  }

  async update(): Promise<void> {
    const { attention, example } = this.state;
    const indices = HeadsView.drawn(this.state);
    const heads = await Promise.all(
      indices.map(async (index) => ({ index, data: await this.store.head(attention, index) })),
    );
    if (attention !== this.state.attention) return;
    this.heads = heads;
    this.labels = { query: queryLabels(example, attention), key: keyLabels(example, attention) };
    this.collect();
    this.layOut();
    this.drawChips();
    this.placeTokens(true);
    this.reveal();
    this.paint();
  }

  /** After another token is asked: what lies over the lines, which stay as they are. */
  updateMarks(): void {
    this.reveal();
    this.markTokens();
    this.remark();
  }

  /** Brings a token into sight that was chosen elsewhere. */
  private reveal(): void {
    const { locked, from, example, attention } = this.state.current;
    const chosen = [example, attention, from, locked].join('/');
    if (chosen === this.revealed) return;
    this.revealed = chosen;
    if (locked === null) return;
    const y = this.y(locked, from);
    const { scrollTop, clientHeight } = this.scroll;
    if (y < scrollTop || y > scrollTop + clientHeight) this.scroll.scrollTop = y - clientHeight / 2;
  }

  private collect(): void {
    const { attention, current } = this.state;
    const { threshold } = this.state;
    const heads = this.heads.map(({ data }) => data);
    const { lines, cells, found, share, pooled } = headLines(heads, attention, this.state.shown(), threshold);
    this.lines = lines;
    const count = `${lines.length.toLocaleString('en')} of ${cells.toLocaleString('en')} shown, ${percent(share)} of the weight`;
    const more = found > lines.length ? `; the strongest of ${found.toLocaleString('en')}` : '';
    const only = pooled ? '; of each query its strongest keys only' : '';
    const sizes = attention.signed && heads.length > 1 ? '; sizes, of either sign' : '';
    find(this.root, '.lines-count').textContent = `(${count}${more}${only}${sizes})`;
    const slider = find<HTMLInputElement>(this.root, '#threshold');
    slider.value = String(Math.log10(current.threshold));
    slider.setAttribute('aria-valuetext', formatShort(threshold));
    find(this.root, '.threshold output').textContent = formatShort(threshold);
    find<HTMLInputElement>(this.root, '#fade').checked = current.fadeSpecial;
  }

  private layOut(): void {
    const labels = this.labels as Record<Side, AxisLabels>;
    const shown = this.state.shown();
    this.firsts = { query: shown.rows[0], key: shown.columns[0] };
    const count = Math.max(shown.rows[1] - shown.rows[0], shown.columns[1] - shown.columns[0]);
    this.pitch = count > 60 ? 18 : 23;
    const width = this.root.clientWidth;
    const context = document.createElement('canvas').getContext('2d');
    const widest = ({ text }: AxisLabels) => {
      if (!context) return 100;
      context.font = getComputedStyle(this.root).getPropertyValue('--label-font').replace('12px', '14px');
      const texts = text.slice(0, 600).map((token) => shorten(visible(token), LABEL_CHARACTERS));
      return Math.ceil(Math.max(48, ...texts.map((token) => context.measureText(token).width))) + 18;
    };
    const most = Math.max(60, width * 0.3);
    const bars = width > 640 ? BARS : 0;
    const [query, key] = [Math.min(widest(labels.query), most), Math.min(widest(labels.key), most) + bars];
    this.sheet.style.height = `${TOP + count * this.pitch + 8}px`;
    this.columns.query.style.width = `${query}px`;
    this.columns.key.style.width = `${key}px`;
    this.scroll.style.maxHeight = `${Math.max(300, roomBelow(this.scroll) - 16)}px`;
    // What a scroll bar leaves.
    this.widths = { query, key, bars, lines: Math.max(40, this.sheet.clientWidth - query - key) };
  }

  private drawChips(): void {
    const { attention } = this.state;
    const drawn = HeadsView.drawn(this.state);
    const focused = (document.activeElement as HTMLElement | null)?.dataset?.chip;
    const chips = attention.stats.map((_, head) => {
      const at = drawn.indexOf(head);
      const chip = button('chip', '', { chip: String(head) });
      chip.setAttribute('aria-pressed', String(at >= 0));
      chip.setAttribute('aria-label', headName(attention, head));
      if (at >= 0) chip.append(lineSample(at));
      chip.append(isMean(attention, head) ? 'mean' : attention.averaged ? 'mean' : String(attention.heads[head]));
      chip.disabled = at < 0 && drawn.length >= MOST_LINES;
      return chip;
    });
    this.chips.replaceChildren(...chips);
    if (focused !== undefined) this.chips.querySelector<HTMLElement>(`[data-chip="${focused}"]`)?.focus();
  }

  /** What is shown, for a figure. */
  get figure(): LinesFigure | undefined {
    const { attention, current } = this.state;
    if (!this.labels) return undefined;
    return {
      queries: this.labels.query,
      keys: this.labels.key,
      shown: this.state.shown(),
      lines: this.lines,
      heads: this.heads.map(({ index }) => ({
        name: headName(attention, index),
        scale: this.state.scaleOf(attention, index),
      })),
      focus: this.focus,
      fadeSpecial: current.fadeSpecial,
    };
  }

  private toggleHead(event: Event): void {
    const chip = (event.target as Element).closest<HTMLElement>('.chip');
    if (!chip) return;
    const head = Number(chip.dataset.chip);
    const drawn = HeadsView.drawn(this.state);
    const heads = drawn.includes(head) ? drawn.filter((other) => other !== head) : [...drawn, head];
    if (heads.length)
      this.state.set({
        heads,
        head: heads.includes(this.state.current.head) ? this.state.current.head : (heads[0] as number),
      });
  }

  private y(index: number, side: Side): number {
    return TOP + (index - this.firsts[side] + 0.5) * this.pitch;
  }

  /** Tokens that are in sight, and a few more. */
  private placeTokens(anew = false): void {
    const labels = this.labels;
    if (!labels) return;
    const shown = this.state.shown();
    const { scrollTop, clientHeight } = this.scroll;
    for (const side of ['query', 'key'] as const) {
      const column = this.columns[side];
      const [from, to] = side === 'query' ? shown.rows : shown.columns;
      const first = Math.max(from, from + Math.floor((scrollTop - TOP) / this.pitch) - 20);
      const last = Math.min(to, from + Math.ceil((scrollTop + clientHeight) / this.pitch) + 20);
      const range = `${first}-${last}`;
      if (!anew && column.dataset.range === range) continue;
      column.dataset.range = range;
      const focused = column.contains(document.activeElement)
        ? (document.activeElement as HTMLElement).dataset.index
        : undefined;
      const nodes: HTMLElement[] = [element('span', 'axis-title', side === 'query' ? 'queries' : 'keys')];
      for (let i = first; i < last; i++) {
        const node = button('token', '', { side, index: String(i) });
        node.style.top = `${this.y(i, side) - this.pitch / 2}px`;
        node.style.height = `${this.pitch}px`;
        const whole = visible(labels[side].text[i] as string);
        const text = shorten(whole, LABEL_CHARACTERS);
        node.append(element('span', 'token-text', text));
        if (side === 'key') node.style.paddingRight = `${this.widths.bars + 4}px`;
        // What is read out has what is seen in it, shortened or not.
        const described = describePosition(labels[side], i);
        const name = text === whole && described.includes(text) ? described : `${text} at ${labels[side].positions[i]}`;
        node.setAttribute('aria-label', `${side}, ${name}`);
        node.classList.toggle('special', labels[side].special.has(i));
        node.tabIndex = i === first ? 0 : -1;
        nodes.push(node);
      }
      column.replaceChildren(...nodes);
      if (focused !== undefined) column.querySelector<HTMLElement>(`[data-index="${focused}"]`)?.focus();
    }
    this.markTokens();
  }

  private get focus(): { side: Side; index: number } | null {
    const { locked, from } = this.state.current;
    return locked === null ? this.pointed : { side: from, index: locked };
  }

  /** The token that is asked, and those across that have enough of its weight for a line. */
  private markTokens(): void {
    const { focus } = this;
    const { current } = this.state;
    for (const node of this.sheet.querySelectorAll<HTMLElement>('.token')) {
      const side = node.dataset.side as Side;
      const index = Number(node.dataset.index);
      node.classList.toggle('focus', focus?.side === side && focus.index === index);
      const pressed = String(current.locked === index && current.from === side);
      if (node.getAttribute('aria-pressed') !== pressed) node.setAttribute('aria-pressed', pressed);
      const strongest = Math.max(0, ...this.across(side, index).map(({ weight }) => weight));
      node.classList.toggle('strong', strongest > 0 && strongest >= this.state.threshold);
    }
  }

  /** The weights between a token and the one that is asked, across from it: by head, as far as they are known. */
  private across(side: Side, index: number): Across[] {
    const { focus } = this;
    const { attention } = this.state;
    if (!focus || focus.side === side) return [];
    const [row, column] = side === 'key' ? [focus.index, index] : [index, focus.index];
    return this.heads.flatMap(({ index: head, data }, at) => {
      const { block, weight } = cellValue(data, attention, row, column);
      const size = Math.abs(weight);
      if (block || !(size > 0)) return [];
      const share = shareOf(size, this.state.scaleOf(attention, head));
      return [{ head: at, weight: size, negative: weight < 0, share }];
    });
  }

  /** Puts a canvas over what is in sight, from the lines' left end on; y counts from the top of the sheet. */
  private place(canvas: HTMLCanvasElement, width: number): CanvasRenderingContext2D | null {
    const { scrollTop } = this.scroll;
    const height = Math.min(this.scroll.clientHeight || 600, this.sheet.offsetHeight);
    resize(canvas, width, height);
    canvas.style.left = `${this.widths.query}px`;
    canvas.style.top = `${scrollTop}px`;
    const context = canvas.getContext('2d');
    context?.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, -scrollTop * devicePixelRatio);
    context?.clearRect(0, scrollTop, width, height);
    return context;
  }

  private paint(): void {
    if (!this.labels) return;
    const context = this.place(this.canvas, this.widths.lines);
    if (context) this.drawLines(context, null);
    this.paintAsked();
  }

  /** Lines of the token that is asked; all others step back, without being drawn again. */
  private paintAsked(): void {
    const { focus, widths } = this;
    if (!this.labels) return;
    this.canvas.classList.toggle('behind', focus !== null);
    this.asked.hidden = focus === null;
    if (!focus) return;
    const context = this.place(this.asked, this.sheet.clientWidth - widths.query);
    if (!context) return;
    this.drawLines(context, focus);
    if (!widths.bars || focus.side === 'key') return;
    const left = this.sheet.clientWidth - widths.query - widths.bars;
    const { scrollTop, clientHeight } = this.scroll;
    const [from, to] = this.state.shown().columns;
    const dark = isDark();
    for (let index = from; index < to; index++) {
      const y = this.y(index, 'key');
      if (y < scrollTop - this.pitch || y > scrollTop + clientHeight + this.pitch) continue;
      const bars = this.across('key', index);
      for (const [i, { head, share, negative }] of bars.entries()) {
        const length = share * (widths.bars - 8);
        if (length < 1) continue;
        context.fillStyle = this.colourOf({ head, negative }, dark);
        context.fillRect(left, y + (i - bars.length / 2) * 4, length, 3);
      }
    }
  }

  private colourOf(line: Pick<HeadLine, 'head' | 'negative'>, dark: boolean): string {
    const { signed } = this.state.attention;
    return lineColour(line, { heads: this.heads.length, signed, dark });
  }

  /** Draws all lines, or those of the token that is asked. */
  private drawLines(context: CanvasRenderingContext2D, focus: { side: Side; index: number } | null): void {
    const { attention, current } = this.state;
    const { query, key } = this.labels as Record<Side, AxisLabels>;
    const { scrollTop, clientHeight } = this.scroll;
    const width = this.widths.lines;
    const scales = this.heads.map(({ index }) => this.state.scaleOf(attention, index));
    const muted = getComputedStyle(this.root).getPropertyValue('--muted');
    const dark = isDark();
    const several = this.heads.length > 1;
    context.lineCap = 'butt';
    for (const line of this.lines) {
      if (focus && (focus.side === 'query' ? line.row : line.column) !== focus.index) continue;
      const from = this.y(line.row, 'query');
      const to = this.y(line.column, 'key');
      if (Math.max(from, to) < scrollTop || Math.min(from, to) > scrollTop + clientHeight) continue;
      const share = shareOf(line.weight, scales[line.head] as (typeof scales)[number]);
      const { dash } = lineStyle(line.head, dark);
      const faded = current.fadeSpecial && (query.special.has(line.row) || key.special.has(line.column));
      context.strokeStyle = faded ? muted : this.colourOf(line, dark);
      const strength = { asked: focus !== null, focus: focus !== null, faded, count: this.lines.length };
      const { opacity, width: thick } = lineStrength(share, strength);
      context.globalAlpha = opacity;
      context.lineWidth = thick;
      context.setLineDash(several ? dash : []);
      context.beginPath();
      context.moveTo(0, from);
      context.bezierCurveTo(width * 0.45, from, width * 0.55, to, width, to);
      context.stroke();
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
  }

  private point(target: EventTarget | null, event?: PointerEvent): void {
    const node = (target as Element).closest<HTMLElement>('.token');
    if (!node) return;
    const side = node.dataset.side as Side;
    const index = Number(node.dataset.index);
    this.pointed = { side, index };
    this.updateMarks();
    const { focus } = this;
    this.onPoint(focus?.side ?? side, focus?.index ?? null);
    const { attention } = this.state;
    const rows: [string, string][] = [];
    const across = this.focus;
    if (this.state.current.locked !== null && across && across.side !== side) {
      for (const { index: head, data } of this.heads) {
        const [row, column] = side === 'key' ? [across.index, index] : [index, across.index];
        const cell = cellValue(data, attention, row, column);
        rows.push([headName(attention, head), describeValue(cell, attention)]);
      }
    }
    const box = node.getBoundingClientRect();
    const labels = (this.labels as Record<Side, AxisLabels>)[side];
    this.tooltip.show(
      { heading: describePosition(labels, index), rows },
      event?.clientX ?? box.right,
      event?.clientY ?? box.bottom,
    );
  }

  private leave(): void {
    this.pointed = null;
    this.tooltip.hide();
    this.updateMarks();
    const { focus } = this;
    this.onPoint(focus?.side ?? 'query', focus?.index ?? null);
  }

  private choose(target: EventTarget | null): void {
    const node = (target as Element).closest<HTMLElement>('.token');
    if (!node) return;
    const from = node.dataset.side as Side;
    const index = Number(node.dataset.index);
    const { locked, from: before } = this.state.current;
    this.state.set({ locked: locked === index && before === from ? null : index, from });
  }

  private onKey(event: KeyboardEvent): void {
    const node = (event.target as Element).closest<HTMLElement>('.token');
    if (event.key === 'Escape') this.state.set({ locked: null });
    if (!node || event.ctrlKey || event.altKey || event.metaKey) return;
    const side = node.dataset.side as Side;
    const index = Number(node.dataset.index);
    const shown = this.state.shown();
    const [first, end] = side === 'query' ? shown.rows : shown.columns;
    let to: [Side, number] | undefined;
    if (event.key === 'ArrowDown') to = [side, Math.min(end - 1, index + 1)];
    else if (event.key === 'ArrowUp') to = [side, Math.max(first, index - 1)];
    else if (event.key === 'ArrowLeft') to = ['query', Math.min(index, shown.rows[1] - 1)];
    else if (event.key === 'ArrowRight') to = ['key', Math.min(index, shown.columns[1] - 1)];
    if (!to) return;
    event.preventDefault();
    const y = this.y(to[1], to[0]);
    if (y < this.scroll.scrollTop + 30) this.scroll.scrollTop = y - 60;
    if (y > this.scroll.scrollTop + this.scroll.clientHeight - 30)
      this.scroll.scrollTop = y - this.scroll.clientHeight + 60;
    this.placeTokens();
    const next = this.columns[to[0]].querySelector<HTMLElement>(`[data-index="${to[1]}"]`);
    if (!next) return;
    node.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

/** A short piece of a head's line. */
function lineSample(i: number): SVGSVGElement {
  const { colour, dash } = lineStyle(i, isDark());
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('width', '20');
  svg.setAttribute('height', '6');
  svg.setAttribute('aria-hidden', 'true');
  const line = document.createElementNS('http://www.w3.org/2000/svg', 'line');
  for (const [name, value] of Object.entries({
    x1: 0,
    x2: 20,
    y1: 3,
    y2: 3,
    'stroke-width': 3,
    stroke: colour,
    'stroke-dasharray': dash.join(' '),
  })) {
    line.setAttribute(name, String(value));
  }
  svg.append(line);
  return svg;
}
