import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cache, packageScript, root, runLogged } from './process.mjs';
import { step } from './progress.mjs';
import { fingerprint, unlessDone } from './stamp.mjs';

const sources = ['lib', 'tsconfig.json', 'package-lock.json'];

/** Compiles lib/ to dist/, and bundles the page that `view` writes. */
export async function compileTypeScript() {
  const results = [join(root, 'dist', 'libtorch', 'locate.js')];
  await unlessDone(join(cache, 'typescript.stamp'), fingerprint(sources, [process.version]), results, () =>
    step('Compiling TypeScript', async () => {
      await runLogged(process.execPath, [packageScript('typescript', 'bin/tsc'), '-p', '.'], { log: 'typescript' });
    }),
  );
  const bundler = join('scripts', 'build-page.mjs');
  if (!existsSync(join(root, bundler))) return;
  const page = join(root, 'dist', 'view', 'page.js');
  await unlessDone(join(cache, 'page.stamp'), fingerprint(['lib/view', bundler, 'package-lock.json']), [page], () =>
    step('Bundling the page', () => runLogged(process.execPath, [bundler], { log: 'page' })),
  );
}
