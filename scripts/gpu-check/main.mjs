// Builds and checks everything on the machine at hand, and prints what came of it; run.sh starts it with the Node binary
// that it unpacked. Nothing here may end without the table: every part is a child process with a time limit of its own.

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ending, runChild } from './child.mjs';
import { describeGpu, runFigures } from './figures.mjs';
import { KERNELS_AS_JSON, readChoices } from './kernel-choice.mjs';
import { checksTable, figuresTable, totals } from './table.mjs';
import { runValues } from './values.mjs';

const { values: options } = parseArgs({
  options: {
    cpu: { type: 'boolean', default: false },
    out: { type: 'string' },
    binaries: { type: 'string' },
    only: { type: 'string' },
    short: { type: 'boolean', default: false },
    broken: { type: 'boolean', default: false },
    minutes: { type: 'string', default: '9' },
    work: { type: 'string' },
    begun: { type: 'string' },
  },
});

const device = options.cpu ? 'cpu' : 'cuda';
const here = import.meta.dirname;
const project = resolve(here, '..', '..');
const work = resolve(options.work ?? '.');
const out = resolve(options.out ?? '.');
mkdirSync(out, { recursive: true });
const begun = options.begun ? Number(options.begun) * 1000 : Date.now();
/** Ten seconds are kept for the table. */
const end = begun + Number(options.minutes) * 60_000 - 10_000;
const deadline = () => end;
const node = process.execPath;
const log = join(out, 'gpu-check.log');
writeFileSync(log, '');

const results = { device, machine: {}, parts: [], checks: [], kernels: null, figures: [] };
function save() {
  const summary = { ...totals(results.checks), seconds: Math.round((Date.now() - begun) / 1000) };
  writeFileSync(join(out, 'results.json'), `${JSON.stringify({ ...results, ...summary }, null, 2)}\n`);
}

function say(text) {
  console.log(`[${String(Math.round((Date.now() - begun) / 1000)).padStart(4)} s] ${text}`);
}

/** Does one part of the work, whatever becomes of it. `work` resolves to what there is to say, or throws. */
async function part(name, work_) {
  const start = Date.now();
  const outcome = { name, ok: true, detail: '', seconds: 0 };
  try {
    outcome.detail = (await work_()) ?? '';
  } catch (error) {
    outcome.ok = false;
    outcome.detail = error.message;
  }
  outcome.seconds = Math.round((Date.now() - start) / 1000);
  results.parts.push(outcome);
  say(`${outcome.ok ? '✓' : '✗'} ${name} (${outcome.seconds} s)${outcome.detail ? `: ${outcome.detail}` : ''}`);
  save();
  return outcome.ok;
}

/** Runs a program to its end within `seconds`, and no longer than there is time. */
async function step(command, args, { seconds, env = process.env, cwd = work }) {
  const milliseconds = Math.max(1000, Math.min(seconds * 1000, end - Date.now()));
  let answer = '';
  const outcome = await runChild(command, args, {
    env,
    cwd,
    log,
    milliseconds,
    onLine: (line) => (answer = line) && undefined,
  });
  if (outcome.code === 0) return { ...outcome, answer };
  const limit = `${Math.round(milliseconds / 1000)} s`;
  throw new Error(`${command} ${ending(outcome, limit)}\n${outcome.tail.split('\n').slice(-30).join('\n')}`);
}

const lastLine = ({ tail }) => tail.split('\n').at(-1);

let libtorch = process.env.LIBTORCH;
let version;
const found = await part('finding torch', async () => {
  if (!libtorch) {
    const script = "import importlib.util as u; print(list(u.find_spec('torch').submodule_search_locations)[0])";
    libtorch = lastLine(await step('python3', ['-c', script], { seconds: 60 }));
  }
  const { readVersion } = createRequire(import.meta.url)(join(project, 'dist', 'libtorch', 'versions.js'));
  const stated = readVersion(libtorch);
  if (!stated) throw new Error(`nothing in ${libtorch} says its version`);
  version = stated.version;
  const gpu = describeGpu();
  const processor = `${cpus()[0]?.model ?? 'unknown'}, ${availableParallelism()} cores, ${Math.round(totalmem() / 1e9)} GB`;
  results.machine = { torch: version, cuda: stated.cuda, gpu, processor, node: process.version };
  return `${version} in ${libtorch}; ${gpu ?? 'no GPU'}; ${processor}; Node ${process.version}`;
});

let binaries = options.binaries && resolve(options.binaries);
let built = found;
if (found && !binaries) {
  const build = join(work, 'build');
  built = await part('building the addon, the loader and the C++ tests', async () => {
    const modules = join(project, 'node_modules');
    const include = ['node-api-headers/include', 'node-addon-api'].map((path) => join(modules, path)).join(';');
    const settings = {
      CMAKE_BUILD_TYPE: 'Release',
      LIBTORCH_ROOT: libtorch,
      LTA_NODE_ADDON: 'ON',
      CMAKE_JS_INC: include,
    };
    const definitions = Object.entries(settings).map(([name, value]) => `-D${name}=${value}`);
    await step('cmake', ['-S', project, '-B', build, '-G', 'Ninja', ...definitions], { seconds: 60 });
    const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2e9)));
    // Half of the time at most: the rest is worth more.
    const seconds = options.cpu ? (end - Date.now()) / 1000 - 60 : 270;
    await step('cmake', ['--build', build, '--parallel', String(jobs)], { seconds });
    writeFileSync(join(build, 'Release', 'build-info.json'), JSON.stringify({ libtorch: version }));
    return `with ${jobs} jobs`;
  });
  binaries = join(build, 'Release');
}

const env = {
  ...process.env,
  LIBTORCH: libtorch,
  LIBTORCH_ATTENTION_BINARIES: binaries,
  GPU_CHECK_PROJECT: project,
  XDG_CACHE_HOME: join(work, 'cache'),
};

let models = join(project, 'test', 'fixtures', 'gpu-check');
if (built) {
  const python = (async () => {
    if (options.short) return;
    await part('which kernels PyTorch chooses', async () => {
      const args = [join(here, 'sdpa_choice.py'), KERNELS_AS_JSON, device];
      results.kernels = readChoices(lastLine(await step('python3', args, { seconds: 90 }).catch(unlessCpu)));
      return Object.entries(results.kernels)
        .map(([call, kernel]) => `${kernel} (${call})`)
        .join('; ');
    });
    await part('making the models whose times are taken', async () => {
      const folder = join(work, 'models');
      const args = [join(here, 'make_models.py'), folder, ...(options.cpu ? ['--tiny'] : [])];
      const made = await step('python3', args, { seconds: 120 }).catch(unlessCpu);
      if (!existsSync(join(folder, 'models.json'))) return `the small ones that were packed: ${lastLine(made)}`;
      models = folder;
      return undefined;
    });
  })();

  await part('doctor', async () => {
    const answer = await step(node, [join(project, 'dist', 'cli', 'main.js'), 'doctor'], { seconds: 90, env });
    return answer.tail
      .split('\n')
      .filter((line) => /^(devices|CUDA|libtorch)/.test(line))
      .join('; ');
  });
  await part('C++ tests', async () => {
    const program = join(binaries, 'native_tests');
    if (!existsSync(program)) throw new Error(`${program} is missing`);
    // Linked against the CPU part alone: with CUDA's loaded as well, it tests that too.
    const cuda = join(libtorch, 'lib', 'libtorch_cuda.so');
    const preload = device === 'cuda' ? { LD_PRELOAD: cuda } : {};
    return lastLine(await step(program, [], { seconds: 120, env: { ...env, ...preload } }));
  });
  await part('values', async () => {
    const width = Math.max(1, Math.min(8, availableParallelism()));
    const only = options.only?.split(',');
    // The figures get a third of the time there is.
    const until = options.short ? end : Date.now() + ((end - Date.now()) * 2) / 3;
    const { broken, short } = options;
    results.checks = await runValues({
      here,
      device,
      width,
      only,
      broken,
      short,
      quiet: python,
      deadline: () => until,
      env,
      log,
      node,
    });
    const { failed, notRun } = totals(results.checks);
    if (failed + notRun > 0) throw new Error(`${failed} failed, ${notRun} not run`);
  });
  await python;
  await part('figures', async () => {
    const lengths = device === 'cuda' ? [512, 2048, 4096, 16_384] : options.short ? [64] : [64, 128];
    const figures = await runFigures({ here, node, env, device, models, lengths, deadline, log });
    results.figures = figures.rows;
    if (figures.problems.length > 0) throw new Error(figures.problems.join('\n'));
  });
  // The kernel that isn't used by default as long as it has never run: the C++ tests say whether it computes what operators do.
  if (device === 'cuda' && !options.short) {
    await part('figures with the kernel of our own', async () => {
      const figures = await runFigures({
        ...{ here, node, device, models, lengths: [512, 4096, 16_384], deadline, log },
        env: { ...env, LIBTORCH_ATTENTION_CUDA_KERNEL: '1' },
        ways: ['top 8', 'mean', 'all, on the device'],
        suffix: ', own kernel',
      });
      results.figures.push(...figures.rows);
      if (figures.problems.length > 0) throw new Error(figures.problems.join('\n'));
    });
  }
}

/** Python's torch may not be importable where there is no GPU: the check then goes on without it. */
function unlessCpu(error) {
  if (device === 'cuda') throw error;
  return { tail: error.message };
}

console.log(`\n${checksTable(results.checks)}\n`);
if (results.figures.length > 0) console.log(`${figuresTable(results.figures)}\n`);
const bad = results.parts.filter(({ ok }) => !ok);
for (const { name, detail } of bad) console.log(`✗ ${name}: ${detail.split('\n').slice(0, 40).join('\n  ')}`);
const { passed, failed, skipped, notRun } = totals(results.checks);
save();
console.log(`results.json and gpu-check.log are in ${out}`);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped, ${notRun} not run`);
process.exit(bad.length > 0 ? 1 : 0);
