import type { ViewData, ViewDataAttention, ViewDataExample } from '../view-data';
import { quote } from './format';
import { MEAN } from './weights';

/** How a weight becomes a colour: as a share of the head's largest, of 1, or the root of the first. */
export type ColourScale = 'maximum' | 'one' | 'root';

/** What is shown. Positions are indices into the data, not head or layer numbers. */
export interface Selection {
  example: number;
  attention: number;
  /** Index into the attention's matrices, or MEAN. */
  head: number;
  view: 'matrix' | 'lines';
  /** In the view with lines: all heads of the attention at once. */
  allHeads: boolean;
  scale: ColourScale;
  zoom: number;
  /** The query row that stays selected until another is clicked. */
  lockedRow: number | null;
}

/** The page's state: one selection, and those who want to know when it changes. */
export class State {
  private selection: Selection;
  private readonly listeners: ((selection: Selection, before: Selection) => void)[] = [];

  constructor(readonly data: Omit<ViewData, 'weights'> & { title: string }) {
    this.selection = {
      example: 0,
      attention: 0,
      head: 0,
      view: 'matrix',
      allHeads: false,
      scale: 'maximum',
      zoom: 1,
      lockedRow: null,
    };
  }

  get current(): Selection {
    return this.selection;
  }

  get example(): ViewDataExample {
    return this.data.examples[this.selection.example] as ViewDataExample;
  }

  get attention(): ViewDataAttention {
    return this.example.attentions[this.selection.attention] as ViewDataAttention;
  }

  onChange(listener: (selection: Selection, before: Selection) => void): void {
    this.listeners.push(listener);
  }

  set(change: Partial<Selection>): void {
    const before = this.selection;
    const next = { ...before, ...change };
    if (next.example !== before.example) next.lockedRow = null;
    const attentions = this.data.examples[next.example]?.attentions ?? [];
    next.attention = Math.min(next.attention, Math.max(0, attentions.length - 1));
    const attention = attentions[next.attention];
    if (attention) {
      next.head = Math.min(Math.max(next.head, MEAN), matrixCount(attention) - 1);
      if (matrixCount(attention) === 1) next.head = 0;
      if (next.lockedRow !== null && next.lockedRow >= attention.rows) next.lockedRow = null;
    }
    this.selection = next;
    for (const listener of this.listeners) listener(next, before);
  }
}

/** The number of matrices that an attention has, its mean not counted. */
export function matrixCount({ averaged, heads }: ViewDataAttention): number {
  return averaged ? 1 : heads.length;
}

/** How a matrix is called: 'head 3', or the mean over which heads. */
export function headName(attention: ViewDataAttention, head: number): string {
  if (attention.averaged || head === MEAN) return `mean of ${attention.heads.length} heads`;
  return `head ${attention.heads[head]}`;
}

/** How tokens and the positions of rows and columns are written. */
export interface AxisLabels {
  /** By row or column. */
  text: string[];
  /** Positions in the sequence, by row or column. */
  positions: number[];
  /** Whether the texts are tokens, and not the positions themselves. */
  areTokens: boolean;
}

/** A token with its position, or where no tokens are known the position alone. */
export function describePosition({ text, positions, areTokens }: AxisLabels, i: number): string {
  return areTokens ? `${quote(text[i] as string)} at ${positions[i]}` : `position ${positions[i]}`;
}

export function queryLabels(example: ViewDataExample, attention: ViewDataAttention): AxisLabels {
  const positions = attention.queries ?? Array.from({ length: attention.rows }, (_, i) => i);
  return axisLabels(positions, example.tokens[attention.queryTokens ?? -1]);
}

export function keyLabels(example: ViewDataExample, attention: ViewDataAttention): AxisLabels {
  const positions = Array.from({ length: attention.columns }, (_, i) => i);
  return axisLabels(positions, example.tokens[attention.keyTokens ?? -1]);
}

function axisLabels(positions: number[], tokens: string[] | undefined): AxisLabels {
  return {
    positions,
    areTokens: tokens !== undefined,
    text: positions.map((position) => tokens?.[position] ?? String(position)),
  };
}
