import type { AttentionKind } from './view-data';

/**
 * Short labels for attentions, in the same order: the part of the dotted name that tells an attention from the others
 * of its kind ('encoder.layers.3.self_attn' → 'layer 3'). Repeated calls of one module are numbered.
 */
export function attentionLabels(attentions: readonly { name: string; kind: AttentionKind }[]): string[] {
  const labels = new Array<string>(attentions.length);
  for (const kind of new Set(attentions.map((attention) => attention.kind))) {
    const names = [...new Set(attentions.filter((attention) => attention.kind === kind).map(({ name }) => name))];
    const short = new Map(names.map((name) => [name, shorten(name, names)]));
    const calls = new Map<string, number>();
    attentions.forEach(({ name, kind: other }, i) => {
      if (other !== kind) return;
      const call = (calls.get(name) ?? 0) + 1;
      calls.set(name, call);
      const label = short.get(name) as string;
      if (label === '') labels[i] = `#${i}`;
      else labels[i] = call > 1 ? `${label} · call ${call}` : label;
    });
  }
  return labels;
}

function shorten(name: string, names: readonly string[]): string {
  const path = name.split('.');
  const others = names.map((other) => other.split('.'));
  const common = (at: (parts: string[], i: number) => string | undefined): number => {
    let length = 0;
    while (length < path.length && others.every((other) => at(other, length) === at(path, length))) length++;
    return length;
  };
  const begin = common((parts, i) => parts[i]);
  if (begin === path.length) {
    // The only one of its kind: its last numbered part says most.
    const number = path.findLastIndex((part) => /^\d+$/.test(part));
    return number > 0 ? numbered(path, number) : (path.at(-1) ?? '');
  }
  const end = path.length - common((parts, i) => parts[parts.length - 1 - i]);
  const own = path.slice(begin, Math.max(end, begin + 1)).join('.');
  return /^\d+$/.test(own) && begin > 0 ? numbered(path, begin) : own;
}

/** A number after what it counts: 'layers.3' → 'layer 3'; GPT-2's 'h.3', which says nothing, too. */
function numbered(path: readonly string[], at: number): string {
  return `${path[at - 1]?.replace(/^(layer|block|resblock|stage)s$/, '$1').replace(/^h$/, 'layer')} ${path[at]}`;
}
