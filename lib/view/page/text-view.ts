import { type AxisLabels, describePosition, keyLabels, queryLabels } from './axis-labels';
import { colourOf, isStrong, shareOf } from './colour';
import { button, element, find, oncePerFrame } from './dom';
import { formatWeight, shorten, visible } from './format';
import { lineValues } from './head-values';
import type { State } from './state';
import type { HeadData } from './store';
import { isDark } from './theme';
import type { Tooltip } from './tooltip';
import { toWords, type Word } from './words';

type Side = 'query' | 'key';

interface DrawnWord {
  node: HTMLElement;
  side: Side;
  word: Word;
  tint: string;
  asked: string;
}

/** The running text, tinted by what the chosen token attends to, or by who attends to it. */
export class TextView {
  private data: HeadData | undefined;
  private built = '';
  private labels: Record<Side, AxisLabels> | undefined;
  private words: Record<Side, Word[]> = { query: [], key: [] };
  private pointed: { side: Side; word: number } | null = null;
  private values: Float32Array | undefined;
  /** By text, the words' elements with how each is drawn: what stays as it is, or can't be seen, is not touched. */
  private nodes: DrawnWord[][] = [];
  private readonly tintSoon = oncePerFrame(() => this.tint());

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly tooltip: Tooltip,
    private readonly onPoint: (from: Side, index: number | null) => void,
  ) {
    root.innerHTML = '<p class="text-heading"></p><div class="text-columns"></div>';
    root.addEventListener('pointerover', (event) => this.point(event.target, event as PointerEvent));
    root.addEventListener('pointerleave', () => this.leave());
    root.addEventListener('focusin', (event) => this.point(event.target));
    root.addEventListener('focusout', () => this.leave());
    root.addEventListener('click', (event) => this.choose(event));
    root.addEventListener('keydown', (event) => this.onKey(event));
    // Words that come into sight are drawn as the others are.
    document.addEventListener('scroll', () => this.tintSoon(), { capture: true, passive: true });
    addEventListener('beforeprint', () => this.tint(true));
  }

  update(data: HeadData): void {
    this.data = data;
    const { example, attention } = this.state;
    const { mergeWords, padding } = this.state.current;
    this.labels = { query: queryLabels(example, attention), key: keyLabels(example, attention) };
    const key = [
      this.state.current.example,
      attention.queryTokens,
      attention.keyTokens,
      attention.rows,
      attention.columns,
      attention.queries?.length,
      mergeWords,
      padding,
      this.state.current.step,
    ].join('/');
    if (key !== this.built) this.build();
    this.built = key;
    this.tint();
  }

  /** Shows a row of another view as if it were pointed at here. */
  pointAt(row: number | null): void {
    const word = row === null ? -1 : this.words.query.findIndex(({ from, to }) => row >= from && row < to);
    this.pointed = word < 0 ? null : { side: 'query', word };
    this.tintSoon();
  }

  updateMarks(): void {
    this.tint();
  }

  /** Queries and keys are one text where they are the same tokens. */
  private get isOneText(): boolean {
    const { attention } = this.state;
    return attention.queryTokens === attention.keyTokens && attention.rows === attention.columns && !attention.queries;
  }

  private build(): void {
    const labels = this.labels as Record<Side, AxisLabels>;
    const { mergeWords } = this.state.current;
    const shown = this.state.shown();
    const columns = find(this.root, '.text-columns');
    columns.replaceChildren();
    this.nodes = [];
    for (const side of this.isOneText ? (['query'] as const) : (['query', 'key'] as const)) {
      const [from, to] = side === 'query' ? shown.rows : shown.columns;
      this.words[side] = toWords(labels[side], mergeWords).filter((word) => word.from >= from && word.to <= to);
      const box = element('div', 'text-column');
      if (!this.isOneText) box.append(element('h3', '', side === 'query' ? 'Queries' : 'Keys'));
      const text = element('div', 'running-text');
      text.setAttribute('role', 'group');
      text.setAttribute('aria-label', this.isOneText ? 'Text' : side === 'query' ? 'Queries' : 'Keys');
      const drawn: DrawnWord[] = [];
      this.nodes.push(drawn);
      for (const [i, word] of this.words[side].entries()) {
        if (word.spaced) text.append(' ');
        const label = labels[side].areTokens ? shorten(visible(word.text), 80) : word.text;
        const node = button('word', label, { side, word: String(i) });
        if (labels[side].special.has(word.from)) node.classList.add('special');
        node.tabIndex = i === 0 ? 0 : -1;
        node.setAttribute('aria-pressed', 'false');
        text.append(node);
        drawn.push({ node, side, word, tint: '', asked: '' });
        if (/\n$/.test(word.text)) text.append(element('br'));
      }
      box.append(text);
      columns.append(box);
    }
    if (this.isOneText) this.words.key = this.words.query;
  }

  /** The token that is asked from: kept, or pointed at. */
  private get asked(): { from: Side; word: Word } | null {
    const { locked, from } = this.state.current;
    if (locked !== null) {
      const word = this.words[from].find((candidate) => locked >= candidate.from && locked < candidate.to);
      return word ? { from, word } : null;
    }
    if (!this.pointed) return null;
    // In one text the pointed token is a query, or a key where that was asked last.
    const side = this.isOneText ? from : this.pointed.side;
    const word = this.words[side][this.pointed.word];
    return word ? { from: side, word } : null;
  }

  private tint(all = false): void {
    if (!this.data || !this.labels) return;
    const { attention, current } = this.state;
    const { asked } = this;
    const scale = this.state.scaleOf(attention, current.head);
    const heading = find(this.root, '.text-heading');
    const hint = ' click a token to ask from there; ⇧ click for who attends to it';
    this.values = undefined;
    if (!asked) {
      heading.replaceChildren(element('span', 'hint', `Point at a token to see what it attends to;${hint}`));
    } else {
      const labels = this.labels[asked.from];
      const name = describePosition(labels, asked.word.from);
      const strong = element('strong', '', `${name} ${asked.from === 'query' ? 'attends to' : 'is attended to by'}`);
      heading.replaceChildren(strong, element('span', 'hint', ` —${hint}`));
      this.values = wordValues(this.data, attention, asked.from, asked.word);
    }
    const other: Side = asked?.from === 'query' ? 'key' : 'query';
    const across = this.isOneText ? 'query' : other;
    const dark = isDark();
    for (const each of this.nodes.flatMap((drawn) => (all ? drawn : inSight(drawn)))) {
      const { node, side, word } = each;
      const value = this.values && side === across && asked ? combine(this.values, word, asked.from) : 0;
      const share = Number.isNaN(value) ? 0 : shareOf(value, scale);
      const tint = Number.isNaN(value) ? 'nan' : share > 0 ? colourOf(value, scale, dark) : '';
      if (tint !== each.tint) {
        each.tint = tint;
        const colour = tint === 'nan' ? '' : tint;
        node.style.backgroundColor = colour;
        node.classList.toggle('tinted', colour !== '');
        node.classList.toggle('strong', colour !== '' && isStrong(colour));
        node.classList.toggle('nan', tint === 'nan');
      }
      const isAsked = asked !== null && asked.word.from === word.from && (this.isOneText || side === asked.from);
      const state = isAsked ? (current.locked === null ? 'pointed' : 'kept') : '';
      if (state === each.asked) continue;
      each.asked = state;
      node.classList.toggle('asked', isAsked);
      node.setAttribute('aria-pressed', String(state === 'kept'));
    }
  }

  private point(target: EventTarget | null, event?: PointerEvent): void {
    const node = (target as Element).closest<HTMLElement>('.word');
    if (!node) return;
    const side = node.dataset.side as Side;
    const index = Number(node.dataset.word);
    this.pointed = { side, word: index };
    this.tint();
    const { asked } = this;
    this.onPoint(asked?.from ?? 'query', asked?.word.from ?? null);
    const word = this.words[side][index];
    const { locked } = this.state.current;
    if (locked === null || !asked || !this.values || !word || !this.data) {
      this.tooltip.hide();
      return;
    }
    const value = combine(this.values, word, asked.from);
    const labels = this.labels?.[this.isOneText ? 'query' : side] as AxisLabels;
    const box = node.getBoundingClientRect();
    const exact = this.data.matrix.error === 0 && !this.data.pooled;
    const heading = Number.isNaN(value) ? 'NaN' : `${exact || value === 0 ? '' : '≈ '}${formatWeight(value)}`;
    const rows: [string, string][] = [[asked.from === 'query' ? 'key' : 'query', describePosition(labels, word.from)]];
    if (word.to - word.from > 1)
      rows.push([
        'pieces',
        asked.from === 'query' ? `sum of ${word.to - word.from}` : `mean of ${word.to - word.from}`,
      ]);
    this.tooltip.show({ heading, rows }, event?.clientX ?? box.right, event?.clientY ?? box.bottom);
  }

  private leave(): void {
    this.pointed = null;
    this.tooltip.hide();
    this.tint();
    const { asked } = this;
    this.onPoint(asked?.from ?? 'query', asked?.word.from ?? null);
  }

  private choose(event: MouseEvent): void {
    const node = (event.target as Element).closest<HTMLElement>('.word');
    if (!node) return;
    const side = node.dataset.side as Side;
    const word = this.words[side][Number(node.dataset.word)] as Word;
    const from: Side = this.isOneText ? (event.shiftKey ? 'key' : 'query') : side;
    const { locked, from: before } = this.state.current;
    const same = locked !== null && locked >= word.from && locked < word.to && before === from;
    this.state.set({ locked: same ? null : word.from, from });
  }

  private onKey(event: KeyboardEvent): void {
    const node = (event.target as Element).closest<HTMLElement>('.word');
    if (event.key === 'Escape') {
      this.state.set({ locked: null });
      return;
    }
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!node || !step || event.ctrlKey || event.altKey || event.metaKey) return;
    const all = [...(node.parentElement as HTMLElement).querySelectorAll<HTMLElement>('.word')];
    const next = all[all.indexOf(node) + step];
    event.preventDefault();
    if (!next) return;
    node.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

/** The words of a text that lie in the window, or in the part of it that scrolls, and a few lines around. */
function inSight(drawn: readonly DrawnWord[]): readonly DrawnWord[] {
  const scrolling = drawn[0]?.node.closest('.side')?.getBoundingClientRect();
  const top = Math.max(0, scrolling?.top ?? 0) - 80;
  const bottom = Math.min(window.innerHeight, scrolling?.bottom ?? window.innerHeight) + 80;
  const firstThat = (test: (box: DOMRect) => boolean) => {
    let [from, to] = [0, drawn.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if (test((drawn[middle] as DrawnWord).node.getBoundingClientRect())) to = middle;
      else from = middle + 1;
    }
    return from;
  };
  return drawn.slice(
    firstThat((box) => box.bottom >= top),
    firstThat((box) => box.top > bottom),
  );
}

/** What a word attends to: the mean over its pieces as queries; who attends to it: the sum over its pieces as keys. */
function wordValues(data: HeadData, attention: Parameters<typeof lineValues>[1], from: Side, word: Word): Float32Array {
  const sum = lineValues(data, attention, from, word.from);
  for (let i = word.from + 1; i < word.to; i++) {
    const next = lineValues(data, attention, from, i);
    for (let at = 0; at < sum.length; at++) sum[at] = (sum[at] as number) + (next[at] as number);
  }
  const count = from === 'query' ? word.to - word.from : 1;
  return count > 1 ? sum.map((value) => value / count) : sum;
}

/** The weight of a word among others: the sum over its pieces as keys, the mean over its pieces as queries. */
function combine(values: Float32Array, word: Word, from: Side): number {
  let sum = 0;
  for (let i = word.from; i < word.to; i++) sum += values[i] as number;
  return from === 'query' ? sum : sum / (word.to - word.from);
}
