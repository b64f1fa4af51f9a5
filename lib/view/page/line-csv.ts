import type { ViewDataAttention } from '../view-data';
import type { AxisLabels } from './axis-labels';
import { cellValue } from './head-values';
import type { HeadData } from './store';

/**
 * A row (or a column) as CSV: position, token, weight and by how much it may be off, as a share of it. What is no weight
 * says so.
 * @param others What the positions across are called.
 */
export function lineCsv(
  data: Pick<HeadData, 'matrix' | 'pooled' | 'top'>,
  attention: Pick<ViewDataAttention, 'rows' | 'columns'>,
  from: 'query' | 'key',
  index: number,
  others: AxisLabels,
): string {
  const lines = others.positions.map((position, i) => {
    const [row, column] = from === 'query' ? [index, i] : [i, index];
    const { state, weight, exact, off } = cellValue(data, attention, row, column);
    const value = state === 'weight' ? String(weight) : state === 'zero' ? '0' : state;
    const isKnown = exact || state === 'masked';
    const error = isKnown ? '0' : (state === 'weight' ? off / Math.abs(weight) : data.matrix.error).toFixed(5);
    return [position, others.areTokens ? csvField(others.text[i] as string) : '', value, error].join(',');
  });
  return ['position,token,weight,relative_error', ...lines, ''].join('\n');
}

function csvField(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}
