import type { Picture } from '../matrix';
import type { EncodePicture } from './matrix-drawing';
import { type Drawing, MUTED, px, RULE, text } from './svg';

const TILE = 76;
const GAP = 10;
const PER_ROW = 12;

export interface TilesFigure {
  groups: readonly {
    title: string;
    note: string;
    tiles: readonly { name: string; strength: string; picture: Picture; colours: (dark: boolean) => Uint32Array }[];
  }[];
}

/** All heads small, in groups. */
export function drawTiles({ groups }: TilesFigure, encode: EncodePicture): Drawing {
  const parts: string[] = [];
  let y = 0;
  for (const { title, note, tiles } of groups) {
    parts.push(text(title, 0, y + 8, { size: 12, bold: true }), text(note, 0, y + 23, { size: 10, colour: MUTED }));
    y += 36;
    for (const [i, { name, strength, picture, colours }] of tiles.entries()) {
      const [x, top] = [(i % PER_ROW) * (TILE + GAP), y + Math.floor(i / PER_ROW) * (TILE + 24)];
      const box = `x="${px(x)}" y="${px(top)}" width="${TILE}" height="${TILE}"`;
      const pixels = colours(false);
      const url = encode(
        Uint32Array.from(picture.codes, (code) => pixels[code] as number),
        picture.columns,
        picture.rows,
      );
      parts.push(`<rect ${box} fill="url(#hatch)"/>`);
      parts.push(`<image ${box} preserveAspectRatio="none" image-rendering="pixelated" href="${url}"/>`);
      parts.push(`<rect ${box} fill="none" stroke="${RULE}"/>`);
      parts.push(text(name, x, top + TILE + 9, { size: 10, bold: true }));
      parts.push(text(strength, x + TILE, top + TILE + 9, { size: 10, anchor: 'end', colour: MUTED }));
    }
    y += Math.ceil(tiles.length / PER_ROW) * (TILE + 24) + 12;
  }
  return { width: PER_ROW * (TILE + GAP) - GAP, height: y, svg: parts.join('') };
}
