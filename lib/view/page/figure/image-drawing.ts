import { type Drawing, escapeXml, INK, px, RULE, text, textWidth } from './svg';

const SIDE = 460;

export interface ImageFigure {
  /** Which patch or token is asked, and what: 'patch 5,5 attends to'; empty where none is. */
  heading: string;
  url: string;
  /** Of the picture. */
  size: { width: number; height: number };
  patches: readonly [rows: number, columns: number];
  /** What lies over each patch, row by row. */
  shades: readonly { colour: string; opacity: number }[];
  /** The patch that is asked. */
  framed?: number | undefined;
  /** The tokens before the patches, with their weights. */
  tokens: readonly string[];
}

/** A picture, dimmed where it isn't attended to. */
export function drawImage({ heading, url, size, patches, shades, framed, tokens }: ImageFigure): Drawing {
  const scale = SIDE / Math.max(size.width, size.height, 1);
  const [width, height] = [size.width * scale, size.height * scale];
  const [rows, columns] = patches;
  const parts: string[] = [];
  let y = 0;
  if (heading) {
    parts.push(text(heading, 0, 8, { size: 12, bold: true }));
    y = 24;
  }
  let x = 0;
  for (const token of tokens) {
    const wide = textWidth(token) + 14;
    if (x > 0 && x + wide > SIDE) {
      x = 0;
      y += 24;
    }
    parts.push(
      `<rect x="${px(x)}" y="${px(y)}" width="${px(wide)}" height="19" rx="9.5" fill="none" stroke="${RULE}"/>`,
      text(token, x + wide / 2, y + 9.5, { anchor: 'middle', colour: INK }),
    );
    x += wide + 6;
  }
  if (tokens.length) y += 28;
  const box = (patch: number) => {
    const [row, column] = [Math.floor(patch / columns), patch % columns];
    const place = `x="${px((column * width) / columns)}" y="${px(y + (row * height) / rows)}"`;
    return `${place} width="${px(width / columns)}" height="${px(height / rows)}"`;
  };
  const place = `x="0" y="${px(y)}" width="${px(width)}" height="${px(height)}"`;
  parts.push(`<image ${place} preserveAspectRatio="none" href="${escapeXml(url)}"/>`);
  const over = shades.map(
    ({ colour, opacity }, patch) => `<rect ${box(patch)} fill="${colour}" fill-opacity="${px(opacity)}"/>`,
  );
  parts.push(`<g shape-rendering="crispEdges">${over.join('')}</g>`);
  if (framed !== undefined) {
    for (const [colour, thick] of [
      ['#000', 4],
      ['#fff', 2],
    ] as const)
      parts.push(`<rect ${box(framed)} fill="none" stroke="${colour}" stroke-width="${thick}"/>`);
  }
  return { width: Math.max(width, 320), height: y + height + 2, svg: parts.join('') };
}
