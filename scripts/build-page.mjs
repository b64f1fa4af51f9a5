// Bundles the browser code of lib/view/page into dist/view: page.js and page.css, which lib/view/html.ts inlines, live.js
// and live.css for the page in which texts are typed, and figure.js, which makes figures where there is no browser.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const common = {
  absWorkingDir: root,
  outdir: join(root, 'dist/view'),
  bundle: true,
  minify: true,
  target: 'es2022',
  metafile: true,
  logLevel: 'warning',
};

/**
 * Builds, with the notices of all packages that a bundle includes ahead of it, as their licenses ask for. Resolves to the
 * paths of the bundles.
 */
async function buildWithNotices(options) {
  const { metafile } = await build({ ...common, ...options, write: false });
  const packages = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1];
    if (name) packages.add(name);
  }
  // Packages of one author have one license text.
  const notices = new Map();
  for (const name of [...packages].sort()) {
    const text = licenseOf(name);
    notices.set(text, [...(notices.get(text) ?? []), name]);
  }
  const js = `/*!\n${[...notices].map(([text, names]) => `${names.join(', ')}: ${text}`).join('\n\n')}\n*/`;
  const { metafile: written } = await build({ ...common, ...options, banner: { js } });
  return Object.keys(written.outputs).map((path) => resolve(root, path));
}

function licenseOf(name) {
  const folder = join(root, 'node_modules', name);
  const file = readdirSync(folder).find((entry) => /^licen[cs]e(\.|$)/i.test(entry));
  if (!file) throw new Error(`${name} is bundled but has no license file`);
  return readFileSync(join(folder, file), 'utf8').trim();
}

/** Writes all bundles. Resolves to their paths. */
export async function bundlePage() {
  const pages = await buildWithNotices({
    entryPoints: ['page.ts', 'page.css', 'live.ts', 'live.css'].map((file) => join(root, 'lib/view/page', file)),
    format: 'iife',
  });
  const figures = await buildWithNotices({
    entryPoints: { figure: join(root, 'lib/view/page/figure/head-figure.ts') },
    format: 'cjs',
    platform: 'node',
  });
  return [...pages, ...figures];
}

/** What jest calls once, ahead of all tests. */
export default bundlePage;

if (resolve(process.argv[1] ?? '') === fileURLToPath(import.meta.url)) await bundlePage();
