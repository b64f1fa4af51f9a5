/** A part of a figure, its upper left corner at 0, 0. */
export interface Drawing {
  width: number;
  height: number;
  svg: string;
}

export const INK = '#1d2329';
export const MUTED = '#5c6670';
export const RULE = '#dfe3e7';
export const FONT =
  "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif";

/** Text of any origin as XML: no markup, and none of the characters that XML has no way to write. */
export function escapeXml(text: string): string {
  return text
    .replace(/[^\t\n\r\P{Cc}]|\p{Cs}|[\ufffe\uffff]/gu, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/** A number as short as a hundredth of a pixel lets it be. */
export function px(value: number): string {
  return String(Math.round(value * 100) / 100);
}

export interface TextStyle {
  size?: number;
  anchor?: 'start' | 'middle' | 'end';
  colour?: string;
  bold?: boolean;
  /** Degrees around its own point. */
  turn?: number;
}

/** A line of text whose middle is at the height `y`. */
export function text(content: string, x: number, y: number, style: TextStyle = {}): string {
  const { size = 11, anchor = 'start', colour = INK, bold = false, turn = 0 } = style;
  const attributes = [
    `x="${px(x)}" y="${px(y)}" font-size="${size}" fill="${colour}" dy="0.35em"`,
    anchor === 'start' ? '' : `text-anchor="${anchor}"`,
    bold ? 'font-weight="650"' : '',
    turn ? `transform="rotate(${turn} ${px(x)} ${px(y)})"` : '',
  ];
  // Spaces at the ends of tokens, and several in a row, stay.
  return `<text ${attributes.filter(Boolean).join(' ')} xml:space="preserve">${escapeXml(content)}</text>`;
}

/** About how wide a text is: figures are also made where nothing can measure it. */
export function textWidth(content: string, size = 11): number {
  let width = 0;
  for (const character of content) width += ADVANCES.find(([characters]) => characters.test(character))?.[1] ?? 0.6;
  return width * size;
}

/** How wide characters are, as shares of the size of the font: of fonts without serifs, rather too wide than too narrow. */
const ADVANCES: readonly (readonly [RegExp, number])[] = [
  [/[iljtfr.,:;'’!|()[\] -]/, 0.38],
  [/[mwMW@%—…]/, 0.95],
  [/\p{M}/u, 0],
  [/[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}\p{Extended_Pictographic}\uff00-\uff60]/u, 1],
  [/\p{Lu}/u, 0.7],
];

/** A text in lines that are no wider than `width`. */
export function wrap(content: string, width: number, size: number): string[] {
  const lines: string[] = [];
  for (const word of content.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && textWidth(`${last} ${word}`, size) <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** A group moved to a place. */
export function at(x: number, y: number, svg: string): string {
  return `<g transform="translate(${px(x)} ${px(y)})">${svg}</g>`;
}

/** Drawings side by side, aligned at the top. */
export function beside(drawings: readonly Drawing[], gap: number): Drawing {
  let width = 0;
  const parts = drawings.map((drawing) => {
    const part = at(width, 0, drawing.svg);
    width += drawing.width + gap;
    return part;
  });
  return { width: width - gap, height: Math.max(...drawings.map(({ height }) => height)), svg: parts.join('') };
}
