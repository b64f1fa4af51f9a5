import { floorOf, type Scale } from '../colour';
import { formatShort } from '../format';
import { scaleLabels, scaleStops } from '../scale-labels';
import { at, type Drawing, FONT, MUTED, px, RULE, text, wrap } from './svg';

const PAD = 14;
const LEGEND = 200;

/** What stands below a drawing. */
export interface Caption {
  /** What is shown, and how: layer, head, kind, scale. */
  text: string;
  /** The colour bars, with what each is for where there are several. */
  scales: readonly { scale: Scale; title?: string }[];
  /** What hatched cells are called, where there are any. */
  masked?: string | undefined;
}

/** The scale of colours in words, for a caption. */
export function describeScale(scale: Scale): string {
  const largest = formatShort(scale.largest);
  if (scale.kind === 'log') return `one logarithmic scale from ${formatShort(floorOf(scale))} to ${largest}`;
  return scale.kind === 'root' ? `square root scale from 0 to ${largest}` : `linear scale from 0 to ${largest}`;
}

/** What lines are, for a caption. */
export function linesNote(threshold: number, scale: Scale): string {
  return `lines for weights of ${formatShort(threshold)} and more, as strong as the weight: ${describeScale(scale)}`;
}

/** What dimming a picture says, for a caption; values with signs have colours. */
export function dimmedNote({ signed }: Scale): string {
  return signed ? '' : ' · the darker, the less weight';
}

/** A figure as an SVG document: text is text, in the reader's own fonts; nothing is loaded. */
export function figureSvg(drawing: Drawing, caption: Caption): string {
  const width = Math.max(drawing.width, 320);
  const parts: string[] = [at(0, 0, drawing.svg)];
  const definitions = [
    `<pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="5" height="5" fill="#fff"/><path d="M0 0V5" stroke="#c3cad1" stroke-width="1.4"/></pattern>`,
  ];
  let y = drawing.height + 14;
  let x = 0;
  for (const [i, { scale, title }] of caption.scales.entries()) {
    const stops = scaleStops(scale, false);
    definitions.push(
      `<linearGradient id="scale-${i}">${stops.map((colour, at) => `<stop offset="${px(at / (stops.length - 1))}" stop-color="${colour}"/>`).join('')}</linearGradient>`,
    );
    if (title) parts.push(text(title, x, y, { size: 10, colour: MUTED }));
    const top = y + (title ? 9 : -5);
    parts.push(`<rect x="${x}" y="${px(top)}" width="${LEGEND}" height="8" fill="url(#scale-${i})" stroke="${RULE}"/>`);
    for (const [at, label] of scaleLabels(scale).entries()) {
      const anchor = (['start', 'middle', 'end'] as const)[at] as 'start';
      parts.push(text(label, x + (at * LEGEND) / 2, top + 17, { size: 10, anchor, colour: MUTED }));
    }
    x += LEGEND + 30;
  }
  if (caption.masked) {
    parts.push(`<rect x="${x}" y="${px(y - 5)}" width="14" height="10" fill="url(#hatch)" stroke="${RULE}"/>`);
    parts.push(text(caption.masked, x + 20, y, { size: 10, colour: MUTED }));
  }
  y += caption.scales.some(({ title }) => title) ? 44 : caption.scales.length || caption.masked ? 30 : 4;
  for (const line of wrap(caption.text, width, 11)) {
    parts.push(text(line, 0, y, { colour: MUTED }));
    y += 15;
  }
  const [wide, high] = [Math.ceil(width + 2 * PAD), Math.ceil(y + 2 * PAD - 6)];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${high}" viewBox="0 0 ${wide} ${high}" font-family="${FONT}">`,
    `<defs>${definitions.join('')}</defs>`,
    `<rect width="${wide}" height="${high}" fill="#fff"/>`,
    at(PAD, PAD, parts.join('')),
    '</svg>',
    '',
  ].join('\n');
}
