import type { ViewDataImage } from '../view-data';
import { type AxisLabels, keyLabels, queryLabels, verbOf } from './axis-labels';
import { arrowStep, button, element, find } from './dom';
import type { ImageFigure } from './figure/image-drawing';
import { formatWeight } from './format';
import { cellValue, describeValue, lineValues } from './head-values';
import { resize } from './matrix-cells';
import { patchShade, positionName, weighted } from './patches';
import type { State } from './state';
import type { HeadData } from './store';
import { isDark } from './theme';
import type { Tooltip } from './tooltip';
import type { Side } from './word-values';

/** A picture whose patches are the positions: dimmed where the patch that is asked doesn't look. */
export class ImageView {
  private readonly box: HTMLElement;
  private readonly picture: HTMLImageElement;
  private readonly canvas: HTMLCanvasElement;
  private readonly chips: HTMLElement;
  private data: HeadData | undefined;
  /** Position in the sequence. */
  private pointed: number | null = null;

  constructor(
    private readonly root: HTMLElement,
    private readonly state: State,
    private readonly tooltip: Tooltip,
    private readonly onPoint: (from: Side, index: number | null) => void,
  ) {
    root.innerHTML = `
      <p class="text-heading" aria-live="polite"></p>
      <div class="image-chips" role="group" aria-label="Tokens before the patches"></div>
      <div class="image-box" tabindex="0" role="application" aria-describedby="image-help"><img alt=""><canvas class="image-shade" aria-hidden="true"></canvas></div>
      <p id="image-help" class="visually-hidden">Arrow keys move from patch to patch, Enter keeps the patch, Escape lets it go.</p>`;
    this.box = find(root, '.image-box');
    this.picture = find(root, 'img');
    this.canvas = find(root, 'canvas');
    this.chips = find(root, '.image-chips');
    this.picture.addEventListener('load', () => this.paint());
    this.box.addEventListener('pointermove', (event) => this.point(this.positionAt(event), event));
    this.box.addEventListener('pointerleave', () => this.point(null));
    this.box.addEventListener('blur', () => this.point(null));
    this.box.addEventListener('click', (event) => this.choose(this.positionAt(event), event.shiftKey));
    this.box.addEventListener('keydown', (event) => this.onKey(event));
    const chipAt = (target: EventTarget | null) => (target as Element).closest<HTMLElement>('.chip')?.dataset.position;
    for (const over of ['pointerover', 'focusin']) {
      this.chips.addEventListener(over, (event) => {
        const position = chipAt(event.target);
        if (position !== undefined) this.point(Number(position), event instanceof PointerEvent ? event : undefined);
      });
    }
    for (const out of ['pointerleave', 'focusout']) this.chips.addEventListener(out, () => this.point(null));
    this.chips.addEventListener('click', (event) => {
      const position = chipAt(event.target);
      if (position !== undefined) this.choose(Number(position), event.shiftKey);
    });
  }

  update(data: HeadData): void {
    this.data = data;
    const { image } = this;
    if (!image) return;
    if (this.picture.src !== image.url) this.picture.src = image.url;
    this.box.setAttribute('aria-label', `Picture of ${image.patches.join(' × ')} patches`);
    this.paint();
  }

  updateMarks(): void {
    this.paint();
  }

  private get image(): ViewDataImage | undefined {
    return this.state.example.image;
  }

  /** Whether the keys of the attention are the patches. */
  private get fits(): boolean {
    const { image } = this;
    const { attention } = this.state;
    return image !== undefined && attention.columns === image.prefix + image.patches[0] * image.patches[1];
  }

  private labels(side: Side): AxisLabels {
    const { example, attention } = this.state;
    return side === 'query' ? queryLabels(example, attention) : keyLabels(example, attention);
  }

  /** What is asked from: kept, or pointed at; as a row or column. */
  private get asked(): { from: Side; index: number; position: number } | null {
    const { locked, from } = this.state.current;
    const { positions } = this.labels(from);
    if (locked !== null) return { from, index: locked, position: positions[locked] as number };
    if (this.pointed === null) return null;
    const index = positions.indexOf(this.pointed);
    return index < 0 ? null : { from, index, position: this.pointed };
  }

  private paint(): void {
    const { data, image, asked } = this;
    const heading = find(this.root, '.text-heading');
    if (!data || !image) return;
    this.box.hidden = !this.fits;
    this.chips.hidden = !this.fits;
    if (!this.fits) {
      const { rows, columns } = this.state.attention;
      heading.textContent = `This attention has ${rows} queries and ${columns} keys: its positions aren't the patches of the picture.`;
      return;
    }
    const { attention } = this.state;
    const values = asked ? lineValues(data, attention, asked.from, asked.index) : undefined;
    const hint = 'click to keep a patch; ⇧ click for who attends to it';
    heading.replaceChildren(
      asked ? element('strong', '', this.heading) : 'Point at a patch to see what it attends to',
      element('span', 'hint', ` — ${hint}${data.pooled ? '; a picture: neighbouring patches share a value' : ''}`),
    );
    this.drawChips(values);
    const { width, height } = this.picture.getBoundingClientRect();
    if (!width || !height) return;
    resize(this.canvas, width, height);
    const context = this.canvas.getContext('2d');
    if (!context) return;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    const [rows, columns] = image.patches;
    // By whole pixels, or lines would show between patches.
    const x = (column: number) => Math.round((column * width) / columns);
    const y = (row: number) => Math.round((row * height) / rows);
    for (const [patch, { colour, opacity }] of (values ? this.shades(values, isDark()) : []).entries()) {
      const [row, column] = [Math.floor(patch / columns), patch % columns];
      context.fillStyle = colour;
      context.globalAlpha = opacity;
      context.fillRect(x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row));
    }
    context.globalAlpha = 1;
    const patch = asked ? asked.position - image.prefix : -1;
    if (patch < 0) return;
    const [row, column] = [Math.floor(patch / columns), patch % columns];
    const frame = [x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row)] as const;
    for (const [colour, thick] of [
      ['#000', 5],
      ['#fff', 2.5],
    ] as const) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      context.strokeRect(...frame);
    }
  }

  /** What lies over each patch: the darker, the less it is attended to. */
  private shades(values: Float32Array, dark: boolean): { colour: string; opacity: number }[] {
    const { image, asked } = this;
    const { attention, current } = this.state;
    const [rows, columns] = image?.patches ?? [0, 0];
    const scale = this.state.scaleOf(attention, current.head);
    return Array.from({ length: rows * columns }, (_, patch) => {
      const at = this.lineIndex((image?.prefix ?? 0) + patch, asked?.from ?? 'query');
      return patchShade(at < 0 ? 0 : (values[at] as number), scale, dark);
    });
  }

  /** Which patch or token is asked, and what; empty where none is. */
  private get heading(): string {
    const { asked } = this;
    return asked ? `${this.nameOf(asked.position)} ${verbOf(asked.from)}` : '';
  }

  /** What is shown, for a figure. */
  get figure(): ImageFigure | undefined {
    const { data, image, asked } = this;
    if (!data || !image || !this.fits) return undefined;
    const values = asked && lineValues(data, this.state.attention, asked.from, asked.index);
    const framed = asked ? asked.position - image.prefix : -1;
    return {
      heading: this.heading,
      url: image.url,
      size: image.size,
      patches: image.patches,
      shades: values ? this.shades(values, false) : [],
      framed: framed < 0 ? undefined : framed,
      tokens: Array.from({ length: image.prefix }, (_, position) => this.tokenText(position, values ?? undefined)),
    };
  }

  /** A token before the patches, with its weight where one is asked. */
  private tokenText(position: number, values: Float32Array | undefined): string {
    const value = values?.[this.lineIndex(position, this.asked?.from ?? 'query')];
    return weighted(this.nameOf(position), value);
  }

  /** The place of a position among the values across. */
  private lineIndex(position: number, from: Side): number {
    return from === 'query' ? position : this.labels('query').positions.indexOf(position);
  }

  private drawChips(values: Float32Array | undefined): void {
    const { image, asked } = this;
    const prefix = image?.prefix ?? 0;
    // The same buttons, for as long as they are as many: one that has the focus would lose it.
    if (this.chips.children.length !== prefix) {
      const chips = Array.from({ length: prefix }, (_, position) => button('chip', '', { position: String(position) }));
      this.chips.replaceChildren(...chips);
    }
    for (const [position, chip] of [...this.chips.children].entries()) {
      const text = this.tokenText(position, values);
      if (chip.textContent !== text) chip.textContent = text;
      chip.setAttribute('aria-pressed', String(asked?.position === position));
    }
  }

  private nameOf(position: number): string {
    const { prefix } = this.image as ViewDataImage;
    return positionName(this.labels('key').text[position] ?? String(position), position < prefix);
  }

  private positionAt(event: MouseEvent): number | null {
    const { image } = this;
    const { left, top, width, height } = this.picture.getBoundingClientRect();
    const [x, y] = [(event.clientX - left) / width, (event.clientY - top) / height];
    if (!image || x < 0 || y < 0 || x >= 1 || y >= 1) return null;
    const [rows, columns] = image.patches;
    return image.prefix + Math.floor(y * rows) * columns + Math.floor(x * columns);
  }

  private point(position: number | null, event?: PointerEvent): void {
    if (position === this.pointed && event && this.tooltip.visible) {
      this.tooltip.moveTo(event.clientX, event.clientY);
      return;
    }
    this.pointed = position;
    this.paint();
    const { asked, data } = this;
    this.onPoint(asked?.from ?? 'query', asked?.index ?? null);
    const { locked } = this.state.current;
    if (position === null || locked === null || !asked || !data) {
      this.tooltip.hide();
      return;
    }
    const { attention } = this.state;
    const across = this.lineIndex(position, asked.from);
    if (across < 0) return;
    const [row, column] = asked.from === 'query' ? [asked.index, across] : [across, asked.index];
    const cell = cellValue(data, attention, row, column);
    const bound = cell.block && !cell.exact && cell.state === 'weight';
    const heading = bound ? `≤ ${formatWeight(cell.weight)}` : describeValue(cell, attention);
    const box = this.box.getBoundingClientRect();
    this.tooltip.show(
      { heading, rows: [[asked.from === 'query' ? 'key' : 'query', this.nameOf(position)]] },
      event?.clientX ?? box.right,
      event?.clientY ?? box.top,
    );
  }

  private choose(position: number | null, whoAttends: boolean): void {
    if (position === null) return;
    const from: Side = whoAttends ? 'key' : 'query';
    const index = this.labels(from).positions.indexOf(position);
    if (index < 0) return;
    const { locked, from: before } = this.state.current;
    this.state.set({ locked: locked === index && before === from ? null : index, from });
  }

  private onKey(event: KeyboardEvent): void {
    const { image } = this;
    if (!image || event.ctrlKey || event.altKey || event.metaKey) return;
    const [rows, columns] = image.patches;
    const step = arrowStep(event.key);
    if (step) {
      const patch = Math.max(0, (this.pointed ?? image.prefix) - image.prefix);
      const row = Math.max(0, Math.min(rows - 1, Math.floor(patch / columns) + (this.pointed === null ? 0 : step[0])));
      const column = Math.max(0, Math.min(columns - 1, (patch % columns) + (this.pointed === null ? 0 : step[1])));
      this.point(image.prefix + row * columns + column);
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.choose(this.pointed, event.shiftKey);
    } else if (event.key === 'Escape') {
      this.state.set({ locked: null });
    } else {
      return;
    }
    event.preventDefault();
  }
}
