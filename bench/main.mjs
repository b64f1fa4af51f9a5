// npm run bench: what this package costs, side by side with the plain forward of the same file and with its peers, in
// one run. See --help, and docs/performance.md.
import { readFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { describeMovements, movements } from './baseline.mjs';
import library from './library.mjs';
import { Models } from './models.mjs';
import { occupyCores } from './occupied-cores.mjs';
import { Report } from './report.mjs';
import * as bulk from './sections/bulk.mjs';
import * as calls from './sections/calls.mjs';
import * as captures from './sections/captures.mjs';
import * as concurrency from './sections/concurrency.mjs';
import * as eventLoop from './sections/event-loop.mjs';
import * as exported from './sections/exported.mjs';
import * as floor from './sections/floor.mjs';
import * as hooks from './sections/hooks.mjs';
import * as idle from './sections/idle.mjs';
import * as load from './sections/load.mjs';
import * as memory from './sections/memory.mjs';
import * as nn from './sections/nn.mjs';
import * as onnxruntime from './sections/onnxruntime.mjs';
import * as page from './sections/page.mjs';
import * as peers from './sections/peers.mjs';
import * as serve from './sections/serve.mjs';
import * as threads from './sections/threads.mjs';
import { timing } from './timing.mjs';

const SECTIONS = {
  captures,
  floor,
  peers,
  onnxruntime,
  load,
  exported,
  calls,
  concurrency,
  threads,
  idle,
  'event-loop': eventLoop,
  hooks,
  nn,
  memory,
  bulk,
  serve,
  page,
};

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const OPTIONS = {
  turns: { type: 'string', about: 'turns of each comparison at most (default: 15)' },
  seconds: {
    type: 'string',
    about: 'what the turns of one comparison may take; three are taken anyway (default: 30)',
  },
  threads: { type: 'string', about: 'threads of one run, here and in the peers (default: those of the package)' },
  long: {
    type: 'boolean',
    default: false,
    about: 'every way at 4,096 tokens, peers and the page too; more waiting policies',
  },
  quick: {
    type: 'boolean',
    default: false,
    about: 'two turns unless --turns says more, on short sequences: whether it runs',
  },
  busy: { type: 'boolean', default: false, about: 'something else on each core all the while; goals not judged' },
  malloc: { type: 'boolean', default: false, about: "memory: leave the C library's own caching of blocks as it is" },
  models: { type: 'string', default: here('models'), about: 'folder of the models; made where they are missing' },
  out: { type: 'string', default: here('results/bench.json'), about: 'the JSON file to write' },
  compare: { type: 'string', about: 'a JSON file of an earlier run: says at the end what moved since' },
  help: { type: 'boolean', default: false, about: 'this text' },
};

function usage() {
  const options = Object.entries(OPTIONS).map(([name, { type, about }]) => {
    return `  --${`${name}${type === 'string' ? ' …' : ''}`.padEnd(12)} ${about}`;
  });
  const sections = Object.entries(SECTIONS).map(([name, { about }]) => `  ${name.padEnd(14)} ${about}`);
  return ['npm run bench -- [options] [sections; all by default]', '', ...options, '', ...sections].join('\n');
}

/** The arguments, or an exit code after what is to be said. */
function read(args) {
  const parsed = parse(args);
  if (typeof parsed === 'string') {
    console.error(`${parsed}\n\n${usage()}`);
    return 2;
  }
  if (parsed.values.help) {
    console.log(usage());
    return 0;
  }
  return parsed;
}

// What setNumThreads takes.
const MOST_THREADS = 1024;

const isCount = (value, most = Number.MAX_SAFE_INTEGER) =>
  Number.isSafeInteger(Number(value)) && Number(value) >= 1 && Number(value) <= most;

function parse(args) {
  try {
    const parsed = parseArgs({ args, allowPositionals: true, options: OPTIONS });
    const unknown = parsed.positionals.find((name) => !Object.hasOwn(SECTIONS, name));
    if (unknown) return `Expected sections but received ${unknown}.`;
    const { turns, seconds, threads } = parsed.values;
    if (turns !== undefined && !isCount(turns)) return `Expected a positive integer for --turns but received ${turns}.`;
    if (seconds !== undefined && !(Number(seconds) > 0))
      return `Expected a positive number for --seconds but received ${seconds}.`;
    if (threads !== undefined && !isCount(threads, MOST_THREADS))
      return `Expected an integer from 1 to ${MOST_THREADS} for --threads but received ${threads}.`;
    return parsed;
  } catch (error) {
    return error.message;
  }
}

/** The results of an earlier run; ahead of all measuring, so that a wrong path costs nothing. */
function readBaseline(path) {
  try {
    const baseline = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof baseline?.sections === 'object' && Array.isArray(baseline.goals)) return baseline;
    throw new Error('it has no sections and goals');
  } catch (error) {
    console.error(`Expected results of the benchmark for --compare but ${path} can't be used: ${error.message}`);
    process.exit(2);
  }
}

async function main({ values: flags, positionals }) {
  const { quick, long, busy } = flags;
  const baseline = flags.compare === undefined ? undefined : readBaseline(flags.compare);
  if (flags.threads) library.setNumThreads(Number(flags.threads));
  const threads = library.getNumThreads();
  const report = new Report({ judges: !quick && !busy });
  report.versions({
    package: library.versions.package,
    libtorch: library.versions.libtorch,
    node: process.versions.node,
  });
  const machine = { cpu: cpus()[0]?.model.trim(), cores: cpus().length, memory: totalmem(), load: loadavg() };
  console.log(
    `libtorch ${library.versions.libtorch}, ${machine.cpu}, ${threads} of ${machine.cores} cores, ` +
      `load ${machine.load[0].toFixed(1)}${quick ? '; quick: no figures to rely on' : ''}${busy ? '; every core busy' : ''}`,
  );

  const times = timing(flags);
  const context = {
    report,
    models: new Models(flags.models),
    threads,
    timing: times,
    quick,
    long,
    malloc: flags.malloc,
  };
  const names = Object.keys(SECTIONS).filter((name) => positionals.length === 0 || positionals.includes(name));
  for (const name of names) {
    const { about, models, run } = SECTIONS[name];
    report.section(name, about);
    const reason = context.models.provide(models);
    const missing = models.filter((model) => !context.models.has(model));
    if (missing.length > 0) report.leftOut(`what needs ${missing.join(', ')}`, reason);
    const release = busy ? occupyCores() : () => {};
    await run(context);
    release();
  }

  report.goals();
  const about = { date: new Date().toISOString(), machine, threads, quick, busy, timing: times };
  const result = report.write(flags.out, about);
  console.log(`\nWrote ${flags.out}`);
  if (!baseline) return;
  console.log(`\n── compared with ${flags.compare}, of ${baseline.date}`);
  for (const line of describeMovements(movements(baseline, result))) console.log(`  ${line}`);
}

const parsed = read(process.argv.slice(2));
if (typeof parsed === 'number') process.exit(parsed);
await main(parsed);
process.exit(0);
