import type { HeadStats, ViewDataAttention } from '../view-data';
import { logCodeOf } from '../weight-code';
import { arrange, type Tile } from './arrange';
import { keyLabels, queryLabels } from './axis-labels';
import { palette } from './colour';
import { button, element } from './dom';
import type { TilesFigure } from './figure/tiles-drawing';
import { formatShort } from './format';
import { crop, Matrix, type Picture, paintCodes } from './matrix';
import { describeHead, PATTERNS } from './patterns';
import { cellsWithout, groupingOf, regroup } from './regroup';
import { type Arrangement, headName, matrixCount, type State, shortName } from './state';
import { isMean, type Store } from './store';
import { isDark } from './theme';
import type { Tooltip } from './tooltip';

const LARGEST_TILE = 84;
const SMALLEST_TILE = 30;
/** Tiles narrower than this have no room for a name and a number. */
const NAMED_TILE = 52;
const GAP = 8;
const SMALL_GAP = 6;

/** All heads of the model at a glance, arranged by what they do. */
export class ModelView {
  private built = '';
  private codes: Uint8Array[][] = [];
  private codesOf = -1;

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly store: Store,
    private readonly tooltip: Tooltip,
  ) {
    root.addEventListener('click', (event) => {
      const tile = tileOf(event.target);
      if (tile) state.set({ ...tile, view: 'matrix' });
    });
    root.addEventListener('pointerover', (event) => this.describe(event.target));
    root.addEventListener('pointerleave', () => tooltip.hide());
    root.addEventListener('focusin', (event) => this.describe(event.target));
    root.addEventListener('focusout', () => tooltip.hide());
    root.addEventListener('keydown', (event) => this.onKey(event));
  }

  async update(repaint = false): Promise<void> {
    const { example, arrange: by } = this.state.current;
    if (this.codesOf !== example) {
      this.codes = await Promise.all(
        this.state.example.attentions.map((attention) => this.store.thumbnails(attention)),
      );
      this.codesOf = example;
    }
    if (example !== this.state.current.example) return;
    const key = `${example}/${by}/${this.state.current.padding}/${this.state.current.step}/${Math.round(this.root.clientWidth)}`;
    if (key !== this.built) this.build();
    if (key !== this.built || repaint) this.paint();
    this.built = key;
    this.mark();
  }

  private build(): void {
    const { example } = this.state;
    const { arrange: by } = this.state.current;
    const sections = arrange(example, by, this.codes);
    this.root.replaceChildren();
    const size = this.tileSize(by === 'layer');
    this.root.style.setProperty('--tile', `${size}px`);
    this.root.classList.toggle('unnamed', size < NAMED_TILE);
    for (const [i, { title, groups }] of sections.entries()) {
      const section = element('section', 'kind');
      if (sections.length > 1) section.append(element('h2', '', title));
      for (const [j, group] of groups.entries()) {
        const box = element('div', 'group');
        const heading = element(sections.length > 1 ? 'h3' : 'h2', 'group-title', group.title);
        heading.id = `group-${i}-${j}`;
        heading.append(element('span', 'group-note', group.note));
        const tiles = element('div', 'tiles');
        tiles.setAttribute('role', 'group');
        tiles.setAttribute('aria-labelledby', heading.id);
        tiles.append(...group.tiles.map((tile) => this.buildTile(tile)));
        box.append(heading, tiles);
        section.append(box);
      }
      this.root.append(section);
    }
  }

  /** As large as lets a layer stand in one row; where that would be too small, rows wrap. */
  private tileSize(byLayer: boolean): number {
    const { attentions } = this.state.example;
    const room = this.root.clientWidth - 40;
    const count = attentions.reduce((sum, attention) => sum + matrixCount(attention), 0);
    if (byLayer) {
      const most = Math.max(...attentions.map(({ stats }) => stats.length));
      const size = Math.min(Math.floor((room + GAP) / most) - GAP, LARGEST_TILE);
      // Without names tiles stand closer.
      return size >= NAMED_TILE ? size : Math.max(SMALLEST_TILE, Math.floor((room + SMALL_GAP) / most) - SMALL_GAP);
    }
    // Larger where there are few, so that they fill the window.
    const area = (room * Math.max(300, window.innerHeight - 220)) / Math.max(1, count * 1.6);
    return Math.max(
      SMALLEST_TILE + 10,
      Math.min(Math.floor(Math.sqrt(area)) - GAP, LARGEST_TILE * 1.6, count > 24 ? LARGEST_TILE : 999),
    );
  }

  private buildTile({ attention: index, head }: Tile): HTMLElement {
    const attention = this.state.example.attentions[index] as ViewDataAttention;
    const stats = attention.stats[head] as HeadStats;
    const tile = button('tile', '', { attention: String(index), head: String(head) });
    tile.append(element('canvas', ''));
    const drawn = this.drawn({ attention: index, head });
    const name = element('span', 'tile-name', drawn.name);
    const strength = element('span', 'tile-strength', drawn.strength);
    const pattern = attention.kind === 'derived' ? '' : `, ${PATTERNS[stats.pattern].title.toLowerCase()}`;
    const words = `, ${attention.label}, ${headName(attention, head)}${pattern}`;
    tile.append(name, ' ', strength, element('span', 'visually-hidden', words));
    tile.tabIndex = -1;
    tile.classList.toggle('mean', isMean(attention, head));
    return tile;
  }

  private paint(): void {
    for (const tile of this.root.querySelectorAll<HTMLElement>('.tile')) {
      const { attention: index, head } = tileOf(tile) as Tile;
      const { picture, colours } = this.drawn({ attention: index, head });
      paintCodes(tile.querySelector('canvas') as HTMLCanvasElement, picture, colours(isDark()));
    }
  }

  /** What is shown, for a figure. */
  get figure(): TilesFigure {
    const { example, current } = this.state;
    const sections = arrange(example, current.arrange, this.codes);
    const groups = sections.flatMap(({ title, groups: own }) =>
      own.map((group) => ({
        title: sections.length > 1 ? `${title}: ${group.title}` : group.title,
        note: group.note,
        tiles: group.tiles.map((tile) => this.drawn(tile)),
      })),
    );
    return { groups };
  }

  /** A head's picture, and its name. */
  private drawn({ attention: index, head }: Tile) {
    const attention = this.state.example.attentions[index] as ViewDataAttention;
    const { arrange: by } = this.state.current;
    const hasStrength = attention.kind !== 'derived' && !isMean(attention, head);
    const { rows, columns } = attention.thumbnail;
    const codes = this.codes[index]?.[head] ?? new Uint8Array(rows * columns);
    const scale = this.state.scaleOf(attention, head);
    return {
      name: shortName(attention, head),
      strength: hasStrength ? strengthOf(attention.stats[head] as HeadStats, by) : '',
      picture: this.picture({ rows, columns, codes }, attention),
      colours: (dark: boolean) => palette(logCodeOf(8, attention.signed), attention.scale, scale, dark),
    };
  }

  /** What is shown of a thumbnail: without padding; where that is asked for, without special tokens, or by words. */
  private picture(thumbnail: Picture, attention: ViewDataAttention): Picture {
    const { state } = this;
    const shown = state.shown(attention);
    const isWhole = thumbnail.rows === attention.rows && thumbnail.columns === attention.columns;
    if (isWhole) {
      const grouping = groupingOf(state.example, attention, shown, state.current);
      if (grouping) return regroup(matrixOf(thumbnail, attention), grouping.rows, grouping.columns);
    } else if (state.current.hideSpecial) {
      const { example } = state;
      // A cell that has a special token among others goes with it.
      const [rows, columns] = [queryLabels(example, attention).special, keyLabels(example, attention).special];
      return regroup(
        matrixOf(thumbnail, attention),
        cellsWithout(rows, shown.rows, attention.rows, thumbnail.rows),
        cellsWithout(columns, shown.columns, attention.columns, thumbnail.columns),
      );
    }
    return crop(thumbnail, shown, attention);
  }

  private mark(): void {
    const { attention, head } = this.state.current;
    let marked: HTMLElement | undefined;
    for (const tile of this.root.querySelectorAll<HTMLElement>('.tile')) {
      const chosen = Number(tile.dataset.attention) === attention && Number(tile.dataset.head) === head;
      tile.classList.toggle('chosen', chosen);
      if (chosen) tile.setAttribute('aria-current', 'true');
      else tile.removeAttribute('aria-current');
      tile.tabIndex = chosen ? 0 : -1;
      if (chosen) marked = tile;
    }
    const first = this.root.querySelector<HTMLElement>('.tile');
    if (!marked && first) first.tabIndex = 0;
  }

  private describe(target: EventTarget | null): void {
    const tile = tileOf(target);
    const attention = tile && this.state.example.attentions[tile.attention];
    const node = (target as Element | null)?.closest('.tile');
    if (!tile || !attention || !node) {
      this.tooltip.hide();
      return;
    }
    const stats = attention.stats[tile.head] as HeadStats;
    const { right, top } = node.getBoundingClientRect();
    const rows: [string, string][] = [...describeHead(stats), ['largest weight', formatShort(stats.largest)]];
    if (stats.nan) rows.push(['NaN', `${stats.nan} weights`]);
    this.tooltip.show({ heading: `${attention.label}, ${headName(attention, tile.head)}`, rows }, right - 10, top);
  }

  /** Arrow keys go to the neighbour on the screen. */
  private onKey(event: KeyboardEvent): void {
    const from = (event.target as Element).closest<HTMLElement>('.tile');
    if (!from || event.ctrlKey || event.altKey || event.metaKey) return;
    const tiles = [...this.root.querySelectorAll<HTMLElement>('.tile')];
    const at = tiles.indexOf(from);
    let to: HTMLElement | undefined;
    if (event.key === 'ArrowRight') to = tiles[at + 1];
    else if (event.key === 'ArrowLeft') to = tiles[at - 1];
    else if (event.key === 'Home') to = tiles[0];
    else if (event.key === 'End') to = tiles.at(-1);
    else if (event.key === 'ArrowDown' || event.key === 'ArrowUp')
      to = vertical(tiles, from, event.key === 'ArrowDown' ? 1 : -1);
    else return;
    event.preventDefault();
    if (!to) return;
    from.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  }
}

/** What is said of a head below it: what it is arranged by, as a number; else its pattern. */
function strengthOf({ pattern, strength, entropy }: HeadStats, by: Arrangement): string {
  if (by === 'layer' || by === 'similarity') return PATTERNS[pattern].word;
  const number = by === 'entropy' ? entropy : strength;
  return number < 0 ? '' : number.toFixed(2);
}

function matrixOf({ rows, columns, codes }: Picture, attention: ViewDataAttention): Matrix {
  return new Matrix(rows, columns, codes, attention);
}

function tileOf(target: EventTarget | null): Tile | undefined {
  const tile = (target as Element | null)?.closest?.<HTMLElement>('.tile');
  return tile ? { attention: Number(tile.dataset.attention), head: Number(tile.dataset.head) } : undefined;
}

/** The tile that is nearest in the row below (or above). */
function vertical(tiles: readonly HTMLElement[], from: HTMLElement, direction: 1 | -1): HTMLElement | undefined {
  const { top, left } = from.getBoundingClientRect();
  let best: HTMLElement | undefined;
  let score = Number.POSITIVE_INFINITY;
  for (const tile of tiles) {
    const box = tile.getBoundingClientRect();
    const down = (box.top - top) * direction;
    if (down < 2) continue;
    const distance = down * 1000 + Math.abs(box.left - left);
    if (distance < score) {
      score = distance;
      best = tile;
    }
  }
  return best;
}
