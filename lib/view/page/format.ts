import { format } from 'd3-format';

/** A weight to four digits after the point; smaller ones, and sums beyond 1, as they are. */
export function formatWeight(weight: number): string {
  if (Number.isNaN(weight)) return 'NaN';
  if (weight !== 0 && Math.abs(weight) < 0.001) return format('.3~g')(weight);
  return format('.4f')(weight);
}

/** A weight that may be off: no more digits than it has, and no fewer. */
export function formatApproximate(weight: number): string {
  return format('.3~g')(weight);
}

/** A number of the legend: as short as it can be. */
export function formatShort(value: number): string {
  if (value !== 0 && Math.abs(value) < 1e-4) return format('.1~e')(value);
  return format('.2~r')(value);
}

export function percent(share: number): string {
  return `${format(share < 0.1 && share > 0 ? '.1f' : '.0f')(100 * share)} %`;
}

/** How far a number may be off: rounded up to hundredths of a percent, in two digits. */
export function percentOff(share: number): string {
  return `${Number((Math.ceil(share * 10_000 - 0.05) / 100).toPrecision(2))} %`;
}

/** A token as it is read: white space made visible, quotes around it. */
export function quote(token: string): string {
  return `“${shorten(visible(token), 60)}”`;
}

/** White space and characters that show nothing, or turn the text around, by something that can be seen. */
const NAMED: Record<string, string> = {
  '\n': '↵',
  '\r': '␍',
  '\t': '⇥',
  ' ': '␣',
  '\u00a0': '⍽',
  '\u200b': '⟨ZWSP⟩',
  '\u200c': '⟨ZWNJ⟩',
  '\u200d': '⟨ZWJ⟩',
  '\u200e': '⟨LRM⟩',
  '\u200f': '⟨RLM⟩',
  '\u202a': '⟨LRE⟩',
  '\u202b': '⟨RLE⟩',
  '\u202c': '⟨PDF⟩',
  '\u202d': '⟨LRO⟩',
  '\u202e': '⟨RLO⟩',
  '\u2060': '⟨WJ⟩',
  '\u2066': '⟨LRI⟩',
  '\u2067': '⟨RLI⟩',
  '\u2068': '⟨FSI⟩',
  '\u2069': '⟨PDI⟩',
  '\ufeff': '⟨BOM⟩',
  '\u00ad': '⟨SHY⟩',
};

/** White space, controls, marks of direction, and whatever else has no picture of its own. */
const UNSEEN = /[\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]/gu;

/** A token with its white space, control and direction characters made visible, so that no label is empty or turned. */
export function visible(token: string): string {
  if (token === '') return '∅';
  // Joiners and selectors among pictographs are part of one character that can be seen.
  const keeps = /\p{Extended_Pictographic}|[\d#*]\ufe0f/u.test(token);
  const shown = token.replace(UNSEEN, (character) => {
    if (keeps && (character === '\u200d' || character === '\ufe0f')) return character;
    const code = character.codePointAt(0) as number;
    return NAMED[character] ?? (code < 32 ? '�' : `⟨U+${code.toString(16).toUpperCase().padStart(4, '0')}⟩`);
  });
  // An accent alone would stand on what comes before it.
  return shown.replace(/^\p{M}/u, '◌$&');
}

/** Browsers before 2024 may lack it; their characters are code points. */
const segmenter = 'Segmenter' in Intl ? new Intl.Segmenter() : undefined;

/** At most so many characters, counted as people do, with an ellipsis for what was cut. */
export function shorten(text: string, length: number): string {
  if (text.length <= length) return text;
  // No more than the beginning is looked at: a token may have any length.
  const start = text.slice(0, 20 * length);
  const characters = segmenter ? Array.from(segmenter.segment(start), ({ segment }) => segment) : [...start];
  if (characters.length <= length && text.length <= 20 * length) return text;
  return `${characters.slice(0, length - 1).join('')}…`;
}
