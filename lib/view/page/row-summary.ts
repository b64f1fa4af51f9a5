import type { ViewDataAttention } from '../view-data';
import { describePosition, keyLabels, queryLabels, verbOf } from './axis-labels';
import { button, element, saveFile } from './dom';
import { formatWeight, percent, percentOff, shorten, visible } from './format';
import { cellValue, describeValue, lineValues, maskedName } from './head-values';
import { lineCsv } from './line-csv';
import { headName, type State } from './state';
import type { HeadData } from './store';

const LISTED = 8;
/** Rows of so many keys are listed at each move of the pointer. */
const QUICK = 256;

/** What a query attends to most (or who attends to a key), as a table with bars: what pictures show, in numbers. */
export class RowSummary {
  private shownFor = '';

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
  ) {
    new IntersectionObserver((entries) => {
      this.inSight = entries.at(-1)?.isIntersecting ?? true;
    }).observe(root);
    root.addEventListener('click', (event) => {
      if ((event.target as Element).closest('.csv')) this.download();
    });
  }

  private data: HeadData | undefined;
  private index: number | null = null;

  private inSight = true;
  private timer: number | undefined;

  /** Of long rows, or where it can't be seen, it follows once the pointer rests: before, it would only slow that down. */
  update(data: HeadData | undefined, from: 'query' | 'key', index: number | null): void {
    clearTimeout(this.timer);
    const show = () => this.show(data, from, index);
    const { rows, columns } = this.state.attention;
    const isQuick = this.inSight && Math.max(rows, columns) <= QUICK;
    if (isQuick || this.state.current.locked !== null) show();
    else this.timer = setTimeout(show, this.inSight ? 80 : 150);
  }

  private show(data: HeadData | undefined, from: 'query' | 'key', index: number | null): void {
    const { attention, example } = this.state;
    const { locked } = this.state.current;
    const key = `${this.state.address}/${from}/${index}`;
    if (key === this.shownFor && this.data === data) return;
    this.shownFor = key;
    this.data = data;
    this.index = index;
    if (!data || index === null) {
      this.root.replaceChildren(element('p', 'hint', 'Point at a query to list its strongest keys. Click to keep it.'));
      return;
    }
    const queries = queryLabels(example, attention);
    const keys = keyLabels(example, attention);
    const [own, others] = from === 'query' ? [queries, keys] : [keys, queries];
    const heading = `${describePosition(own, index)} ${verbOf(from)}`;
    const { current } = this.state;
    const isOne = current.view !== 'heads' || current.heads.length < 2;
    const which = isOne ? '' : `, ${headName(attention, current.head)}`;
    const title = element('h3', '', `${heading}${locked === index ? ' (kept)' : ''}${which}`);

    const { note, found } = strongest(data, attention, from, index);
    const table = element('table', 'strongest');
    const head = element('thead');
    const headRow = element('tr');
    for (const text of [from === 'query' ? 'key' : 'query', 'position', 'weight']) {
      const cell = element('th', '', text);
      cell.scope = 'col';
      headRow.append(cell);
    }
    head.append(headRow);
    const body = element('tbody');
    const most = Math.abs(found[0]?.weight ?? 0) || 1;
    for (const { at, weight, text } of found) {
      const row = element('tr');
      row.style.setProperty('--share', String(Math.min(1, Math.abs(weight) / most)));
      const label = others.areTokens
        ? shorten(visible(others.text[at] as string), 24)
        : `position ${others.positions[at]}`;
      row.append(
        element('td', 'key', label),
        element('td', 'position', String(others.positions[at])),
        element('td', 'weight', text),
      );
      body.append(row);
    }
    table.append(head, body);
    const parts: HTMLElement[] = [title];
    if (found.length) parts.push(table);
    else parts.push(element('p', 'hint', withoutWeights(data, attention, from, index)));
    if (note) parts.push(element('p', 'hint', note));
    if (!data.pooled) parts.push(button('quiet csv', 'All of them as CSV'));
    this.root.replaceChildren(...parts);
  }

  private download(): void {
    const { data, index } = this;
    if (!data || index === null) return;
    const { attention, example, current } = this.state;
    const others = current.from === 'query' ? keyLabels(example, attention) : queryLabels(example, attention);
    const csv = lineCsv(data, attention, current.from, index, others);
    saveFile(new Blob([csv], { type: 'text/csv' }), `${current.from}-${index}.csv`);
  }
}

/** The largest weights of a row or column, and what the page doesn't know of it. */
export function strongest(
  data: HeadData,
  attention: ViewDataAttention,
  from: 'query' | 'key',
  index: number,
): { found: { at: number; weight: number; text: string }[]; note: string } {
  const { matrix, pooled, top } = data;
  const length = from === 'query' ? attention.columns : attention.rows;
  if (pooled && from === 'query') {
    const found = top.row(index).map(({ key, weight }) => ({ at: key, weight, text: formatWeight(weight) }));
    const held = found.reduce((sum, { weight }) => sum + weight, 0);
    const share = attention.signed ? '' : `: ${percent(held)} of the weight`;
    const note = `The ${found.length} strongest of ${length.toLocaleString('en')} keys, exactly${share}. Of the others this page has a picture only.`;
    return { found, note };
  }
  const values = lineValues(data, attention, from, index);
  const order = largest(values, LISTED);
  // Said once below the list.
  const usual = ` ± ${percentOff(matrix.error)}`;
  const found = order.map((i) => {
    const [row, column] = from === 'query' ? [index, i] : [i, index];
    const cell = cellValue(data, attention, row, column);
    const text =
      pooled && !cell.exact ? `≤ ${formatWeight(cell.weight)}` : describeValue(cell, attention).replace(usual, '');
    return { at: i, weight: values[i] as number, text };
  });
  const notes: string[] = [];
  if (attention.capturedTopK)
    notes.push(`The capture holds the ${attention.capturedTopK} strongest keys of each query only.`);
  if (pooled) notes.push('≤: the largest weight of a block of the picture; nothing nearer is in this page.');
  else if (matrix.error) notes.push(`≈: at most ${percentOff(matrix.error)} off.`);
  return { found, note: notes.join(' ') };
}

/** Why a row (or column) has no strongest weights. */
function withoutWeights(
  { matrix, pooled }: HeadData,
  attention: ViewDataAttention,
  from: 'query' | 'key',
  index: number,
) {
  if (pooled) return 'No weight at all: everything here is masked, 0 or NaN.';
  const length = from === 'query' ? attention.columns : attention.rows;
  const counts = { nan: 0, masked: 0, absent: 0 };
  for (let i = 0; i < length; i++) {
    const state = matrix.state(from === 'query' ? index * attention.columns + i : i * attention.columns + index);
    if (state in counts) counts[state as keyof typeof counts]++;
  }
  const { nan, masked, absent } = counts;
  if (nan === length) return 'No weight at all: all are NaN.';
  if (masked === length) return `No weight at all: all are ${maskedName(attention)}.`;
  const parts = [
    ...(nan ? [`${nan.toLocaleString('en')} are NaN`] : []),
    ...(masked ? [`${masked.toLocaleString('en')} ${maskedName(attention)}`] : []),
    ...(absent ? [`${absent.toLocaleString('en')} not captured`] : []),
    'the others 0',
  ];
  return `No weight at all: ${parts.join(', ')}.`;
}

/** The positions of the `count` largest sizes that are more than 0, largest first; equal ones by position. */
function largest(values: Float32Array, count: number): number[] {
  const found: number[] = [];
  const size = (i: number) => Math.abs(values[i] as number);
  for (let i = 0; i < values.length; i++) {
    if (!(size(i) > 0) || (found.length === count && size(i) <= size(found[count - 1] as number))) continue;
    let at = found.length;
    while (at > 0 && size(found[at - 1] as number) < size(i)) at--;
    found.splice(at, 0, i);
    if (found.length > count) found.pop();
  }
  return found;
}
