import type { ViewData, ViewDataAttention, ViewDataExample } from '../view-data';
import type { ColourScale, Scale } from './colour';
import { isMean } from './store';

export type ViewName = 'model' | 'heads' | 'matrix' | 'text' | 'image' | 'compare';
export type Arrangement = 'pattern' | 'layer' | 'entropy' | 'similarity';

/** What is shown. Positions are indices into the data, not head or layer numbers. */
export interface Selection {
  view: ViewName;
  example: number;
  attention: number;
  /** Index into the attention's matrices; the mean over the heads comes after them. */
  head: number;
  /** Matrices drawn together in the view of heads; empty: the head alone. */
  heads: number[];
  /** The row, or with `from` the column, that stays selected until another is clicked. */
  locked: number | null;
  from: 'query' | 'key';
  scale: ColourScale;
  arrange: Arrangement;
  /** Lines are drawn for weights from this on, as a share of the attention's scale. */
  threshold: number;
  fadeSpecial: boolean;
  mergeWords: boolean;
  /** Rows and columns of special tokens are left out, of the matrix and of the pictures of all heads. */
  hideSpecial: boolean;
  padding: boolean;
  /** How often the matrix is enlarged, and which share of it lies left of and above the window. */
  zoom: [number, number, number];
  /** What is compared with: an example, an attention of it, a head. */
  other: [number, number, number];
  /** Of a generation: so many tokens are there, those given included; null: all. */
  step: number | null;
}

const INITIAL: Selection = {
  view: 'model',
  example: 0,
  attention: 0,
  head: 0,
  heads: [],
  locked: null,
  from: 'query',
  scale: 'log',
  arrange: 'pattern',
  threshold: 0.05,
  fadeSpecial: false,
  mergeWords: false,
  hideSpecial: false,
  padding: false,
  zoom: [1, 0, 0],
  other: [0, 0, 1],
  step: null,
};

const VIEWS: readonly ViewName[] = ['model', 'heads', 'matrix', 'text', 'image', 'compare'];
const SCALES: readonly ColourScale[] = ['log', 'root', 'linear'];
const ARRANGEMENTS: readonly Arrangement[] = ['pattern', 'layer', 'entropy', 'similarity'];

/** Below that lines are too pale to be seen. */
export const LEAST_THRESHOLD = 1e-4;

type Listener = (selection: Selection, before: Selection) => void;

/** The page's state: one selection, mirrored in the address, and those who want to know when it changes. */
export class State {
  private selection: Selection;
  private readonly listeners: Listener[] = [];
  private readonly largestOfAll = new Map<ViewDataExample, number>();

  constructor(readonly data: ViewData & { title: string }) {
    const single = data.examples.every(
      ({ attentions }) => attentions.length <= 1 && (attentions[0]?.stats.length ?? 1) === 1,
    );
    this.initial = { ...INITIAL, view: data.compare ? 'compare' : single ? 'matrix' : 'model' };
    if (data.examples.length > 1) this.initial.other = [1, 0, 0];
    this.selection = this.bounded({ ...this.initial, ...readAddress() });
    addEventListener('hashchange', () => {
      const next = this.bounded({ ...this.initial, ...readAddress() });
      if (address(next, this.initial) !== address(this.selection, this.initial)) this.set(next);
    });
  }

  private readonly initial: Selection;

  get current(): Selection {
    return this.selection;
  }

  get example(): ViewDataExample {
    return this.data.examples[this.selection.example] as ViewDataExample;
  }

  get attention(): ViewDataAttention {
    return this.example.attentions[this.selection.attention] as ViewDataAttention;
  }

  /** Rows and columns that are shown: all, or those that are no padding, and of a generation those that were there. */
  shown(attention = this.attention, example = this.example): ViewDataAttention['shown'] {
    const { padding, step } = this.selection;
    const shown: ViewDataAttention['shown'] = padding
      ? { rows: [0, attention.rows], columns: [0, attention.columns] }
      : attention.shown;
    if (step === null || example.prompt === undefined || attention.kind === 'encoder') return shown;
    const until = ([from, to]: [number, number], end: number): [number, number] => [
      from,
      Math.max(from + 1, Math.min(to, end)),
    ];
    const rows = attention.queries ? attention.queries.filter((query) => query < step).length : step;
    return {
      rows: until(shown.rows, rows),
      columns: attention.kind === 'cross' ? shown.columns : until(shown.columns, step),
    };
  }

  /** Of a generation: how many tokens there are at the end. */
  get length(): number {
    const own = this.example.attentions.filter(({ kind }) => kind !== 'encoder');
    return Math.max(0, ...own.map(({ queries, rows }) => (queries?.at(-1) ?? rows - 1) + 1));
  }

  /** The weight from which on lines are drawn. */
  get threshold(): number {
    return this.selection.threshold * this.attention.scale;
  }

  /** What the colours of a head stand for. */
  scaleOf(attention: ViewDataAttention, head: number, example = this.example): Scale {
    const { scale: kind } = this.selection;
    const signed = attention.signed ?? false;
    if (kind === 'linear') return { kind, signed, largest: attention.scale };
    if (kind === 'root') return { kind, signed, largest: attention.stats[head]?.largest || attention.scale };
    return { kind, signed, largest: this.largest(attention, example) };
  }

  /** The largest weight of all heads of an example; gradients and the like, which are no weights, have a scale each. */
  private largest(attention: ViewDataAttention, example: ViewDataExample): number {
    if (attention.kind === 'derived') return largestOf([attention]) || attention.scale;
    let largest = this.largestOfAll.get(example);
    if (largest === undefined) {
      largest = Math.max(0.001, largestOf(example.attentions.filter(({ kind }) => kind !== 'derived')));
      this.largestOfAll.set(example, largest);
    }
    return largest;
  }

  onChange(listener: Listener): void {
    this.listeners.push(listener);
  }

  set(change: Partial<Selection>): void {
    const before = this.selection;
    const next = this.bounded({ ...before, ...change });
    const otherHead = next.attention !== before.attention || next.example !== before.example;
    if (next.example !== before.example) {
      next.locked = null;
      next.step = null;
    }
    // The same head of two captures stays the same while others are looked at.
    const [example, attention, head] = before.other;
    const together = example !== before.example && attention === before.attention && head === before.head;
    if (together && !change.other) next.other = [example, next.attention, next.head];
    if (otherHead && !change.heads) next.heads = [];
    if (otherHead && !change.zoom && !this.sameSize(next, before)) next.zoom = [1, 0, 0];
    this.selection = next;
    for (const listener of this.listeners) listener(next, before);
    this.writeAddress();
  }

  /** The address of what is shown, for a link. */
  get address(): string {
    return address(this.selection, this.initial);
  }

  private sameSize(a: Selection, b: Selection): boolean {
    const of = ({ example, attention }: Selection) => this.data.examples[example]?.attentions[attention];
    return of(a)?.rows === of(b)?.rows && of(a)?.columns === of(b)?.columns;
  }

  private bounded(next: Selection): Selection {
    const within = (index: number, count: number) => Math.max(0, Math.min(Math.trunc(index) || 0, count - 1));
    next.example = within(next.example, this.data.examples.length);
    const { attentions, image } = this.data.examples[next.example] as ViewDataExample;
    next.attention = within(next.attention, attentions.length);
    const attention = attentions[next.attention];
    if (attention) {
      next.head = within(next.head, attention.stats.length);
      const isIndex = (i: number, count: number) => Number.isInteger(i) && i >= 0 && i < count;
      next.heads = [...new Set(next.heads)].filter((head) => isIndex(head, attention.stats.length));
      const count = next.from === 'query' ? attention.rows : attention.columns;
      if (next.locked !== null && !isIndex(next.locked, count)) next.locked = null;
    }
    next.threshold = Math.max(LEAST_THRESHOLD, Math.min(next.threshold, 1));
    const [example, other, head] = next.other;
    const there = this.data.examples[within(example, this.data.examples.length)] as ViewDataExample;
    const otherAttention = within(other, there.attentions.length);
    next.other = [
      within(example, this.data.examples.length),
      otherAttention,
      within(head, there.attentions[otherAttention]?.stats.length ?? 1),
    ];
    if (next.view === 'image' && !image) next.view = 'text';
    if (next.step !== null) next.step = within(next.step, Number.MAX_SAFE_INTEGER) || 1;
    return next;
  }

  private timer: number | undefined;

  private writeAddress(): void {
    // Browsers refuse too many changes of the address in a short time, as zooming makes them.
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      try {
        history.replaceState(null, '', `#${this.address}`);
      } catch {
        // A page in an iframe's srcdoc has no address of its own.
      }
    }, 120);
  }
}

function largestOf(attentions: readonly ViewDataAttention[]): number {
  let largest = 0;
  for (const { stats } of attentions) for (const head of stats) largest = Math.max(largest, head.largest);
  return largest;
}

function address(selection: Selection, initial: Selection): string {
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(selection) as [keyof Selection, unknown][]) {
    const text = write(value);
    if (text !== write(initial[key])) parts.set(key, text);
  }
  return parts.toString();
}

function write(value: unknown): string {
  if (Array.isArray(value))
    return value.map((part) => (Number.isInteger(part) ? part : Number(part).toFixed(5))).join('_');
  if (typeof value === 'number') return String(Number(value.toPrecision(4)));
  return value === null ? '' : typeof value === 'boolean' ? (value ? '1' : '0') : String(value);
}

/** What an address says, as far as it makes sense. */
function readAddress(): Partial<Selection> {
  const parts = new URLSearchParams(location.hash.slice(1));
  const found: Partial<Selection> = {};
  const number = (text: string) => (text !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined);
  for (const [key, text] of parts) {
    const list = text.split('_').map(Number);
    const isList = text !== '' && list.every(Number.isFinite);
    if (key === 'view' && VIEWS.includes(text as ViewName)) found.view = text as ViewName;
    else if (key === 'scale' && SCALES.includes(text as ColourScale)) found.scale = text as ColourScale;
    else if (key === 'arrange' && ARRANGEMENTS.includes(text as Arrangement)) found.arrange = text as Arrangement;
    else if (key === 'from' && (text === 'query' || text === 'key')) found.from = text;
    else if (key === 'heads' && isList) found.heads = list;
    else if ((key === 'zoom' || key === 'other') && isList && list.length === 3)
      found[key] = list as [number, number, number];
    else if (key === 'fadeSpecial' || key === 'mergeWords' || key === 'hideSpecial' || key === 'padding')
      found[key] = text === '1';
    else if (
      key === 'example' ||
      key === 'attention' ||
      key === 'head' ||
      key === 'locked' ||
      key === 'threshold' ||
      key === 'step'
    ) {
      const value = number(text);
      if (value !== undefined) found[key] = value;
    }
  }
  return found;
}

/** The number of matrices that an attention has, its mean not counted. */
export function matrixCount({ averaged, heads }: ViewDataAttention): number {
  return averaged ? 1 : heads.length;
}

/** How a matrix is called: 'head 3', or the mean over which heads. */
export function headName(attention: ViewDataAttention, head: number): string {
  if (attention.averaged || isMean(attention, head)) return `mean of ${attention.heads.length} heads`;
  return `head ${attention.heads[head]}`;
}

/** A head in as few characters as it takes: '3.5', '3.mean'. */
export function shortName(attention: ViewDataAttention, head: number): string {
  const layer = /^[a-z]+ (\d+)$/i.exec(attention.label)?.[1] ?? attention.label;
  if (attention.averaged) return layer;
  return `${layer}.${isMean(attention, head) ? 'mean' : attention.heads[head]}`;
}
