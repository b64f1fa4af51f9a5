import type { Scale } from './colour';
import type { CompareView } from './compare-view';
import { element, find, saveFile } from './dom';
import { type Caption, describeScale, dimmedNote, figureSvg, linesNote } from './figure/figure';
import { drawImage } from './figure/image-drawing';
import { drawLines } from './figure/lines-drawing';
import { cellsNote, drawMatrix, hasMasked, type MatrixFigure } from './figure/matrix-drawing';
import { beside, type Drawing } from './figure/svg';
import { drawText, TEXT_FONT } from './figure/text-drawing';
import { drawTiles } from './figure/tiles-drawing';
import { maskedIn, maskedName } from './head-values';
import type { HeadsView } from './heads-view';
import type { ImageView } from './image-view';
import type { MatrixView } from './matrix-view';
import type { ModelView } from './model-view';
import { describeExtent, describeKind } from './patterns';
import { headName, type State } from './state';
import type { TextView } from './text-view';

interface Views {
  model: ModelView;
  heads: HeadsView;
  matrix: MatrixView;
  text: TextView;
  image: ImageView;
  compare: CompareView;
}

/** The menu of figures: what is shown, for papers and slides. Always in light colours. */
export class Exports {
  constructor(
    private readonly root: HTMLDetailsElement,
    private readonly state: State,
    private readonly views: Views,
    private readonly live: HTMLElement,
  ) {
    root.addEventListener('click', (event) => {
      const { format, scale } = (event.target as HTMLElement).dataset;
      if (!format) return;
      void this.write(format, Number(scale ?? 1));
      this.close();
    });
    root.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.close();
    });
    document.addEventListener('pointerdown', (event) => {
      if (!root.contains(event.target as Node)) root.open = false;
    });
  }

  private close(): void {
    if (!this.root.open) return;
    this.root.open = false;
    find(this.root, 'summary').focus();
  }

  private async write(format: string, scale: number): Promise<void> {
    const svg = this.svg();
    if (!svg) return;
    const name = this.fileName();
    if (format === 'svg') saveFile(new Blob([svg], { type: 'image/svg+xml' }), `${name}.svg`);
    else saveFile(await toPng(svg, scale), `${name}.png`);
    this.live.textContent = `Saved ${name}.${format}`;
  }

  /** The figure of the view that is shown; where it has none of its own, the head's matrix. */
  private svg(): string | undefined {
    const { state, views } = this;
    const { view, head } = state.current;
    const { attention, example } = state;
    const about = `${example.title ? `${example.title}: ` : ''}${attention.label}`;
    const kind = describeKind(attention, example.attentions).toLowerCase();
    if (view === 'model') {
      const scale = state.scaleOf(attention, head);
      const each =
        scale.kind === 'root' ? 'square root scale from 0 to the largest weight of each head' : describeScale(scale);
      const text = `${example.title ? `${example.title}: ` : ''}${describeExtent(example)} · ${each}`;
      const masked = maskedIn(example.attentions);
      return figureSvg(drawTiles(views.model.figure, encode), {
        text,
        scales: scale.kind === 'root' ? [] : [{ scale }],
        masked,
      });
    }
    if (view === 'heads') {
      const figure = views.heads.figure;
      if (!figure) return undefined;
      const names = figure.heads.map(({ name }) => name).join(', ');
      const scale = figure.heads[0]?.scale as Scale;
      const text = `${about}, ${names} · ${kind} · ${linesNote(state.threshold, scale)}`;
      return figureSvg(drawLines(figure), { text, scales: [] });
    }
    if (view === 'compare') return this.compared(views.compare.figures, kind);
    if (view === 'text' || view === 'image') {
      const scale = state.scaleOf(attention, head);
      const text = `${about}, ${headName(attention, head)} · ${kind} · ${describeScale(scale)}`;
      if (view === 'text') return figureSvg(drawText(views.text.figure, measured()), { text, scales: [{ scale }] });
      const shown = views.image.figure;
      return shown && figureSvg(drawImage(shown), { text: text + dimmedNote(scale), scales: [] });
    }
    const figure = views.matrix.figure;
    if (!figure) return undefined;
    const text = [`${about}, ${headName(attention, head)}`, kind, describeScale(figure.scale), cellsNote(figure)];
    const caption: Caption = {
      text: text.filter(Boolean).join(' · '),
      scales: [{ scale: figure.scale }],
      masked: hasMasked(figure) ? maskedName(attention) : undefined,
    };
    return figureSvg(drawMatrix(figure, encode), caption);
  }

  private compared(figures: readonly MatrixFigure[], kind: string): string | undefined {
    const [a, b, difference] = figures;
    if (!a || !b) return undefined;
    const drawings: Drawing[] = figures.map((figure) => drawMatrix(figure, encode));
    const scales: { scale: Scale; title?: string }[] = [{ scale: a.scale, title: 'A and B' }];
    if (difference) scales.push({ scale: difference.scale, title: 'A − B: less, more in A' });
    const parts = [`${a.title}; ${b.title}`, kind, describeScale(a.scale), cellsNote(a)];
    const text = parts.filter(Boolean).join(' · ');
    return figureSvg(beside(drawings, 24), { text, scales, masked: figures.some(hasMasked) ? 'masked' : undefined });
  }

  private fileName(): string {
    const { current, attention } = this.state;
    const parts = current.view === 'model' ? ['heads'] : [attention.label, headName(attention, current.head)];
    return [current.view, ...parts].join(' ').replace(/[^\p{L}\p{N}.]+/gu, '-');
  }
}

/** How wide words are in the font of running text. */
function measured(): ((word: string) => number) | undefined {
  const context = element('canvas').getContext('2d');
  if (!context) return undefined;
  context.font = TEXT_FONT;
  return (word) => context.measureText(word).width;
}

/** A picture through a canvas. */
function encode(pixels: Uint32Array, columns: number, rows: number): string {
  const canvas = element('canvas');
  canvas.width = columns;
  canvas.height = rows;
  const bytes = new Uint8ClampedArray(pixels.buffer as ArrayBuffer, pixels.byteOffset, pixels.byteLength);
  canvas.getContext('2d')?.putImageData(new ImageData(bytes, columns, rows), 0, 0);
  return canvas.toDataURL('image/png');
}

/** Draws an SVG into a PNG, so many pixels a unit. */
async function toPng(svg: string, scale: number): Promise<Blob> {
  const image = new Image();
  const url = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }));
  try {
    image.src = url;
    await image.decode();
    const canvas = element('canvas');
    canvas.width = image.naturalWidth * scale;
    canvas.height = image.naturalHeight * scale;
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('the browser made no PNG'))), 'image/png');
    });
  } finally {
    URL.revokeObjectURL(url);
  }
}
