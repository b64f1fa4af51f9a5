// Bundles the browser code of lib/view/page into dist/view/page.js and page.css, which lib/view/html.ts inlines.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

// What the bundle includes asks for its notices to be kept.
const licenses = ['d3-selection', 'd3-scale-chromatic']
  .map((name) => `${name}: ${readFileSync(join(root, 'node_modules', name, 'LICENSE'), 'utf8').trim()}`)
  .join('\n\n');

await build({
  entryPoints: [join(root, 'lib/view/page/page.ts'), join(root, 'lib/view/page/page.css')],
  outdir: join(root, 'dist/view'),
  bundle: true,
  minify: true,
  format: 'iife',
  target: 'es2022',
  banner: { js: `/*!\n${licenses}\n*/` },
  logLevel: 'warning',
});
