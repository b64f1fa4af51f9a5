import { colourOf, floorOf, type Scale, weightAt } from './colour';
import { formatShort } from './format';

const STOPS = 16;

/** The numbers below a colour bar: at its beginning, middle and end. */
export function scaleLabels(scale: Scale): [string, string, string] {
  const largest = formatShort(scale.largest);
  if (scale.signed) return [`−${largest}`, '0', `+${largest}`];
  const from = scale.kind === 'log' ? `≤ ${formatShort(floorOf(scale))}` : '0';
  return [from, formatShort(weightAt(0.5, scale)), largest];
}

/** The colours of a bar from left to right. */
export function scaleStops(scale: Scale, dark: boolean): string[] {
  return Array.from({ length: STOPS + 1 }, (_, i) => {
    const at = i / STOPS;
    if (!scale.signed) return colourOf(weightAt(at, scale), scale, dark);
    const side = 2 * at - 1;
    return colourOf(Math.sign(side) * weightAt(Math.abs(side), scale), scale, dark);
  });
}
