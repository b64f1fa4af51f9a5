import type { HeadStats, ViewDataExample } from '../view-data';
import { type AxisLabels, queryLabels } from './axis-labels';
import { shorten, visible } from './format';
import { PATTERNS } from './patterns';
import { headName, type Selection, type ViewName } from './state';

/** Something that can be gone to. */
export interface Match {
  kind: 'view' | 'example' | 'head' | 'token';
  text: string;
  /** What tells it from others: a pattern, a position. */
  note: string;
  change: Partial<Selection>;
}

/** Matches that are listed; more are counted. */
const MOST = 50;
const TEXT_CHARACTERS = 60;

/** What there is to be found. */
export interface Searched {
  example: ViewDataExample;
  examples: readonly ViewDataExample[];
  current: Selection;
  /** Views that can be opened, as they are called. */
  views: readonly { view: ViewName; title: string }[];
}

/**
 * What a search finds: views and examples by their titles, heads by layer, number (`3.5`) and pattern, tokens by their text
 * or position. The nearest first: the same, what begins alike, what has it somewhere. Nothing asked: views and examples.
 */
export function findMatches(searched: Searched, query: string): { matches: Match[]; count: number } {
  const asked = normalize(query);
  const places: Match[] = [...viewMatches(searched), ...exampleMatches(searched)];
  if (asked === '') return { matches: places.slice(0, MOST), count: places.length };
  const found: { match: Match; rank: number }[] = [];
  const add = (match: Match, names: readonly string[], alike = '') => {
    const rank = rankOf(asked, names, alike);
    if (rank !== undefined) found.push({ match, rank });
  };
  for (const place of places) add(place, [normalize(place.text)]);
  for (const { match, names, alike } of headMatches(searched)) add(match, names, alike);
  for (const { match, names } of tokenMatches(searched)) add(match, names);
  // Of equal rank they stay as they are: views, examples, heads, tokens in the order of the text.
  found.sort((a, b) => a.rank - b.rank);
  return { matches: found.slice(0, MOST).map(({ match }) => match), count: found.length };
}

function normalize(text: string): string {
  return text.normalize('NFKC').toLowerCase().trim().replace(/\s+/g, ' ');
}

/** 0: the same; 1: begins with what is asked; 2: has all of its words; undefined: has not. */
function rankOf(asked: string, names: readonly string[], alike: string): number | undefined {
  if (names.includes(asked)) return 0;
  if (names.some((name) => name.startsWith(asked))) return 1;
  const all = [...names, alike].join(' ');
  return asked.split(' ').every((word) => all.includes(word)) ? 2 : undefined;
}

function viewMatches({ views }: Searched): Match[] {
  return views.map(({ view, title }) => ({ kind: 'view', text: title, note: '', change: { view } }));
}

function exampleMatches({ examples }: Searched): Match[] {
  if (examples.length < 2) return [];
  return examples.map(({ title }, example) => ({
    kind: 'example',
    text: shorten(visible(title), TEXT_CHARACTERS),
    note: '',
    change: { example },
  }));
}

function* headMatches({ example, current }: Searched): Generator<{ match: Match; names: string[]; alike: string }> {
  const { attentions } = example;
  const view = current.view === 'model' ? { view: 'matrix' as const } : {};
  for (const [index, attention] of attentions.entries()) {
    for (let head = 0; head < attention.stats.length; head++) {
      const { pattern } = attention.stats[head] as HeadStats;
      const title = attention.kind === 'derived' ? '' : PATTERNS[pattern].title;
      const name = headName(attention, head);
      const layer = /(\d+)$/.exec(attention.label)?.[1] ?? attention.label;
      yield {
        match: {
          kind: 'head',
          text: `${attention.label}, ${name}`,
          note: title.toLowerCase(),
          change: { ...view, attention: index, head, heads: [] },
        },
        names: [normalize(`${attention.label} ${name}`), `${layer}.${attention.heads[head] ?? 'mean'}`],
        alike: normalize(`${title} ${attention.name}`),
      };
    }
  }
}

function* tokenMatches({ example, current }: Searched): Generator<{ match: Match; names: string[] }> {
  const attention = example.attentions[current.attention];
  if (!attention) return;
  const labels: AxisLabels = queryLabels(example, attention);
  const { view: now } = current;
  const view = now === 'model' ? { view: labels.areTokens ? ('text' as const) : ('matrix' as const) } : {};
  for (const [row, token] of labels.text.entries()) {
    const position = labels.positions[row] as number;
    const change = { ...view, locked: row, from: 'query' as const };
    const plain = normalize(token.replace(/^(##|[▁Ġ])(?=.)/u, ''));
    const source = labels.sources[position];
    const text = labels.areTokens ? shorten(visible(token), TEXT_CHARACTERS) : `position ${position}`;
    yield {
      match: { kind: 'token', text, note: labels.areTokens ? `at ${position}` : '', change },
      names: [plain, String(position), ...(source === undefined ? [] : [normalize(source)])],
    };
  }
}
