import { fileURLToPath } from 'node:url';
import { isAnyArrayBuffer } from 'node:util/types';
import { TorchError } from '../core/errors';
import { typedArrayInfo } from '../core/typed-array';
import { invalid, reading, reasonOf, shortened } from '../core/validate';

/**
 * What a model is loaded from: a path, a `file:` URL (also as a text), or the bytes of the file.
 *
 * @example
 * import { pathToFileURL } from 'node:url';
 *
 * const source: ModelSource = pathToFileURL('model.pt');
 * const model = await ScriptModule.load(source);
 */
export type ModelSource = string | FileUrl | Uint8Array | ArrayBuffer | SharedArrayBuffer;

/**
 * A `URL` whose protocol is `file:`.
 *
 * @example
 * const source: FileUrl = new URL('file:///srv/model.pt');
 */
export interface FileUrl {
  /** The whole of it: `'file:///srv/model.pt'`. */
  readonly href: string;
  /** `'file:'`. */
  readonly protocol: string;
}

/** The path that a text or a URL names; undefined for what is neither. */
export function pathOf(source: unknown, what = 'source'): string | undefined {
  if (typeof source === 'string') return source.startsWith('file:') ? pathOfUrl(source, what) : source;
  return reading(what, () => {
    if (source === null || typeof source !== 'object' || Object.prototype.toString.call(source) !== '[object URL]')
      return undefined;
    return pathOfUrl(String((source as FileUrl).href), what);
  });
}

function pathOfUrl(href: string, what: string): string {
  try {
    return fileURLToPath(href);
  } catch (error) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a file: URL of a path on this machine for ${what} but received '${shortened(href)}': ${reasonOf(error)}`,
      { cause: error },
    );
  }
}

/** The path or the bytes that a model is loaded from. */
export function sourceOf(source: unknown): { path: string } | { bytes: Uint8Array } {
  const path = pathOf(source);
  if (path !== undefined) return { path };
  const bytes = reading('source', () => {
    if (isAnyArrayBuffer(source)) return new Uint8Array(source);
    const info = typedArrayInfo(source);
    return info?.name === 'Uint8Array' ? info.bytes : undefined;
  });
  if (!bytes) throw invalid('a path, a file: URL, a Uint8Array or an ArrayBuffer', 'source', source);
  return { bytes };
}
