// Installs the packed packages from npm into an empty project and uses them on other releases of Node and under the tools
// that programs are run and tested with. Needs a registry: npm run test:installs. With versions of libtorch, the packages have
// binaries for each, and each is loaded: npm run test:installs -- 2.11.0 2.15.0.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { provideVersion } from '../../scripts/task/libtorch.mjs';
import { writePackages } from '../../scripts/task/package.mjs';

const NODES = ['20.3.1', '22', '24', '26'];
const POOLS = ['forks', 'threads', 'vmThreads'];

const root = fileURLToPath(new URL('../..', import.meta.url));
const require = createRequire(import.meta.url);
const { findBinaries } = require('../../dist/libtorch/binaries.js');
const { chooseBinaries } = require('../../dist/libtorch/load.js');
const model = join(root, 'test', 'fixtures', 'cli', 'text.pt');
const folder = mkdtempSync(join(tmpdir(), 'installs-'));
const made = [];
for (const version of process.argv.slice(2)) made.push({ libtorch: await provideVersion(version) });
if (made.length === 0) {
  const { libtorch, binaries } = chooseBinaries(findBinaries());
  made.push({ libtorch, binaries: binaries.directory });
}

const use = `
  const model = await ScriptModule.load(${JSON.stringify(model)});
  const { attentions } = await model.captureAttention([Tensor.from([[2n, 4n, 3n]])]);
  console.log(JSON.stringify(attentions.map(({ weights }) => weights.shape)));`;
const used = '[[1,3,3,3],[1,3,3,3]]\n';

/** Starts workers that run a model without end, and ends each in the middle: the main thread's next call has to take less than a second. */
const endWorkers = `
  const { Worker } = require('node:worker_threads');
  const { ScriptModule, Tensor } = require('libtorch-attention');
  const endless = \`
    const { parentPort } = require('node:worker_threads');
    const { ScriptModule, Tensor } = require('libtorch-attention');
    (async () => {
      const model = await ScriptModule.load(${JSON.stringify(model)});
      for (let runs = 0; ; runs++) {
        await model.captureAttention([Tensor.from([[2n, 4n, 3n]])]);
        if (runs === 3) parentPort.postMessage('running');
      }
    })();\`;
  (async () => {
    const model = await ScriptModule.load(${JSON.stringify(model)});
    let longest = 0;
    for (let i = 0; i < 100; i++) {
      const worker = new Worker(endless, { eval: true });
      await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
      await new Promise((resolve) => setTimeout(resolve, i % 7));
      const ended = worker.terminate();
      const started = performance.now();
      await model.captureAttention([Tensor.from([[2n, 4n, 3n]])]);
      longest = Math.max(longest, performance.now() - started);
      await ended;
    }
    if (longest >= 1000) throw new Error('a call took ' + longest + ' ms');
    console.error('the longest call took ' + longest.toFixed(1) + ' ms');
  })();`;

/** A project with what npm installs of these packages. */
function project(name, ...packages) {
  const home = join(folder, name);
  mkdirSync(home);
  writeFileSync(join(home, 'package.json'), '{ "name": "project", "version": "1.0.0", "type": "module" }');
  // The binaries that were packed, and no others.
  const { LIBTORCH_ATTENTION_BINARIES: _binaries, ...env } = process.env;
  const runOn = ({ libtorch }, command, ...args) =>
    execFileSync(command, args, { cwd: home, encoding: 'utf8', env: { ...env, LIBTORCH: libtorch.root } });
  const run = runOn.bind(undefined, made[0]);
  run('npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts', ...packages);
  return { home, run, runOn };
}

let failures = 0;
function check(name, work) {
  const started = Date.now();
  let problem = '';
  try {
    const received = work();
    if (received !== undefined && received !== used) problem = `received ${received}`;
  } catch (error) {
    problem = `${error.stderr ?? ''}${error.stdout ?? ''}` || error.message;
  }
  if (problem) failures += 1;
  console.log(
    `${problem ? '✗' : '✓'} ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)${problem ? `\n${problem}` : ''}`,
  );
}

try {
  const packed = join(folder, 'packages');
  await writePackages(made, packed);
  const tarballs = readdirSync(packed).map((name) => join(packed, name));
  const platform = `${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;

  const program = project('program', ...tarballs, 'tsx@4', 'vitest@4');
  writeFileSync(
    join(program.home, 'use.cjs'),
    `const { ScriptModule, Tensor } = require('libtorch-attention'); (async () => {${use}})();`,
  );
  writeFileSync(join(program.home, 'use.mjs'), `import { ScriptModule, Tensor } from 'libtorch-attention';${use}`);
  writeFileSync(join(program.home, 'use.ts'), `import { ScriptModule, Tensor } from 'libtorch-attention';${use}`);
  const test = `
    import { expect, test } from 'vitest';
    import { ScriptModule, Tensor } from 'libtorch-attention';
    test('tensors', async () => {
      const tensor = Tensor.from([[1, 2]]);
      expect(tensor.toTypedArray()).toStrictEqual(Float32Array.of(1, 2));
      expect(tensor).toEqual(Tensor.from(tensor.toTypedArray(), { shape: [1, 2] }));
      expect(tensor).not.toEqual(Tensor.from([[1, 3]]));
      const model = await ScriptModule.load(${JSON.stringify(model)});
      expect(((await model.forward([Tensor.from([[2n, 3n]])])) as Tensor).shape).toEqual([1, 2, 12]);
    });`;
  for (const name of ['one', 'two']) writeFileSync(join(program.home, `${name}.test.ts`), test);

  for (const version of NODES) {
    // What npm's package "node" would fetch as it is installed.
    const nodes = project(`node-${version}`, `node-${platform}@${version}`);
    const node = join(nodes.home, 'node_modules', `node-${platform}`, 'bin', 'node');
    for (const each of made) {
      check(`Node ${version}, CommonJS, libtorch ${each.libtorch.version}`, () => program.runOn(each, node, 'use.cjs'));
    }
    check(`Node ${version}, ES modules`, () => program.run(node, 'use.mjs'));
    check(
      `Node ${version}, doctor`,
      () => void program.run(node, 'node_modules/libtorch-attention/dist/cli/main.js', 'doctor'),
    );
  }
  if (platform === 'linux-x64') {
    const { home } = project('runtimes', '@oven/bun-linux-x64', '@deno/linux-x64-glibc');
    const bun = join(home, 'node_modules', '@oven', 'bun-linux-x64', 'bin', 'bun');
    const deno = join(home, 'node_modules', '@deno', 'linux-x64-glibc', 'deno');
    check('Bun', () => program.run(bun, 'use.cjs'));
    check('Deno', () => program.run(deno, 'run', '--allow-all', 'use.cjs'));
  }
  writeFileSync(join(program.home, 'workers.cjs'), endWorkers);
  check('100 workers that end during runs', () => void program.run(process.execPath, 'workers.cjs'));
  check('tsx', () => program.run('npx', 'tsx', 'use.ts'));
  for (const pool of POOLS) check(`vitest, ${pool}`, () => void program.run('npx', 'vitest', 'run', `--pool=${pool}`));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(failures > 0 ? `${failures} failed` : 'All passed');
process.exitCode = failures > 0 ? 1 : 0;
