import type { AttentionKind, HeadStats, Pattern, ViewDataAttention } from '../view-data';
import { percent } from './format';

/** In the order in which groups are shown: what each is called, and its rule (see `scanHead`). */
export const PATTERNS: Record<Pattern, { title: string; rule: string }> = {
  previous: { title: 'Previous token', rule: 'more than a quarter of the weight on the token before' },
  next: { title: 'Next token', rule: 'more than a quarter of the weight on the token after' },
  self: { title: 'Itself', rule: 'more than a quarter of the weight on the token itself' },
  local: { title: 'Local window', rule: 'more than 45 % of the weight within 8 tokens' },
  special: { title: 'First or special token', rule: 'more than half of the weight on the first or special tokens' },
  content: { title: 'By content', rule: 'none of the other rules: look at the tokens' },
  broad: { title: 'Broad', rule: 'entropy above 86 % of its largest' },
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
