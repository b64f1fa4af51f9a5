import { readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { packageScript, root, run, runLogged } from './process.mjs';
import { step } from './progress.mjs';

const dist = join(root, 'dist');
/** By its path, since the older one that makes the API reference has a program of that name too. */
const compiler = packageScript('typescript', 'bin/tsc');
const projects = ['.', 'test', 'test/types', 'lib/view/page'];

/** Compiles lib/ to dist/, and bundles the page that `view` writes. What no source makes any more is removed. */
export async function compileTypeScript() {
  await step('Compiling TypeScript', async () => {
    const made = new Set();
    await runLogged(process.execPath, [compiler, '-p', '.', '--listEmittedFiles'], {
      log: 'typescript',
      onLine: (line) => line.startsWith('TSFILE: ') && made.add(resolve(root, line.slice('TSFILE: '.length))),
    });
    const { bundlePage } = await import('../build-page.mjs');
    for (const path of await bundlePage()) made.add(path);
    removeOthers(made);
  });
}

/** Type-checks all projects, up to the first with an error. Resolves to an exit code. */
export async function checkTypes() {
  for (const project of projects) {
    const code = await run(process.execPath, [compiler, '--noEmit', '-p', project]);
    if (code !== 0) return code;
  }
  return 0;
}

/** Removes the files of dist/ that aren't among those named, and the folders that are empty then. */
function removeOthers(made, folder = dist) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) removeOthers(made, path);
    else if (!made.has(path)) rmSync(path);
  }
  if (readdirSync(folder).length === 0) rmSync(folder, { recursive: true });
}
