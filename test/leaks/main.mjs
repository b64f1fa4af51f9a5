// npm run test:leaks: does things thousands of times, each kind in a process of its own, and looks in the operating
// system's figures whether memory, threads and file descriptors stay level after a warm-up.
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { sections } from './sections.mjs';

const { values: flags } = parseArgs({
  options: {
    scale: { type: 'string', default: '1' },
    only: { type: 'string', multiple: true },
    help: { type: 'boolean' },
  },
});
const scale = Number(flags.scale);
if (flags.help || !(scale > 0) || flags.only?.some((name) => !Object.hasOwn(sections, name))) {
  console.log(`usage: npm run test:leaks -- [--scale 0.1] [--only ${Object.keys(sections).join('|')}]`);
  process.exit(flags.help ? 0 : 2);
}

const MIB = 2 ** 20;
/** Below this, growth is the allocator's: pages that it keeps, fragments. A leak of 1 KiB a call shows above it. */
const ALLOWED_BYTES = 12 * MIB;
const ALLOWED_THREADS = 2;

const results = [];
for (const name of flags.only ?? Object.keys(sections)) {
  const { count } = sections[name];
  const times = Math.max(20, Math.round(count * scale));
  const start = Date.now();
  const measured = await measure(name, times);
  results.push({ ...judge(name, times, measured), seconds: Math.round((Date.now() - start) / 1000) });
}
printTable();
const directory = fileURLToPath(new URL('../../.cache/leaks', import.meta.url));
mkdirSync(directory, { recursive: true });
writeFileSync(join(directory, 'results.json'), JSON.stringify({ node: process.version, scale, results }, null, 2));
process.exitCode = results.every(({ level }) => level) ? 0 : 1;

/** Runs a section in a process of its own. Resolves to its measurements after the warm-up, or null where it failed. */
function measure(name, times) {
  const script = fileURLToPath(new URL('section.mjs', import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', script, name, String(times)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    // Memory that each thread's arena keeps for itself is no leak.
    env: { ...process.env, MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536' },
  });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  return new Promise((resolve) => {
    child.on('close', (code) => resolve(code === 0 ? JSON.parse(output) : null));
  });
}

function judge(name, times, measured) {
  if (!measured) return { name, times, level: false };
  const growth = (key) => middle(measured.slice(-3), key) - middle(measured.slice(0, 3), key);
  const [resident, dirty, threads, files] = ['resident', 'dirty', 'threads', 'files'].map(growth);
  // What was done between the middles of the first and the last three measurements.
  const calls = (times * (measured.length - 3)) / (measured.length + 2);
  const level = resident < ALLOWED_BYTES && dirty < ALLOWED_BYTES && threads <= ALLOWED_THREADS && files <= 0;
  return { name, times, resident, dirty, bytesPerCall: dirty / calls, threads, files, level };
}

function middle(measurements, key) {
  const sorted = measurements.map((each) => each[key]).sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

function printTable() {
  const mib = (bytes) => (bytes / MIB).toFixed(1);
  const rows = results.map(({ name, times, resident, dirty, bytesPerCall, threads, files, level, seconds }) =>
    resident === undefined
      ? [name, times, '', '', '', '', '', seconds, 'failed']
      : [
          name,
          times,
          mib(resident),
          mib(dirty),
          Math.round(bytesPerCall),
          threads,
          files,
          seconds,
          level ? 'level' : 'grows',
        ],
  );
  const head = ['', 'times', 'resident MiB', 'private MiB', 'bytes a call', 'threads', 'files', 'seconds', ''];
  const table = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, at) => Math.max(...table.map((row) => row[at].length)));
  for (const row of table) {
    console.log(row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]))).join('  '));
  }
}
