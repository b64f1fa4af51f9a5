import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TorchError } from '../core/errors';
import type { PreparedView } from './prepare';

/** Where scripts/build-page.mjs puts the page's code, as seen from lib/view and from dist/view. */
export const PAGE = join(__dirname, '..', '..', 'dist', 'view');

/**
 * The page as one HTML document that needs nothing else and loads nothing else: code, style and data are in it.
 * @param view What `prepareView` made.
 * @param options.title The heading and the document's title; any text.
 */
export function renderHtml({ data, stores }: PreparedView, options: { title: string }): string {
  const { title } = options;
  return pageParts(title, JSON.stringify({ ...data, title }), stores, data.live !== undefined).join('\n');
}

/** Characters that a page takes beside its data. */
export function pageSize(title: string): number {
  return Buffer.byteLength(pageParts(title, '', [], false).join('\n'));
}

function pageParts(heading: string, json: string, stores: readonly string[][], live: boolean): string[] {
  return [
    ...documentHead(heading, 'page.css', live ? " connect-src 'self';" : ''),
    '<noscript>This page draws the attention of a model with JavaScript, which is switched off.</noscript>',
    `<script type="application/json" id="view-data">${escapeJson(json)}</script>`,
    // Base64 has no character that could end a script element; each block is decoded when it is first shown.
    ...stores.map((blocks, i) => `<script type="text/plain" id="store-${i}">${blocks.join('\n')}</script>`),
    `<script>${readPage('page.js')}</script>`,
    '</body>',
    '</html>',
    '',
  ];
}

/** The beginning of a document of ours, up to its body. Whatever the data says, it loads nothing but what `policy` adds. */
export function documentHead(heading: string, css: string, policy: string): string[] {
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:;${policy}">`,
    `<title>${escapeText(heading)}</title>`,
    `<style>${readPage(css)}</style>`,
    '</head>',
    '<body>',
  ];
}

/** A file of the page's code, as it was built. */
export function readPage(file: string): string {
  try {
    return readFileSync(join(PAGE, file), 'utf8');
  } catch (error) {
    const message = `Expected the page's ${file} beside the compiled package but it can't be read; run the build`;
    throw new TorchError('ERR_INVALID_ARGUMENT', message, { cause: error });
  }
}

function escapeText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

/** JSON inside of a script element: neither `</script>` nor `<!--` may appear. */
export function escapeJson(json: string): string {
  return json.replaceAll('<', '\\u003c');
}
