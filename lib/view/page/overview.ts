import type { AttentionKind, ViewDataAttention } from '../view-data';
import { paint } from './colour';
import { headName, matrixCount, type State } from './state';
import { decodeThumbnails, MEAN } from './weights';

const KINDS: AttentionKind[] = ['encoder', 'decoder', 'cross'];

/** The heading of a kind; where an example has one kind only, there is nothing to tell apart. */
function kindTitle(kind: AttentionKind, alone: boolean): string {
  if (kind === 'cross') return 'Cross-attention';
  if (alone) return 'Self-attention';
  return kind === 'encoder' ? 'Encoder self-attention' : 'Decoder self-attention';
}

/** What an attention is, in words: used in headings. */
export function describeKind(attention: ViewDataAttention, all: readonly ViewDataAttention[]): string {
  return kindTitle(attention.kind, new Set(all.map(({ kind }) => kind)).size === 1);
}

/** All layers and heads at a glance: a grid of thumbnails for each kind of attention. */
export class Overview {
  /** Attention indices in the order shown, row by row. */
  private order: number[] = [];
  private shownExample = -1;

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
  ) {
    root.addEventListener('click', (event) => {
      const button = (event.target as Element).closest<HTMLElement>('button[data-attention]');
      if (button) state.set({ attention: Number(button.dataset.attention), head: Number(button.dataset.head) });
    });
  }

  update(repaint: boolean): void {
    const { example, attention, head } = this.state.current;
    if (this.shownExample !== example || repaint) this.build();
    this.shownExample = example;
    for (const button of this.root.querySelectorAll<HTMLElement>('button[data-attention]')) {
      const chosen = Number(button.dataset.attention) === attention && Number(button.dataset.head) === head;
      button.setAttribute('aria-selected', String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      if (chosen) button.scrollIntoView({ block: 'nearest', inline: 'nearest' });
    }
  }

  /** Moves the selection by so many layers and heads, and the focus with it if it is in the grid. */
  move(layers: number, heads: number): void {
    const { attention, head } = this.state.current;
    const row = this.order.indexOf(attention) + layers;
    const next = this.order[Math.max(0, Math.min(row, this.order.length - 1))] ?? attention;
    const target = this.state.example.attentions[next];
    if (!target) return;
    // Along a row: its heads, then their mean.
    const count = matrixCount(target);
    const column = (head === MEAN ? matrixCount(this.state.attention) : head) + heads;
    const wasMean = head === MEAN && heads === 0;
    const last = count > 1 ? count : count - 1;
    const bounded = wasMean ? last : Math.max(0, Math.min(column, heads === 0 ? count - 1 : last));
    this.state.set({ attention: next, head: bounded === count ? MEAN : bounded });
    if (this.root.contains(document.activeElement)) {
      this.root.querySelector<HTMLElement>('button[aria-selected="true"]')?.focus();
    }
  }

  private build(): void {
    const { attentions } = this.state.example;
    this.root.replaceChildren();
    // As large as fits beside the picture; where that would be too small, the grid scrolls.
    const columns = Math.max(...attentions.map(matrixCount)) + 1;
    const room = Math.min(window.innerWidth * 0.4, 620) - 130;
    this.root.style.setProperty('--thumbnail', `${Math.max(20, Math.min(Math.floor(room / columns) - 4, 40))}px`);
    this.order = [];
    for (const kind of KINDS) {
      const indices = attentions.flatMap((attention, i) => (attention.kind === kind ? [i] : []));
      if (!indices.length) continue;
      this.order.push(...indices);
      this.root.append(this.buildGrid(kind, indices));
    }
  }

  private buildGrid(kind: AttentionKind, indices: number[]): HTMLElement {
    const attentions = indices.map((i) => this.state.example.attentions[i] as ViewDataAttention);
    const title = describeKind(attentions[0] as ViewDataAttention, this.state.example.attentions);
    const columns = Math.max(...attentions.map(matrixCount));
    const section = element('section', 'kind');
    const heading = element('h2', '', title);
    heading.id = `kind-${kind}`;
    const grid = element('div', 'thumbnails');
    grid.setAttribute('role', 'grid');
    grid.setAttribute('aria-labelledby', heading.id);
    const hasMean = columns > 1;
    grid.style.setProperty('--columns', String(columns));
    grid.classList.toggle('has-mean', hasMean);

    const head = element('div', 'row');
    head.setAttribute('role', 'row');
    head.append(labelled('columnheader', 'corner', ''));
    const numbers = attentions.find((attention) => matrixCount(attention) === columns) as ViewDataAttention;
    const sameHeads = attentions.every(({ heads }) => heads.every((number, i) => number === numbers.heads[i]));
    for (let i = 0; i < columns; i++) {
      const text = numbers.averaged ? 'mean' : String(sameHeads ? numbers.heads[i] : '');
      head.append(labelled('columnheader', 'column-label', text));
    }
    if (hasMean) head.append(labelled('columnheader', 'column-label mean', 'mean'));
    grid.append(head);

    grid.append(...indices.map((index, i) => this.buildRow(index, attentions[i] as ViewDataAttention, columns)));
    section.append(heading, grid);
    return section;
  }

  private buildRow(index: number, attention: ViewDataAttention, columns: number): HTMLElement {
    const row = element('div', 'row');
    row.setAttribute('role', 'row');
    const label = labelled('rowheader', 'row-label', attention.label);
    label.title = attention.name || attention.label;
    row.append(label);
    const images = decodeThumbnails(attention.thumbnails);
    const count = matrixCount(attention);
    images.forEach((image, i) => {
      const head = i === count ? MEAN : i;
      const button = element('button', head === MEAN ? 'thumbnail mean' : 'thumbnail') as HTMLButtonElement;
      button.type = 'button';
      button.setAttribute('role', 'gridcell');
      button.dataset.attention = String(index);
      button.dataset.head = String(head);
      const name = `${attention.label}, ${headName(attention, head)}`;
      button.setAttribute('aria-label', name);
      button.title = name;
      const canvas = document.createElement('canvas');
      paint(canvas, image, Math.sqrt);
      button.append(canvas);
      // Heads of one row stay below the numbers of the grid, and all means in one column.
      button.style.gridColumn = String(head === MEAN ? columns + 2 : i + 2);
      row.append(button);
    });
    return row;
  }
}

function element(tag: string, className: string, text = ''): HTMLElement {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

function labelled(role: string, className: string, text: string): HTMLElement {
  const node = element('div', className, text);
  node.setAttribute('role', role);
  return node;
}
