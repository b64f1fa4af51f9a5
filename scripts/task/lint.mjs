import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { cache, Failure, output, packageScript, root, run, runLogged } from './process.mjs';
import { step } from './progress.mjs';

const require = createRequire(import.meta.url);

// Another version formats and finds other things, so the versions are pinned, and come from PyPI.
const FORMATTER = { package: 'clang-format', version: '23.1.5', folder: 'clang_format' };
const TIDY = { package: 'clang-tidy', version: '23.1.4', folder: 'clang_tidy' };

const configurations = [
  'tsconfig.json',
  'test/tsconfig.json',
  'test/types/tsconfig.json',
  'lib/view/page/tsconfig.json',
];

/** Checks formatting and code, TypeScript and C++. With `--fix`, corrects what can be corrected by itself. */
export async function lint(args, build) {
  const fix = args.includes('--fix');
  const failures = [];
  const check = async (title, work) => {
    const code = await work();
    console.log(`${code === 0 ? '✓' : '✗'} ${title}`);
    if (code !== 0) failures.push(title);
  };

  const biome = ['check', '--error-on-warnings', ...(fix ? ['--write'] : []), '.'];
  await check('biome', () => run(process.execPath, [packageScript('@biomejs/biome', 'bin/biome'), ...biome]));
  for (const configuration of configurations.filter((path) => existsSync(join(root, path)))) {
    const tsc = [packageScript('typescript', 'bin/tsc'), '--noEmit', '-p', configuration];
    await check(`tsc ${configuration}`, () => run(process.execPath, tsc));
  }
  const sources = nativeFiles();
  const formatter = await provideTool(FORMATTER);
  const mode = fix ? ['-i'] : ['--dry-run', '-Werror'];
  await check('clang-format', () => run(formatter, [...mode, ...sources]));
  const tidy = await provideTool(TIDY);
  await check('clang-tidy', () => runTidy(tidy, sources, build));

  if (failures.length > 0) console.error(`Failed: ${failures.join(', ')}`);
  return failures.length > 0 ? 1 : 0;
}

function nativeFiles() {
  return ['native', 'test/native']
    .filter((directory) => existsSync(join(root, directory)))
    .flatMap((directory) =>
      readdirSync(join(root, directory), { recursive: true }).map((name) => join(directory, name)),
    )
    .filter((path) => /\.(cc|h)$/.test(path))
    .sort();
}

/** The program of a tool's wheel, installed once into the user's cache directory. */
async function provideTool(tool) {
  const { cacheDirectory } = require('../../dist/libtorch/cache.js');
  const directory = join(cacheDirectory(), 'tools', `${tool.package}-${tool.version}`);
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const program = join(directory, tool.folder, 'data', 'bin', tool.package + suffix);
  if (existsSync(program)) return program;
  const { findPython } = require('../../dist/libtorch/python.js');
  const python = findPython(process.env);
  if (!python || !output(python, ['-m', 'pip', '--version'])) {
    throw new Failure(
      `Checking the C++ code needs ${tool.package} ${tool.version}, which is installed with python3's pip.`,
    );
  }
  const specification = `${tool.package}==${tool.version}`;
  await step(`Installing ${specification}`, () =>
    runLogged(python, ['-m', 'pip', 'install', '--no-deps', '--target', directory, specification], {
      log: tool.package,
    }),
  );
  return program;
}

/** Runs clang-tidy on each source file that changed, or whose headers did, since it was last found clean. */
async function runTidy(tidy, files, { directory }) {
  const remembered = join(cache, 'tidy.json');
  const known = existsSync(remembered) ? JSON.parse(readFileSync(remembered, 'utf8')) : {};
  const content = (path) => readFileSync(join(root, path));
  const database = join(directory, 'compile_commands.json');
  const common = createHash('sha256').update(TIDY.version).update(content('.clang-tidy'));
  for (const header of files.filter((path) => path.endsWith('.h'))) common.update(header).update(content(header));
  const pending = [];
  for (const path of files.filter((path) => path.endsWith('.cc'))) {
    const hash = common.copy().update(content(path)).digest('hex');
    if (known[path] !== hash) pending.push({ path, hash });
  }
  const total = pending.length;
  let failed = 0;
  await step('Checking with clang-tidy', async (update) => {
    const work = async () => {
      for (let next = pending.shift(); next; next = pending.shift()) {
        update(`${total - pending.length} of ${total}`);
        const complaint = await tidyOne(tidy, next.path, database);
        if (complaint === null) known[next.path] = next.hash;
        else {
          failed += 1;
          process.stdout.write(`${complaint}\n`);
        }
      }
    };
    await Promise.all(Array.from({ length: availableParallelism() }, work));
  });
  writeFileSync(remembered, JSON.stringify(known));
  return failed === 0 ? 0 : 1;
}

/** Resolves to null, or to what clang-tidy complains about. */
function tidyOne(tidy, path, database) {
  return new Promise((done, reject) => {
    // Precompiled headers are GCC's, which clang can't read; the sources include all that they need.
    // The checker comes without OpenMP's headers.
    const flags = ['-Wno-unknown-warning-option', '-fno-openmp'].map((flag) => `--extra-arg=${flag}`);
    const args = ['-p', database, '--quiet', ...flags, path];
    const child = spawn(tidy, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    child.stdout.on('data', (chunk) => (text += chunk));
    child.stderr.on('data', (chunk) => (text += chunk));
    child.on('error', reject);
    child.on('close', (code) => done(code === 0 ? null : text));
  });
}
