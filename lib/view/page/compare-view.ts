import type { ViewDataAttention, ViewDataExample } from '../view-data';
import { describePosition, keyLabels, queryLabels } from './axis-labels';
import { palette, type Scale } from './colour';
import { type Difference, differenceOf } from './difference';
import { distanceOf } from './distance';
import { button, element, find, roomBelow } from './dom';
import type { MatrixFigure } from './figure/matrix-drawing';
import { formatWeight, shorten, visible } from './format';
import { headOptions, layerOptions } from './head-options';
import { cellValue, describeValue } from './head-values';
import { drawDifferenceLegend } from './legend';
import { type Cell, MatrixPane, type Subject, type Zoom } from './matrix-pane';
import { pictureNote, subjectOf } from './matrix-view';
import { headName, matrixCount, type State, shortName } from './state';
import type { HeadData, Store } from './store';
import { isDark } from './theme';
import type { Tooltip } from './tooltip';

/** A head of an example. */
interface Side {
  example: ViewDataExample;
  attention: ViewDataAttention;
  head: number;
}

type Place = [example: number, attention: number, head: number];
const PANES = ['a', 'b', 'difference'] as const;
/** Keys listed of a query, by how much they differ. */
const LISTED = 8;

/** Two heads side by side, of one capture or of two, and how they differ. */
export class CompareView {
  private readonly panes: Record<(typeof PANES)[number], MatrixPane>;
  private data: { a: HeadData; b: HeadData } | undefined;
  private difference: Difference | undefined;
  private sides: { a: Side; b: Side } | undefined;
  private pointed: Cell | null = null;
  /** What the ranking was made for, so that a newer one ends it. */
  private ranked = '';

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly store: Store,
    private readonly tooltip: Tooltip,
  ) {
    root.innerHTML = `
      <div class="compare-tools">
        <span class="letter" aria-hidden="true">B</span>
        <label class="other-example"><span class="visually-hidden">Example of B</span><select id="other-example"></select></label>
        <select id="other-layer" aria-label="Layer of B"></select><select id="other-head" aria-label="Head of B"></select>
        <button type="button" id="swap" class="quiet">Swap A and B</button>
        <span class="compare-note"></span>
      </div>
      <div class="compare-panes">
        ${PANES.map((name) => `<section class="compare-pane" data-pane="${name}"><h3></h3><div class="pane"></div></section>`).join('')}
      </div>
      <div class="compare-below">
        <section class="differing"><h3></h3><div></div></section>
        <section class="ranking"><h3>Heads by how much they differ</h3><p class="hint"></p><ol></ol></section>
      </div>`;
    const pane = (name: string) =>
      new MatrixPane(find(root, `[data-pane=${name}] .pane`), {
        onPoint: (cell, at) => this.point(cell, at),
        onChoose: (row) => state.set({ locked: state.current.locked === null ? row : null, from: 'query' }),
        onRelease: () => state.set({ locked: null }),
        onZoom: (zoom) => this.zoomTo(zoom, name),
      });
    this.panes = { a: pane('a'), b: pane('b'), difference: pane('difference') };
    const onSelect = (selector: string, change: (value: number, other: Place) => Place) => {
      const select = find<HTMLSelectElement>(root, selector);
      select.addEventListener('change', () => state.set({ other: change(Number(select.value), state.current.other) }));
    };
    onSelect('#other-example', (value, [, attention, head]) => [value, attention, head]);
    onSelect('#other-layer', (value, [example, , head]) => [example, value, head]);
    onSelect('#other-head', (value, [example, attention]) => [example, attention, value]);
    find(root, '#swap').addEventListener('click', () => {
      const { example, attention, head, other } = state.current;
      state.set({ example: other[0], attention: other[1], head: other[2], other: [example, attention, head] });
    });
    find(root, '.ranking ol').addEventListener('click', (event) => {
      const node = (event.target as Element).closest<HTMLElement>('[data-head]');
      if (!node) return;
      const [attention, head] = [Number(node.dataset.attention), Number(node.dataset.head)];
      const { other, example } = state.current;
      if (other[0] === example) state.set({ other: [example, attention, head] });
      else state.set({ attention, head, other: [other[0], attention, head] });
    });
  }

  async update(): Promise<void> {
    const { current, data } = this.state;
    const place = (example: number, attention: number, head: number): Side => ({
      example: data.examples[example] as ViewDataExample,
      attention: data.examples[example]?.attentions[attention] as ViewDataAttention,
      head,
    });
    const sides = { a: place(current.example, current.attention, current.head), b: place(...current.other) };
    const [a, b] = (await Promise.all(
      [sides.a, sides.b].map(({ attention, head }) => this.store.head(attention, head)),
    )) as [HeadData, HeadData];
    if (this.state.current !== current) return;
    this.sides = sides;
    this.data = { a, b };
    const same = sameSize(sides.a.attention, sides.b.attention);
    this.difference = same ? differenceOf(a.matrix, b.matrix) : undefined;
    this.reflect(sides);
    this.draw(sides, { a, b });
    this.updateMarks();
    void this.rank();
  }

  updateMarks(): void {
    const { locked, from } = this.state.current;
    for (const name of PANES) this.panes[name].setLocked(locked, from);
    this.listDifferences(from === 'query' ? (locked ?? this.pointed?.row ?? null) : (this.pointed?.row ?? null));
  }

  enlarge(factor: number): void {
    this.panes.a.enlarge(factor);
  }

  private reflect({ a, b }: { a: Side; b: Side }): void {
    const { root, state } = this;
    const { other, example } = state.current;
    const examples = find<HTMLSelectElement>(root, '#other-example');
    examples.replaceChildren(...state.data.examples.map(({ title }, i) => new Option(title, String(i))));
    examples.value = String(other[0]);
    find(root, '.other-example').hidden = state.data.examples.length < 2;
    const layers = find<HTMLSelectElement>(root, '#other-layer');
    layers.replaceChildren(...layerOptions(b.example));
    layers.value = String(other[1]);
    const heads = find<HTMLSelectElement>(root, '#other-head');
    heads.replaceChildren(...headOptions(b.attention));
    heads.value = String(other[2]);
    heads.hidden = b.attention.stats.length < 2;
    const titles = { a: titleOf(a, other[0] !== example), b: titleOf(b, other[0] !== example) };
    heading(this.pane('a'), 'A', titles.a);
    heading(this.pane('b'), 'B', titles.b);
    heading(this.pane('difference'), 'A − B', '');
    this.pane('difference').hidden = !this.difference;
    const size = ({ attention }: Side) => `${attention.rows} × ${attention.columns}`;
    const notes: string[] = [];
    if (!this.difference) notes.push(`No difference: ${size(a)} weights and ${size(b)}.`);
    else if (this.data?.a.pooled || this.data?.b.pooled) {
      const pooled = this.data.a.pooled ? this.data.a : this.data.b;
      notes.push(`${pictureNote(pooled, a.attention)}; differences are of these`);
    }
    const texts = new Set([a, b].map(({ example: of, attention }) => of.tokens[attention.keyTokens ?? -1]?.join('\n')));
    if (this.difference && texts.size > 1) notes.push('The texts differ: cells are compared by position.');
    find(root, '.compare-note').textContent = notes.join(' ');
  }

  private pane(name: (typeof PANES)[number]): HTMLElement {
    return find(this.root, `[data-pane=${name}]`);
  }

  private draw(sides: { a: Side; b: Side }, data: { a: HeadData; b: HeadData }): void {
    const { state } = this;
    const { zoom } = state.current;
    const height = Math.max(300, roomBelow(find(this.root, '.compare-panes')) - 40);
    const largest = this.largest(sides);
    for (const name of ['a', 'b'] as const) {
      const { attention, head, example } = sides[name];
      const { matrix } = data[name];
      const scale = { ...state.scaleOf(attention, head, example), largest };
      const { margins: _, ...subject } = subjectOf(state, data[name], attention, head, example);
      const colours = palette(matrix.code, matrix.scale, scale, isDark());
      const labels = { queries: queryLabels(example, attention), keys: keyLabels(example, attention) };
      this.panes[name].update({ ...subject, ...labels, colours }, zoom, height);
    }
    const { difference } = this;
    if (!difference) return;
    const { attention, example } = sides.a;
    const { matrix } = difference;
    const scale = this.differenceScale(difference);
    const subject: Subject = {
      name: `the difference of ${titleOf(sides.a, false)} and ${titleOf(sides.b, false)}`,
      matrix,
      rows: attention.rows,
      columns: attention.columns,
      shown: state.shown(attention, example),
      queries: queryLabels(example, attention),
      keys: keyLabels(example, attention),
      colours: palette(matrix.code, matrix.scale, scale, isDark()),
    };
    this.panes.difference.update(subject, zoom, height);
    const legend = element('span', 'legend');
    drawDifferenceLegend(legend, scale);
    find(this.pane('difference'), 'h3').append(legend);
  }

  /** What is shown, for a figure. */
  get figures(): MatrixFigure[] {
    const { sides, data, difference, state } = this;
    if (!sides || !data) return [];
    const figures = (['a', 'b'] as const).map((name) => {
      const { attention, example, head } = sides[name];
      return {
        title: `${name.toUpperCase()}: ${titleOf(sides[name], sides.a.example !== sides.b.example)}`,
        matrix: data[name].matrix,
        rows: attention.rows,
        columns: attention.columns,
        shown: this.panes[name].visible,
        queries: queryLabels(example, attention),
        keys: keyLabels(example, attention),
        scale: { ...state.scaleOf(attention, head, example), largest: this.largest(sides) },
      };
    });
    if (!difference) return figures;
    const shown = this.panes.difference.visible;
    const scale = this.differenceScale(difference);
    return [...figures, { ...(figures[0] as MatrixFigure), title: 'A − B', matrix: difference.matrix, shown, scale }];
  }

  /** One scale for both, or they could not be compared. */
  private largest(sides: { a: Side; b: Side }): number {
    const of = ({ attention, head, example }: Side) => this.state.scaleOf(attention, head, example).largest;
    return Math.max(of(sides.a), of(sides.b));
  }

  private differenceScale({ largest }: Difference): Scale {
    return { kind: this.state.current.scale, largest, signed: true };
  }

  private zoomTo(zoom: Zoom, by: string): void {
    for (const name of PANES) if (name !== by && !this.pane(name).hidden) this.panes[name].setZoom(zoom);
    this.state.set({ zoom });
  }

  private point(cell: Cell | null, at: { x: number; y: number }): void {
    const moved = cell?.row !== this.pointed?.row || cell?.column !== this.pointed?.column;
    this.pointed = cell;
    if (moved) for (const name of PANES) this.panes[name].setCursor(cell);
    if (!cell || !this.data || !this.sides) {
      this.tooltip.hide();
      return;
    }
    if (!moved && this.tooltip.visible) {
      this.tooltip.moveTo(at.x, at.y);
      return;
    }
    const { locked, from } = this.state.current;
    if (locked === null) this.listDifferences(cell.row);
    const row = from === 'query' ? (locked ?? cell.row) : cell.row;
    const column = from === 'key' ? (locked ?? cell.column) : cell.column;
    this.tooltip.show(this.describe(row, column), at.x, at.y);
  }

  /** A weight of both sides; undefined where a side has no such row or column. */
  private weights(row: number, column: number) {
    const { sides, data } = this;
    if (!sides || !data) return [];
    return (['a', 'b'] as const).flatMap((name) => {
      const { attention } = sides[name];
      if (row >= attention.rows || column >= attention.columns) return [];
      const value = cellValue(data[name], attention, row, column);
      const bound = value.block && !value.exact && value.state === 'weight' ? '≤ ' : '';
      const text = bound ? `${bound}${formatWeight(value.weight)}` : describeValue(value, attention);
      return [{ name: name.toUpperCase(), value, text }];
    });
  }

  private describe(row: number, column: number): { heading: string; rows: [string, string][] } {
    const { a } = this.sides as { a: Side; b: Side };
    const weights = this.weights(row, column);
    const rows = weights.map(({ name, text }): [string, string] => [name, text]);
    const labels = { query: queryLabels(a.example, a.attention), key: keyLabels(a.example, a.attention) };
    if (row < a.attention.rows) rows.push(['query', describePosition(labels.query, row)]);
    if (column < a.attention.columns) rows.push(['key', describePosition(labels.key, column)]);
    const [first, second] = weights.map(({ value }) => value);
    return { heading: first && second ? differenceText(first, second) : 'no difference', rows };
  }

  /** The keys of a query whose weights differ most. */
  private listDifferences(row: number | null): void {
    const [title, body] = [find(this.root, '.differing h3'), find(this.root, '.differing div')];
    const { sides, data, difference } = this;
    title.textContent = 'Where a query differs most';
    if (!sides || !data || !difference || row === null || row >= sides.a.attention.rows) {
      const hint = difference
        ? 'Point at a query, in any of the matrices. Click to keep it.'
        : 'There is no difference.';
      body.replaceChildren(element('p', 'hint', hint));
      return;
    }
    const { attention, example } = sides.a;
    const keys = keyLabels(example, attention);
    title.textContent = `${describePosition(queryLabels(example, attention), row)}: where it differs most`;
    const pooled = data.a.pooled || data.b.pooled;
    const [from, to] = this.state.shown(attention, example).columns;
    const candidates = pooled
      ? [...new Set([data.a, data.b].flatMap(({ top }) => top.row(row).map(({ key }) => key)))]
      : Array.from({ length: to - from }, (_, i) => from + i);
    const size = (column: number) => {
      const [a, b] = this.weights(row, column).map(({ value }) => value.weight);
      return Math.abs((a ?? 0) - (b ?? 0));
    };
    const sizes = new Map(candidates.map((column) => [column, size(column)]));
    const order = candidates.filter((column) => (sizes.get(column) ?? 0) > 0);
    order.sort((x, y) => (sizes.get(y) as number) - (sizes.get(x) as number));
    const table = element('table', 'strongest');
    const head = table.createTHead().insertRow();
    for (const text of ['key', 'A', 'B', 'A − B']) {
      const cell = element('th', '', text);
      cell.scope = 'col';
      head.append(cell);
    }
    const rows = table.createTBody();
    const most = sizes.get(order[0] ?? -1) || 1;
    for (const column of order.slice(0, LISTED)) {
      const [a, b] = this.weights(row, column);
      const line = rows.insertRow();
      line.style.setProperty('--share', String((sizes.get(column) as number) / most));
      const text = keys.areTokens ? shorten(visible(keys.text[column] as string), 24) : '';
      line.append(
        element('td', 'key', `${text} ${keys.positions[column]}`.trim()),
        element('td', '', a?.text.replace(/ ±.*/, '') ?? ''),
        element('td', '', b?.text.replace(/ ±.*/, '') ?? ''),
        element('td', 'weight', a && b ? differenceText(a.value, b.value) : ''),
      );
    }
    body.replaceChildren(table);
    if (pooled)
      body.append(element('p', 'hint', 'Of these heads the page knows the strongest keys of each query only.'));
    if (!order.length) body.replaceChildren(element('p', 'hint', 'Its weights are the same in both.'));
  }

  /** Ranks heads, one after the other, so that the page stays at hand meanwhile. */
  private async rank(): Promise<void> {
    const { current, data } = this.state;
    const { example, attention, head, other, padding } = current;
    const captures = other[0] !== example;
    const key = [example, other[0], captures ? '' : `${attention}.${head}`, padding].join('/');
    if (key === this.ranked) {
      this.markRanking();
      return;
    }
    this.ranked = key;
    const [first, second] = [data.examples[example], data.examples[other[0]]] as [ViewDataExample, ViewDataExample];
    const chosen = first.attentions[attention] as ViewDataAttention;
    const pairs = second.attentions.flatMap((there, i) => {
      const here = captures ? first.attentions[i] : chosen;
      if (!here || !sameSize(here, there) || (captures && matrixCount(here) !== matrixCount(there))) return [];
      return Array.from({ length: matrixCount(there) }, (_, h) => ({ here, there, i, h, head: captures ? h : head }));
    });
    const hint = find(this.root, '.ranking .hint');
    const list = find(this.root, '.ranking ol');
    const what = captures
      ? 'the same head of A and B'
      : `${titleOf({ attention: chosen, head }, false)} and each other head`;
    const found: { i: number; h: number; name: string; distance: number }[] = [];
    list.replaceChildren();
    if (!pairs.length) hint.textContent = 'No head of one has the size of a head of the other.';
    for (const [done, { here, there, i, h, head: own }] of pairs.entries()) {
      if (!captures && here === there && own === h) continue;
      const [a, b] = await Promise.all([this.store.head(here, own), this.store.head(there, h)]);
      if (this.ranked !== key || this.state.current.view !== 'compare') {
        if (this.ranked === key) this.ranked = '';
        return;
      }
      const distance = distanceOf(a.matrix, b.matrix, here, this.state.shown(here, first));
      found.push({ i, h, name: shortName(there, h), distance });
      const left = pairs.length - done - 1;
      const sort = 'mean Jensen–Shannon distance of their queries, 0 (the same) to 1';
      const pictures = a.pooled || b.pooled ? '; where the page has pictures, of these' : '';
      hint.textContent = `Between ${what}: ${sort}${pictures}${left ? ` · ${left} to go` : ''}`;
      if (left && done % 12) continue;
      drawRanking(list, found);
      this.markRanking();
      await new Promise((resolve) => setTimeout(resolve));
    }
  }

  private markRanking(): void {
    const [, attention, head] = this.state.current.other;
    for (const node of this.root.querySelectorAll<HTMLElement>('.ranking [data-head]')) {
      const chosen = Number(node.dataset.attention) === attention && Number(node.dataset.head) === head;
      node.setAttribute('aria-pressed', String(chosen));
    }
  }
}

function sameSize(a: ViewDataAttention, b: ViewDataAttention): boolean {
  return a.rows === b.rows && a.columns === b.columns;
}

function titleOf(
  { example, attention, head }: Omit<Side, 'example'> & { example?: ViewDataExample },
  named: boolean,
): string {
  const name = `${attention.label}, ${headName(attention, head)}`;
  return named && example ? `${name} · ${example.title}` : name;
}

function heading(pane: HTMLElement, letter: string, text: string): void {
  const title = element('span', 'pane-title', text);
  // Where there is no room for all of it.
  title.title = text;
  find(pane, 'h3').replaceChildren(element('span', 'letter', letter), title);
}

/** A minus B with its sign; exact only where both are. */
function differenceText(a: ReturnType<typeof cellValue>, b: ReturnType<typeof cellValue>): string {
  for (const { state } of [a, b]) if (state === 'nan') return 'NaN';
  if (a.state === 'absent' || b.state === 'absent') return 'not captured';
  if (a.state === 'masked' && b.state === 'masked') return 'masked';
  if (!a.exact && a.block && !b.exact && b.block) return '';
  const known = ({ state, exact }: typeof a) => exact || state === 'masked' || state === 'zero';
  const difference = a.weight - b.weight;
  const sign = difference > 0 ? '+' : difference < 0 ? '−' : '';
  return `${known(a) && known(b) ? '' : '≈ '}${sign}${formatWeight(Math.abs(difference))}`;
}

function drawRanking(list: HTMLElement, found: { i: number; h: number; name: string; distance: number }[]): void {
  const order = found.filter(({ distance }) => !Number.isNaN(distance)).sort((a, b) => b.distance - a.distance);
  const most = order[0]?.distance || 1;
  const focused = list.contains(document.activeElement)
    ? (document.activeElement as HTMLElement).dataset.key
    : undefined;
  list.replaceChildren(
    ...order.map(({ i, h, name, distance }) => {
      const item = element('li', '');
      const node = button('ranked', '', { attention: String(i), head: String(h), key: `${i}/${h}` });
      node.style.setProperty('--share', String(distance / most));
      node.append(element('span', 'tile-name', name), ' ', element('span', 'tile-strength', distance.toFixed(3)));
      item.append(node);
      return item;
    }),
  );
  if (focused) list.querySelector<HTMLElement>(`[data-key="${focused}"]`)?.focus();
}
