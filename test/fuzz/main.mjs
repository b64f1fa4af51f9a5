// npm run fuzz: attacks the built package, and says what became of each attack.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FAULTS, OUTCOMES } from './outcome.mjs';
import { runBatch } from './supervisor.mjs';

const KEPT = fileURLToPath(new URL('../../.cache/fuzz', import.meta.url));
const TARGETS = ['archive', 'exported', 'readers', 'arguments', 'executor', 'exit'];
const MOST_FAULTS = 200;
const usage = `usage: npm run fuzz -- [options]
  --only NAME        one of ${TARGETS.join(', ')}; may be given several times
  --seed N           where the random choices begin; default: the time
  --count N          cases of each target; default: what it names
  --seconds N        ends after this time; default: none
  --index N          only this case of each target
  --jobs N           processes at once; default 2
  --reproduce FILE   runs a file that an earlier run kept in .cache/fuzz`;

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    seed: { type: 'string' },
    count: { type: 'string' },
    seconds: { type: 'string' },
    index: { type: 'string' },
    jobs: { type: 'string', default: '2' },
    reproduce: { type: 'string' },
    help: { type: 'boolean' },
  },
});
const numbers = ['seed', 'count', 'seconds', 'index', 'jobs'].filter((name) => flags[name] !== undefined);
const isWrong =
  numbers.some((name) => !/^\d+$/.test(flags[name])) || flags.only?.some((name) => !TARGETS.includes(name));
if (flags.help || isWrong) {
  console.log(usage);
  process.exit(flags.help ? 0 : 2);
}
mkdirSync(KEPT, { recursive: true });
process.exitCode = flags.reproduce ? await reproduce(flags.reproduce) : await fuzz();

async function fuzz() {
  const seed = Number(flags.seed ?? Math.floor(Date.now() / 1000) % 1e6);
  const only = flags.only ?? TARGETS;
  const deadline = flags.seconds ? Date.now() + 1000 * Number(flags.seconds) : Number.POSITIVE_INFINITY;
  console.log(`seed ${seed}`);
  const results = [];
  for (const [at, name] of only.entries()) {
    const target = await import(`./${name}.mjs`);
    // What is left of the time is shared out among the targets that are left.
    const shares = await Promise.all(only.slice(at).map(async (each) => (await import(`./${each}.mjs`)).share));
    const left = deadline - Date.now();
    const until = Date.now() + (left * shares[0]) / shares.reduce((sum, share) => sum + share, 0);
    const result = await attack(
      name,
      target,
      seed,
      flags.index ? Number(flags.index) + 1 : Number(flags.count ?? target.count),
      until,
    );
    results.push(result);
  }
  printTable(results);
  const path = join(KEPT, 'results.json');
  writeFileSync(path, JSON.stringify({ seed, node: process.version, results }, null, 2));
  const faults = results.flatMap((result) => result.faults);
  printFaults(faults, seed);
  return faults.length > 0 ? 1 : 0;
}

async function attack(name, target, seed, count, until) {
  const result = { target: name, title: target.title, tried: 0, counts: {}, faults: [], seconds: 0 };
  const start = Date.now();
  const first = Number(flags.index ?? 0);
  let next = first;
  const note = ({ index, outcome, detail, about, again }) => {
    if (!again) result.tried += 1;
    result.counts[outcome] = (result.counts[outcome] ?? 0) + 1;
    if (FAULTS.includes(outcome)) result.faults.push({ target: name, index, outcome, detail, about });
  };
  const limits = { seed, timeout: target.timeout ?? 30_000, memory: target.memory ?? 2 ** 31 };
  // Where nearly everything falls, more of it tells nothing.
  const isHopeless = () => result.faults.length > MOST_FAULTS;
  const work = async () => {
    while (next < count && (Date.now() < until || next === first) && !isHopeless()) {
      const to = Math.min(count, next + (target.batch ?? 100));
      let from = next;
      next = to;
      while (from < to && (Date.now() < until || from === first) && !isHopeless())
        from = await runBatch(name, { ...limits, from, to, until }, note);
    }
  };
  const progress = setInterval(() => {
    console.log(`  ${target.title}: ${result.tried} of ${count}, ${result.faults.length} faults`);
  }, 30_000);
  await Promise.all(Array.from({ length: Math.min(Number(flags.jobs), target.jobs ?? Infinity) }, work));
  clearInterval(progress);
  result.seconds = Math.round((Date.now() - start) / 1000);
  for (const fault of result.faults) {
    const kept = `${name}-${seed}-${fault.index}`;
    const keep = join(KEPT, kept);
    // An error is its own case's; what takes a process down may come of an earlier one.
    if (!(await faultsAlone(name, { ...limits, keep }, fault.index)) && fault.outcome !== 'uncoded')
      fault.detail += ' (only behind the cases before it)';
    const file = readdirSync(KEPT).find((each) => each.startsWith(`${kept}.`));
    if (file) fault.file = join(KEPT, file);
  }
  return result;
}

/** Whether a case falls by itself too, or only where others ran before it. Keeps its file. */
async function faultsAlone(name, limits, index) {
  let fell = false;
  await runBatch(name, { ...limits, from: index, to: index + 1 }, ({ outcome }) => {
    fell ||= FAULTS.includes(outcome);
  });
  return fell;
}

async function reproduce(path) {
  const name =
    TARGETS.find((each) => basename(path).startsWith(`${each}-`)) ??
    { '.pt': 'archive', '.pt2': 'exported' }[extname(path)] ??
    'readers';
  let failed = false;
  const limits = { seed: 0, from: 0, to: 1, file: path, extension: extname(path), timeout: 60_000, memory: 2 ** 31 };
  await runBatch(name, limits, ({ outcome, detail }) => {
    failed ||= FAULTS.includes(outcome);
    console.log(outcome, detail ?? '');
  });
  return failed ? 1 : 0;
}

/** Prints the first fault of each kind in full, and how many others there are. */
function printFaults(faults, seed) {
  const kinds = new Map();
  for (const fault of faults) kinds.set(kindOf(fault), [...(kinds.get(kindOf(fault)) ?? []), fault]);
  for (const [{ target, index, outcome, about, detail, file }, ...others] of kinds.values()) {
    console.log(`\n${outcome}: ${[about, detail].filter(Boolean).join('\n  ')}`);
    const again = file ? `--reproduce ${file}` : `--only ${target} --seed ${seed} --index ${index}`;
    console.log(`  again: npm run fuzz -- ${again}`);
    if (others.length > 0)
      console.log(
        `  and ${others.length} more like it: ${others
          .map((each) => each.index)
          .slice(0, 20)
          .join(', ')}`,
      );
  }
}

/** What faults have in common that probably have one cause. */
function kindOf({ target, outcome, about, detail = '' }) {
  const cause = outcome === 'uncoded' ? detail.split('\n').slice(0, 2).join() : (about ?? detail).replace(/.*: /, '');
  return [target, outcome, cause].join();
}

function printTable(results) {
  const columns = ['tried', ...OUTCOMES, 'seconds'];
  const rows = results.map(({ title, tried, counts, seconds }) => [
    title,
    ...columns.map((column) => (column === 'tried' ? tried : column === 'seconds' ? seconds : (counts[column] ?? 0))),
  ]);
  const table = [['', ...columns], ...rows].map((row) => row.map(String));
  const widths = table[0].map((_, at) => Math.max(...table.map((row) => row[at].length)));
  console.log();
  for (const row of table) {
    console.log(row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join('  '));
  }
}
