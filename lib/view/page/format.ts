import { format } from 'd3-format';

/** A weight to four digits after the point; smaller ones, and sums beyond 1, as they are. */
export function formatWeight(weight: number): string {
  if (weight !== 0 && Math.abs(weight) < 0.0001) return format('.3~e')(weight);
  return format('.4f')(weight);
}

/** A token as it is read: white space made visible, quotes around it. */
export function quote(token: string): string {
  return `“${visible(token)}”`;
}

/** A token with its white space and control characters made visible, so that no label is empty. */
export function visible(token: string): string {
  if (token === '') return '∅';
  return token
    .replaceAll('\n', '↵')
    .replaceAll('\t', '⇥')
    .replaceAll(' ', '␣')
    .replace(/\p{Cc}/gu, '�');
}

/** At most so many characters, counted as people do, with an ellipsis for what was cut. */
export function shorten(text: string, length: number): string {
  const characters = [...new Intl.Segmenter().segment(text)];
  if (characters.length <= length) return text;
  return `${characters
    .slice(0, length - 1)
    .map(({ segment }) => segment)
    .join('')}…`;
}
