import { colourOf, nanColour, type Scale, shareOf } from './colour';
import { formatWeight, shorten, visible } from './format';

/** How dark a patch gets that isn't looked at. */
const DIMMED = 0.84;

/** The colours of a white picture from where it is dimmed to where it isn't. */
export const DIMMED_STOPS = [1 - DIMMED, 1].map(
  (light) => `rgb(${[light, light, light].map((part) => Math.round(255 * part)).join(', ')})`,
);

/** What lies over a patch: the darker, the less it is attended to; signed values have the colour of their sign. */
export function patchShade(value: number, scale: Scale, dark: boolean): { colour: string; opacity: number } {
  if (Number.isNaN(value)) return { colour: nanColour(dark), opacity: 0.8 };
  const share = shareOf(value, scale);
  if (scale.signed) return { colour: colourOf(value, scale, dark), opacity: 0.25 + 0.6 * share };
  return { colour: '#000', opacity: DIMMED * (1 - share) };
}

/** How a position of a picture is called: 'patch 3,5', or 'token [CLS]' for one before the patches. */
export function positionName(label: string, isToken: boolean): string {
  return `${isToken ? 'token' : 'patch'} ${shorten(visible(label), 24)}`;
}

/** The same with its weight, where one is known. */
export function weighted(name: string, weight: number | undefined): string {
  return weight === undefined ? name : `${name} ${formatWeight(weight)}`;
}
