import type { AxisLabels } from './axis-labels';
import { shorten, visible } from './format';

/** Pieces of one word: [from, to) of the labels, and the text as it is read. */
export interface Word {
  from: number;
  to: number;
  text: string;
  /** Whether a space comes before it. */
  spaced: boolean;
}

/** A word as it is written: what shows nothing made visible, long ones shortened. */
export function wordLabel({ text }: Word, { areTokens }: Pick<AxisLabels, 'areTokens'>): string {
  return areTokens ? shorten(visible(text), 80) : text;
}

type Style = 'wordpiece' | 'leading-space' | 'characters' | 'words';

/** How a tokenizer marks the pieces of a word, as the tokens show it. */
function styleOf({ text, special, areTokens }: AxisLabels): Style {
  if (!areTokens) return 'words';
  const plain = text.filter((_, i) => !special.has(i));
  if (plain.some((token) => /^##./.test(token))) return 'wordpiece';
  if (plain.filter((token) => /^[ ▁Ġ]./.test(token)).length > plain.length / 8) return 'leading-space';
  if (plain.length > 3 && plain.every((token) => [...token].length <= 1)) return 'characters';
  return 'words';
}

/** Tokens as running text: where spaces go, and, merged, which pieces make one word. */
export function toWords(labels: AxisLabels, merge: boolean): Word[] {
  const style = styleOf(labels);
  const words: Word[] = [];
  labels.text.forEach((token, i) => {
    const special = labels.special.has(i);
    const continues = !special && i > 0 && !labels.special.has(i - 1) && isContinuation(token, style);
    const text = style === 'wordpiece' ? token.replace(/^##(?=.)/, '') : token.replace(/^[ ▁Ġ](?=.)/, '');
    const before = words.at(-1);
    if (continues && merge && before && style !== 'characters') {
      before.to = i + 1;
      before.text += text;
      return;
    }
    const spaced = i > 0 && !continues && !(style !== 'leading-space' && /^[.,;:!?)\]’'”]+$/.test(token) && !special);
    words.push({ from: i, to: i + 1, text, spaced: style === 'characters' ? special : spaced });
  });
  return words;
}

/** Whether any word is of several pieces. */
export function hasPieces(labels: AxisLabels): boolean {
  return toWords(labels, true).length < labels.text.length;
}

function isContinuation(token: string, style: Style): boolean {
  if (style === 'wordpiece') return /^##./.test(token);
  if (style === 'leading-space') return !/^[\s▁Ġ]/.test(token);
  return style === 'characters';
}
