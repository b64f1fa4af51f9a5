import { type AxisLabels, describePosition, keyLabels, queryLabels, verbOf } from './axis-labels';
import { colourOf, shareOf, textOver } from './colour';
import { element, find, oncePerFrame } from './dom';
import type { TextFigure } from './figure/text-drawing';
import { textFigure } from './figure/text-figure';
import type { State } from './state';
import type { HeadData } from './store';
import { isDark } from './theme';
import type { Tooltip } from './tooltip';
import { WordTints } from './word-tints';
import { combine, describeWord, type Side, wordValues } from './word-values';
import { toWords, type Word, wordLabel } from './words';

interface DrawnWord {
  node: HTMLElement;
  word: Word;
  special: boolean;
}

/** One text: its words' elements, and what is drawn behind them. */
interface DrawnText {
  side: Side;
  words: DrawnWord[];
  tints: WordTints;
}

/** The running text, tinted by what the chosen token attends to, or by who attends to it. */
export class TextView {
  private data: HeadData | undefined;
  private built = '';
  private labels: Record<Side, AxisLabels> | undefined;
  private words: Record<Side, Word[]> = { query: [], key: [] };
  private pointed: { side: Side; word: number } | null = null;
  private values: Float32Array | undefined;
  private texts: DrawnText[] = [];
  /** Tints by their share of the colours: the same few hundred, at every move. */
  private readonly tints = new Map<number, { colour: string; plain: string; special: string }>();
  private kept: HTMLElement | undefined;
  /** The position that was last brought into sight. */
  private revealed: number | null = null;
  private readonly tintSoon = oncePerFrame(() => this.tint());

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly tooltip: Tooltip,
    private readonly onPoint: (from: Side, index: number | null) => void,
  ) {
    root.innerHTML = `<p class="text-heading"><strong></strong><span class="hint"></span></p><div class="text-columns"></div>`;
    root.addEventListener('pointerover', (event) => this.point(event.target, event as PointerEvent));
    root.addEventListener('pointerleave', () => this.leave());
    root.addEventListener('focusin', (event) => this.point(event.target));
    root.addEventListener('focusout', () => this.leave());
    root.addEventListener('click', (event) => this.choose((event.target as Element).closest('.word'), event.shiftKey));
    root.addEventListener('keydown', (event) => this.onKey(event));
    // Words that come into sight are drawn as the others are.
    document.addEventListener('scroll', () => this.tintSoon(), { capture: true, passive: true });
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
    this.tints.clear();
    this.tint();
    if (this.state.current.locked !== this.revealed) this.reveal();
    this.revealed = this.state.current.locked;
  }

  /** Shows a row of another view as if it were pointed at here. */
  pointAt(row: number | null): void {
    const word = row === null ? -1 : this.words.query.findIndex(({ from, to }) => row >= from && row < to);
    this.pointed = word < 0 ? null : { side: 'query', word };
    this.tintSoon();
  }

  updateMarks(): void {
    this.tint();
    this.reveal();
  }

  /** A token that was chosen elsewhere may be far down the text. */
  private reveal(): void {
    const { kept, root } = this;
    if (!kept) return;
    if (!root.closest('.side')) {
      kept.scrollIntoView({ block: 'nearest' });
      return;
    }
    // Beside a matrix the text alone is scrolled, where it has a window of its own.
    const [word, window] = [kept.getBoundingClientRect(), root.getBoundingClientRect()];
    if (word.top < window.top) root.scrollTop -= window.top - word.top + 8;
    else if (word.bottom > window.bottom) root.scrollTop += word.bottom - window.bottom + 8;
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
    this.texts = [];
    this.kept = undefined;
    for (const side of this.isOneText ? (['query'] as const) : (['query', 'key'] as const)) {
      const [from, to] = side === 'query' ? shown.rows : shown.columns;
      this.words[side] = toWords(labels[side], mergeWords).filter((word) => word.from >= from && word.to <= to);
      const box = element('div', 'text-column');
      if (!this.isOneText) box.append(element('h3', '', side === 'query' ? 'Queries' : 'Keys'));
      const text = element('div', 'running-text');
      text.setAttribute('role', 'group');
      text.setAttribute('aria-label', this.isOneText ? 'Text' : side === 'query' ? 'Queries' : 'Keys');
      const drawn: DrawnWord[] = [];
      const runs = runsOf(this.words[side]);
      let run: HTMLElement = text;
      for (const [i, word] of this.words[side].entries()) {
        if (word.spaced) text.append(' ');
        if (runs[i] !== runs[i - 1]) run = runs[i] === undefined ? text : element('span', 'run');
        if (run !== text && run.parentElement === null) text.append(run);
        // Buttons clip what is in them, each by itself: of thousands a browser would take stock in every frame.
        const node = element('span', 'word', wordLabel(word, labels[side]));
        node.setAttribute('role', 'button');
        Object.assign(node.dataset, { side, word: String(i) });
        const special = labels[side].special.has(word.from);
        if (special) node.classList.add('special');
        node.tabIndex = i === 0 ? 0 : -1;
        node.setAttribute('aria-pressed', 'false');
        run.append(node);
        drawn.push({ node, word, special });
        if (/\n$/.test(word.text)) text.append(element('br'));
      }
      box.append(text);
      columns.append(box);
      const tints = new WordTints(
        text,
        drawn.map(({ node }) => node),
        this.tintSoon,
      );
      this.texts.push({ side, words: drawn, tints });
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

  private tint(): void {
    if (!this.data || !this.labels) return;
    const { attention, current } = this.state;
    const { asked } = this;
    const [name, hint] = [find(this.root, '.text-heading strong'), find(this.root, '.text-heading .hint')];
    const how = ' click a token to ask from there; ⇧ click for who attends to it';
    name.textContent = this.heading;
    hint.textContent = asked ? ` —${how}` : `Point at a token to see what it attends to;${how}`;
    this.values = asked ? wordValues(this.data, attention, asked.from, asked.word) : undefined;
    for (const text of this.texts) {
      text.tints.draw((i) => {
        const drawn = text.words[i] as DrawnWord;
        return { ...this.tintOf(text, drawn), framed: this.isAsked(text, drawn) };
      });
    }
    const kept = current.locked === null ? undefined : this.askedNode;
    if (kept === this.kept) return;
    this.kept?.setAttribute('aria-pressed', 'false');
    this.kept?.classList.remove('asked');
    kept?.setAttribute('aria-pressed', 'true');
    kept?.classList.add('asked');
    this.kept = kept;
  }

  private isAsked({ side }: DrawnText, { word }: DrawnWord): boolean {
    const { asked } = this;
    return asked !== null && asked.word.from === word.from && (this.isOneText || side === asked.from);
  }

  private get askedNode(): HTMLElement | undefined {
    for (const text of this.texts) {
      const found = text.words.find((drawn) => this.isAsked(text, drawn));
      if (found) return found.node;
    }
    return undefined;
  }

  /** The colour that a word stands on, and one that can be read on it. */
  private tintOf({ side }: DrawnText, { word, special }: DrawnWord): { tint: string; ink: string; nan: boolean } {
    const { asked, values } = this;
    const none = { tint: '', ink: '', nan: false };
    if (!asked || !values || (!this.isOneText && side === asked.from)) return none;
    const value = combine(values, word, asked.from);
    if (Number.isNaN(value)) return { ...none, nan: true };
    const { attention, current } = this.state;
    const scale = this.state.scaleOf(attention, current.head);
    const share = Math.round(255 * shareOf(value, scale));
    if (share === 0) return none;
    const key = scale.signed && value < 0 ? -share : share;
    let tint = this.tints.get(key);
    if (!tint) {
      const colour = colourOf(value, scale, isDark());
      const own = (selector: string) => getComputedStyle(find(this.root, selector)).color;
      tint = {
        colour,
        plain: textOver(colour, own('.text-columns')),
        special: textOver(colour, own('.text-heading .hint')),
      };
      this.tints.set(key, tint);
    }
    return { tint: tint.colour, ink: special ? tint.special : tint.plain, nan: false };
  }

  /** What is shown, for a figure. */
  get figure(): TextFigure {
    const { asked, values, state, isOneText, words } = this;
    const labels = this.labels as Record<Side, AxisLabels>;
    const scale = state.scaleOf(state.attention, state.current.head);
    return textFigure({ labels, words, isOneText, asked, values, scale });
  }

  /** Whose attention is shown; empty where no token is asked. */
  private get heading(): string {
    const { asked, labels } = this;
    if (!asked || !labels) return '';
    return `${describePosition(labels[asked.from], asked.word.from)} ${verbOf(asked.from)}`;
  }

  /** On paper lines break elsewhere: there the words themselves have the colours. */
  tintElements(on: boolean): void {
    this.tints.clear();
    for (const text of this.texts) {
      for (const drawn of text.words) {
        const { tint, ink, nan } = on ? this.tintOf(text, drawn) : { tint: '', ink: '', nan: false };
        drawn.node.style.backgroundColor = tint;
        drawn.node.style.color = ink;
        drawn.node.classList.toggle('nan', nan);
      }
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
    const labels = this.labels?.[this.isOneText ? 'query' : side] as AxisLabels;
    const box = node.getBoundingClientRect();
    const heading = describeWord(this.data, this.state.attention, asked.from, asked.word, word);
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

  private choose(node: HTMLElement | null, whoAttends: boolean): void {
    if (!node) return;
    const side = node.dataset.side as Side;
    const word = this.words[side][Number(node.dataset.word)] as Word;
    const from: Side = this.isOneText ? (whoAttends ? 'key' : 'query') : side;
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
    if (!node || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      this.choose(node, event.shiftKey);
      return;
    }
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const all = [...(node.closest('.running-text') as HTMLElement).querySelectorAll<HTMLElement>('.word')];
    const next = all[all.indexOf(node) + step];
    event.preventDefault();
    if (!next) return;
    node.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

/** Characters of a run that stays on one line. */
const LONGEST_RUN = 32;

/**
 * Which words stay on one line, as pieces of a word and its punctuation do: by word, the first of its run; undefined for one
 * that is alone, or in a run too long for that.
 */
function runsOf(words: readonly Word[]): (number | undefined)[] {
  const runs: (number | undefined)[] = [];
  for (let first = 0; first < words.length; ) {
    let end = first + 1;
    let length = words[first]?.text.length ?? 0;
    while (end < words.length && !words[end]?.spaced && !/\n$/.test(words[end - 1]?.text ?? '')) {
      length += words[end]?.text.length ?? 0;
      end++;
    }
    const together = end - first > 1 && length <= LONGEST_RUN;
    for (let i = first; i < end; i++) runs.push(together ? first : undefined);
    first = end;
  }
  return runs;
}
