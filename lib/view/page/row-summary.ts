import { formatWeight, shorten, visible } from './format';
import { describePosition, headName, keyLabels, matrixCount, queryLabels, type State } from './state';
import { MEAN, type Weights } from './weights';

const LISTED = 8;

/** The keys that a query row attends to most, as a list with bars. */
export class RowSummary {
  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly weights: Weights,
  ) {}

  update(row: number | null): void {
    const { example, attention } = this.state;
    if (row === null || row >= attention.rows) {
      const hint = document.createElement('p');
      hint.className = 'hint';
      hint.textContent = 'Point at a query to list its strongest keys. Click to keep it.';
      this.root.replaceChildren(hint);
      return;
    }
    const { view, allHeads } = this.state.current;
    const together = view === 'lines' && allHeads && matrixCount(attention) > 1;
    const head = together ? MEAN : this.state.current.head;
    const { columns, values } = this.weights.matrix(attention, head);
    const weights = values.subarray(row * columns, (row + 1) * columns);
    const strongest = Array.from(weights.keys())
      .sort((a, b) => (weights[b] as number) - (weights[a] as number))
      .slice(0, LISTED);
    const keys = keyLabels(example, attention);
    const title = document.createElement('h3');
    const kept = this.state.current.lockedRow === row;
    title.textContent = `${describePosition(queryLabels(example, attention), row)} attends to${
      together ? `, ${headName(attention, MEAN)}` : ''
    }${kept ? ' (kept)' : ''}`;
    const list = document.createElement('ol');
    for (const column of strongest) {
      const weight = weights[column] as number;
      const item = document.createElement('li');
      item.style.setProperty('--share', String(Math.min(1, weight / (weights[strongest[0] as number] || 1))));
      for (const [name, text] of [
        ['key', keys.areTokens ? shorten(visible(keys.text[column] as string), 22) : `position ${column}`],
        ['position', keys.areTokens ? String(column) : ''],
        ['weight', formatWeight(weight)],
      ] as const) {
        const part = document.createElement('span');
        part.className = name;
        part.textContent = text;
        item.append(part);
      }
      list.append(item);
    }
    this.root.replaceChildren(title, list);
  }
}
