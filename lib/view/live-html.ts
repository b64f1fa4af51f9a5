import { documentHead, escapeJson, readPage } from './html';

/** The document in which texts are typed; what comes of them stands in a frame. */
export function liveHtml({
  title,
  fields,
  required = [],
}: {
  title: string;
  fields: readonly string[];
  required?: readonly string[];
}): string {
  return [
    ...documentHead(title, 'live.css', " connect-src 'self'; frame-src 'self';"),
    '<noscript>This page runs a model with JavaScript, which is switched off.</noscript>',
    `<script type="application/json" id="live-data">${escapeJson(JSON.stringify({ title, fields, required }))}</script>`,
    `<script>${readPage('live.js')}</script>`,
    '</body>',
    '</html>',
    '',
  ].join('\n');
}
