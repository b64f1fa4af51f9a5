import { textOver } from '../colour';
import { type Drawing, FONT, INK, MUTED, px, text, textWidth } from './svg';

const WIDTH = 640;
const SIZE = 13;
const LINE = 25;
const HIGH = 21;
const ACCENT = '#1f5fa8';

export interface TextFigure {
  /** Whose attention the colours are: '“it” at 8 attends to'; empty where no token is asked. */
  heading: string;
  texts: readonly {
    title: string;
    words: readonly {
      text: string;
      /** Whether a space comes before it, and a new line after it. */
      spaced: boolean;
      ends: boolean;
      special: boolean;
      /** The colour behind it; empty for none. */
      tint: string;
      framed: boolean;
    }[];
  }[];
}

/** The font of running text, to measure it by. */
export const TEXT_FONT = `${SIZE}px ${FONT}`;

/**
 * Running text, each word on the colour of its weight.
 * @param measure How wide a word is, where that can be measured.
 */
export function drawText(
  { heading, texts }: TextFigure,
  measure: (word: string) => number = (word) => textWidth(word, SIZE),
): Drawing {
  const parts: string[] = [];
  let y = 4;
  if (heading) {
    parts.push(text(heading, 0, y + 6, { size: 12, bold: true }));
    y += 22;
  }
  for (const { title, words } of texts) {
    if (title) {
      parts.push(text(title, 0, y + 6, { size: 10, colour: MUTED }));
      y += 18;
    }
    let x = 0;
    for (const { text: word, spaced, ends, special, tint, framed } of words) {
      const width = measure(word) + 3;
      if (spaced && x > 0) x += 5;
      // A full stop stays with its word.
      if (x > 0 && x + width > WIDTH + (spaced ? 0 : 12)) {
        x = 0;
        y += LINE;
      }
      const own = special ? MUTED : INK;
      const frame = framed ? ` stroke="${ACCENT}" stroke-width="1.6"` : '';
      if (tint || framed)
        parts.push(
          `<rect x="${px(x)}" y="${px(y)}" width="${px(width)}" height="${HIGH}" rx="3" fill="${tint || 'none'}"${frame}/>`,
        );
      const colour = tint ? textOver(tint, own) : own;
      // Readers' fonts are wider or narrower than what was reckoned with: middles stay in place.
      parts.push(text(word, x + width / 2, y + HIGH / 2, { size: SIZE, anchor: 'middle', colour }));
      x += width;
      if (ends) {
        x = 0;
        y += LINE;
      }
    }
    y += LINE + 8;
  }
  return { width: WIDTH + 12, height: y, svg: parts.join('') };
}
