import type { AttentionKind, HeadStats, Pattern, ViewDataAttention, ViewDataExample } from '../view-data';
import { percent } from './format';
import { matrixCount } from './state';

/** In the order in which groups are shown: what each is called, in a word too, and its rule (see `scanHead`). */
export const PATTERNS: Record<Pattern, { title: string; word: string; rule: string }> = {
  previous: {
    title: 'Previous token',
    word: 'previous',
    rule: 'more than a quarter of the weight on the token before',
  },
  next: { title: 'Next token', word: 'next', rule: 'more than a quarter of the weight on the token after' },
  self: { title: 'Itself', word: 'itself', rule: 'more than a quarter of the weight on the token itself' },
  local: { title: 'Local window', word: 'local', rule: 'more than 45 % of the weight within 8 tokens' },
  special: {
    title: 'First or special token',
    word: 'special',
    rule: 'more than half of the weight on the first or special tokens',
  },
  content: {
    title: 'By content',
    word: 'content',
    rule: 'none of the other rules: look at the tokens; the number is the entropy',
  },
  broad: { title: 'Broad', word: 'broad', rule: 'entropy above 86 % of its largest' },
};

export const PATTERN_ORDER = Object.keys(PATTERNS) as Pattern[];

export const KINDS: readonly AttentionKind[] = ['encoder', 'decoder', 'cross', 'derived'];

/** What an attention is, in words; where an example has one kind only, there is nothing to tell apart. */
export function kindTitle(kind: AttentionKind, alone: boolean): string {
  if (kind === 'cross') return 'Cross-attention';
  if (kind === 'derived') return 'Computed from attention';
  if (alone) return 'Self-attention';
  return kind === 'encoder' ? 'Encoder self-attention' : 'Decoder self-attention';
}

/** Whether an example has attention of one kind only. */
export function isAlone(attentions: readonly ViewDataAttention[]): boolean {
  return new Set(attentions.map(({ kind }) => kind).filter((kind) => kind !== 'derived')).size === 1;
}

export function describeKind(attention: ViewDataAttention, all: readonly ViewDataAttention[]): string {
  return kindTitle(attention.kind, isAlone(all));
}

/** A head's pattern and what is known of it, in a line. */
export function describeHead({
  pattern,
  special,
  entropy,
  previous,
  next,
  self,
  local,
}: HeadStats): [string, string][] {
  const rows: [string, string][] = [['pattern', PATTERNS[pattern].title.toLowerCase()]];
  if (previous + next + self > 0) {
    rows.push(
      ['token before, itself, after', [previous, self, next].map(percent).join(', ')],
      ['within 8', percent(local)],
    );
  }
  rows.push(['first or special', percent(special)]);
  if (entropy >= 0) rows.push(['entropy', `${percent(entropy)} of its largest`]);
  return rows;
}

/** How much there is to see: '6 layers × 12 heads · 512 tokens'. */
export function describeExtent({ attentions }: ViewDataExample): string {
  const own = attentions.filter(({ kind }) => kind !== 'derived');
  const counted = (count: number, noun: string) => `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
  const heads = [...new Set(own.map(matrixCount))];
  const averaged = own.every((attention) => attention.averaged);
  const all = own.reduce((sum, attention) => sum + matrixCount(attention), 0);
  const each = averaged
    ? ', heads averaged'
    : heads.length === 1
      ? ` × ${counted(heads[0] as number, 'head')}`
      : `, ${counted(all, 'head')}`;
  const isLayers = new Set(own.map(({ kind }) => kind)).size === 1;
  const lengths = [...new Set(own.map(({ shown: { columns } }) => columns[1] - columns[0]))].sort((a, b) => b - a);
  const noun = own.every(({ keyTokens }) => keyTokens !== undefined) ? 'token' : 'position';
  const some =
    lengths.length > 2
      ? `up to ${counted(lengths[0] as number, noun)}`
      : lengths
          .map((length, i) => (i === lengths.length - 1 ? counted(length, noun) : length.toLocaleString('en')))
          .join(' and ');
  return `${counted(own.length, isLayers ? 'layer' : 'attention')}${each} · ${some}`;
}
