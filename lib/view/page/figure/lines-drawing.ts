import type { AxisLabels } from '../axis-labels';
import { lineColour, lineStrength, lineStyle, type Scale, shareOf } from '../colour';
import { shorten, visible } from '../format';
import type { HeadLine } from '../head-lines';
import { type Drawing, INK, MUTED, px, text, textWidth } from './svg';

const PITCH = 18;
const LINES = 300;
const TOP = 24;

export interface LinesFigure {
  queries: AxisLabels;
  keys: AxisLabels;
  shown: { rows: [number, number]; columns: [number, number] };
  /** Weakest first; `head` counts among `heads`. */
  lines: readonly HeadLine[];
  /** How the heads are called, in the order of their colours, and what their weights' strength stands for. */
  heads: readonly { name: string; scale: Scale }[];
  /** Only lines of this query (or key) are strong. */
  focus: { side: 'query' | 'key'; index: number } | null;
  fadeSpecial: boolean;
}

/** Queries on the left, keys on the right, a line between them for each weight. */
export function drawLines({ queries, keys, shown, lines, heads, focus, fadeSpecial }: LinesFigure): Drawing {
  const name = (labels: AxisLabels, i: number) => shorten(visible(labels.text[i] as string), 24);
  const widest = (labels: AxisLabels, [from, to]: [number, number]) => {
    let width = 40;
    for (let i = from; i < to; i++) width = Math.max(width, textWidth(name(labels, i), 12));
    return width;
  };
  const left = widest(queries, shown.rows) + 8;
  const right = widest(keys, shown.columns) + 8;
  const y = (i: number, first: number) => TOP + (i - first + 0.5) * PITCH;
  const parts: string[] = [];
  const tokens = (labels: AxisLabels, [from, to]: [number, number], x: number, side: 'query' | 'key') => {
    const anchor = side === 'query' ? 'end' : 'start';
    parts.push(text(side === 'query' ? 'queries' : 'keys', x, 8, { anchor, size: 10, colour: MUTED }));
    for (let i = from; i < to; i++) {
      const bold = focus?.side === side && focus.index === i;
      const colour = labels.special.has(i) ? MUTED : INK;
      parts.push(text(name(labels, i), x, y(i, from), { anchor, size: 12, bold, colour }));
    }
  };
  for (const line of lines) {
    const { row, column, weight, head } = line;
    const scale = heads[head]?.scale as Scale;
    const asked = !focus || (focus.side === 'query' ? row : column) === focus.index;
    const share = shareOf(weight, scale);
    const { dash } = lineStyle(head, false);
    const colour = lineColour(line, { heads: heads.length, signed: scale.signed, dark: false });
    const faded = fadeSpecial && (queries.special.has(row) || keys.special.has(column));
    const { opacity, width: thick } = lineStrength(share, { asked, focus: focus !== null, faded, count: lines.length });
    const [from, to] = [y(row, shown.rows[0]), y(column, shown.columns[0])];
    const curve = `M${px(left)} ${px(from)}C${px(left + LINES * 0.45)} ${px(from)} ${px(left + LINES * 0.55)} ${px(to)} ${px(left + LINES)} ${px(to)}`;
    const dashes = heads.length > 1 && dash.length ? ` stroke-dasharray="${dash.join(' ')}"` : '';
    parts.push(
      `<path d="${curve}" fill="none" stroke="${faded ? MUTED : colour}" stroke-opacity="${px(opacity)}" stroke-width="${px(thick)}"${dashes}/>`,
    );
  }
  tokens(queries, shown.rows, left - 6, 'query');
  tokens(keys, shown.columns, left + LINES + 6, 'key');
  let width = left + LINES + right;
  const count = Math.max(shown.rows[1] - shown.rows[0], shown.columns[1] - shown.columns[0]);
  if (heads.length > 1) {
    for (const [i, head] of heads.entries()) {
      const { colour, dash } = lineStyle(i, false);
      const at = TOP + (i + 0.5) * PITCH;
      const dashes = dash.length ? ` stroke-dasharray="${dash.join(' ')}"` : '';
      parts.push(`<path d="M${px(width + 8)} ${px(at)}h24" stroke="${colour}" stroke-width="3"${dashes}/>`);
      parts.push(text(head.name, width + 38, at));
    }
    width += 44 + Math.max(...heads.map((head) => textWidth(head.name)));
  }
  return { width, height: TOP + Math.max(count, heads.length) * PITCH + 6, svg: parts.join('') };
}
