import { type AxisLabels, describePosition, verbOf } from '../axis-labels';
import { colourOf, nanColour, type Scale, shareOf } from '../colour';
import { combine, type Side } from '../word-values';
import { type Word, wordLabel } from '../words';
import type { TextFigure } from './text-drawing';

/** A running text in the colours of what one of its words attends to, or who attends to it. */
export function textFigure({
  labels,
  words,
  isOneText,
  asked,
  values,
  scale,
}: {
  labels: Record<Side, AxisLabels>;
  words: Record<Side, readonly Word[]>;
  /** Whether queries and keys are the same tokens. */
  isOneText: boolean;
  asked: { from: Side; word: Word } | null;
  /** The weights of the word that is asked. */
  values: Float32Array | undefined;
  scale: Scale;
}): TextFigure {
  const tint = (side: Side, word: Word) => {
    if (!asked || !values || (!isOneText && side === asked.from)) return '';
    const value = combine(values, word, asked.from);
    if (Number.isNaN(value)) return nanColour(false);
    return shareOf(value, scale) > 0 ? colourOf(value, scale, false) : '';
  };
  return {
    heading: asked ? `${describePosition(labels[asked.from], asked.word.from)} ${verbOf(asked.from)}` : '',
    texts: (isOneText ? (['query'] as const) : (['query', 'key'] as const)).map((side) => ({
      title: isOneText ? '' : side === 'query' ? 'Queries' : 'Keys',
      words: words[side].map((word) => ({
        text: wordLabel(word, labels[side]),
        spaced: word.spaced,
        ends: /\n$/.test(word.text),
        special: labels[side].special.has(word.from),
        tint: tint(side, word),
        framed: asked !== null && asked.word.from === word.from && (isOneText || side === asked.from),
      })),
    })),
  };
}
