import type { ViewDataAttention, ViewDataExample } from '../view-data';
import { describeKind, isAlone } from './patterns';
import { headName } from './state';

/** The attentions of an example, to choose from. */
export function layerOptions({ attentions }: ViewDataExample): HTMLOptionElement[] {
  const kinds = !isAlone(attentions);
  return attentions.map((attention, i) => {
    const kind = kinds && attention.kind !== 'derived' ? ` (${describeKind(attention, attentions).toLowerCase()})` : '';
    return new Option(`${attention.label}${kind}`, String(i));
  });
}

/** The heads of an attention, and their mean. */
export function headOptions(attention: ViewDataAttention): HTMLOptionElement[] {
  return attention.stats.map((_, i) => new Option(headName(attention, i), String(i)));
}
