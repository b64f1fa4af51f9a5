import { isSpecial } from '../../axis-tokens';
import type { FigureModule, HeadFigureInput } from '../../figure-input';
import { type AxisLabels, labelsOf } from '../axis-labels';
import type { Scale } from '../colour';
import { lineCsv } from '../line-csv';
import { Matrix } from '../matrix';
import { TopKeys } from '../store';
import { describeScale, figureSvg } from './figure';
import { cellsNote, drawMatrix, hasMasked, type MatrixFigure } from './matrix-drawing';

// What is here makes figures outside of the page; nothing of it may need a document.

export const headFigure: FigureModule['headFigure'] = (input) => {
  const { weights, rows, columns, caption, encode } = input;
  let largest = 0;
  let signed = false;
  for (const weight of weights) {
    if (weight < 0) signed = true;
    const size = Math.abs(weight);
    if (size > largest && size < Number.POSITIVE_INFINITY) largest = size;
  }
  const share = largest <= 1.0001 && !signed ? 1 : largest;
  const scale: Scale = { kind: input.scale, signed, largest: input.scale === 'root' ? largest || 1 : share };
  const figure: MatrixFigure = {
    matrix: Matrix.fromFloats(rows, columns, weights, { scale: share, signed }),
    rows,
    columns,
    shown: { rows: [0, rows], columns: [0, columns] },
    ...axes(input),
    scale,
  };
  const parts = [caption, describeScale(scale), cellsNote(figure)];
  const text = parts.filter(Boolean).join(' · ');
  return figureSvg(drawMatrix(figure, encode), { text, scales: [{ scale }], masked: hasMasked(figure) });
};

export const rowCsv: FigureModule['rowCsv'] = (input, row) => {
  const { weights, rows, columns } = input;
  const matrix = Matrix.fromFloats(rows, columns, weights, { scale: 1, signed: weights.some((weight) => weight < 0) });
  const data = { matrix, pooled: false, top: new TopKeys([]) };
  return lineCsv(data, { rows, columns }, 'query', row, axes(input).keys);
};

function axes(input: Omit<HeadFigureInput, 'scale' | 'caption' | 'encode'>): { queries: AxisLabels; keys: AxisLabels } {
  const { queries, queryTokens, keyTokens, columns } = input;
  const special = (tokens: readonly string[] = []) => tokens.flatMap((token, i) => (isSpecial(token) ? [i] : []));
  return {
    queries: labelsOf([...queries], queryTokens, special(queryTokens), {}),
    keys: labelsOf(
      Array.from({ length: columns }, (_, i) => i),
      keyTokens,
      special(keyTokens),
      {},
    ),
  };
}
