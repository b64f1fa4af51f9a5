import { InvalidArgumentError } from 'commander';

/** Adds what one more `--layers` says: names, /regular expressions/ and positions, with commas between. */
export function collectLayers(text: string, before: (string | RegExp | number)[] = []): (string | RegExp | number)[] {
  return [...before, ...splitOutsideSlashes(text).map(parseLayer)];
}

function splitOutsideSlashes(text: string): string[] {
  const parts = text.match(/\/(?:[^/\\]|\\.)*\/[a-z]*(?=,|$)|[^,]+/g) ?? [];
  if (parts.length === 0)
    throw new InvalidArgumentError('Expected a module name, a /regular expression/ or a position.');
  return parts.map((part) => part.trim());
}

function parseLayer(part: string): string | RegExp | number {
  if (/^-?\d+$/.test(part)) return Number(part);
  const [, pattern, flags] = /^\/(.*)\/([a-z]*)$/.exec(part) ?? [];
  if (pattern === undefined) return part;
  try {
    return new RegExp(pattern, flags);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

/** Adds what one more `--heads` says: numbers and ranges (`0:4` ends before 4), with commas between. */
export function collectIndices(text: string, before: number[] = []): number[] {
  const indices = text.split(',').flatMap((part) => {
    const [, from, colon, to] = /^\s*(\d+)(?:(:)(\d+))?\s*$/.exec(part) ?? [];
    if (from === undefined)
      throw new InvalidArgumentError(`Expected numbers like 3 or 0,5 or 0:10 but received '${part}'.`);
    if (!colon) return [Number(from)];
    if (Number(to) <= Number(from))
      throw new InvalidArgumentError(`Expected a range that is not empty but received '${part}'.`);
    return Array.from({ length: Number(to) - Number(from) }, (_, i) => Number(from) + i);
  });
  return [...before, ...indices];
}

export function parseCount(text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('Expected a positive integer.');
  return Number(text);
}

/** Adds one more value of an option that may be repeated. */
export function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}
