import { join } from 'node:path';
import { TorchError } from '../core/errors';
import { optionalPackage } from '../core/optional-package';
import type { FigureModule, HeadFigureInput, RowInput } from './figure-input';
import { PAGE } from './html';
import { encodePng } from './png';

/** One head as an SVG document: of a matrix, cells are vectors up to 64 × 64, above that an embedded picture. */
export function renderHeadFigure(input: Omit<HeadFigureInput, 'encode'>): string {
  const encode: HeadFigureInput['encode'] = (pixels, columns, rows) =>
    `data:image/png;base64,${encodePng(pixels, columns, rows).toString('base64')}`;
  return figures().headFigure({ ...input, encode });
}

/** One row of a head as CSV. */
export function renderRowCsv(input: RowInput, row: number): string {
  return figures().rowCsv(input, row);
}

/**
 * An SVG as a PNG, drawn by resvg.
 * @param scale Pixels a unit, from 1 to 4.
 * @throws {TorchError} ERR_MISSING_PACKAGE where resvg isn't installed, which is the user's choice.
 */
export async function renderPng(svg: string, scale: number): Promise<Buffer> {
  const resvg = optionalPackage<typeof import('@resvg/resvg-js')>(
    '@resvg/resvg-js',
    'which draws PNGs',
    '; or write an SVG',
  );
  const family = sansSerif(resvg);
  const image = await resvg.renderAsync(svg, {
    fitTo: { mode: 'zoom', value: scale },
    font: { loadSystemFonts: true, ...(family && { defaultFontFamily: family }) },
  });
  return image.asPng();
}

/** Fonts without serifs that systems have. */
const SANS_SERIF = ['Noto Sans', 'DejaVu Sans', 'Segoe UI', 'Helvetica', 'Arial', 'Liberation Sans'];

/**
 * The first of these that is there. resvg looks for the first family of a list alone, and draws what it doesn't find with a
 * default, which has serifs on many systems. What is drawn as wide as in a family that nobody has isn't there.
 */
function sansSerif({ Resvg }: typeof import('@resvg/resvg-js')): string | undefined {
  const widthIn = (family: string) => {
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="900" height="60" font-family="${family}"><text x="1" y="40" font-size="40">Attention, illicit 0123</text></svg>`;
    return new Resvg(svg, { font: { loadSystemFonts: true } }).getBBox()?.width;
  };
  const none = widthIn('no such family');
  return SANS_SERIF.find((family) => widthIn(family) !== none);
}

function figures(): FigureModule {
  try {
    return require(join(PAGE, 'figure.js')) as FigureModule;
  } catch (error) {
    const message = "Expected the page's figure.js beside the compiled package but it can't be read; run the build";
    throw new TorchError('ERR_INVALID_ARGUMENT', message, { cause: error });
  }
}
