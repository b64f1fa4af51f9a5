import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const CHILD = fileURLToPath(new URL('child.mjs', import.meta.url));
const START_MS = 60_000;
const POLL_MS = 200;
const PAGE = 4096;

/**
 * Runs cases [from, to) of a target in a process of its own, until one of them takes it down, hangs or swells, or the
 * time is over.
 *
 * @param keep where the file of each case is written to, without its extension
 * @param onCase called with { index, outcome, detail, about } for each case that came to an end
 * @returns the index behind the last case that was run
 */
export async function runBatch(target, options, onCase) {
  const { seed, from, to, file, keep, extension, timeout, memory, until = Infinity } = options;
  const directory = mkdtempSync(join(tmpdir(), 'libtorch-attention-fuzz-'));
  const argument = JSON.stringify({ target, seed, from, to, file, keep, extension, directory });
  const child = spawn(process.execPath, ['--expose-gc', CHILD, argument], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    // Fills what is allocated and what is freed (glibc): memory that wasn't written shows as such.
    env: { ...process.env, MALLOC_PERTURB_: '165', NODE_NO_WARNINGS: '1' },
  });
  let current;
  let making;
  let about;
  let isOver = false;
  let next = from;
  let stopped;
  let errors = '';
  let watchdog;
  const stop = (outcome, detail) => {
    stopped ??= { outcome, detail };
    child.kill('SIGKILL');
  };
  const watch = (ms) => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => stop('hung', `no end within ${ms / 1000} s`), ms);
  };
  watch(START_MS);
  const poll = setInterval(() => {
    const resident = residentBytes(child.pid);
    if (resident > memory) stop('swollen', `${Math.round(resident / 2 ** 20)} MiB`);
  }, POLL_MS);
  child.stderr.on('data', (chunk) => {
    errors = (errors + chunk).slice(-4000);
  });
  createInterface({ input: child.stdio[3] }).on('line', (line) => {
    const message = JSON.parse(line);
    watch(timeout);
    if (message.begin !== undefined) {
      current = message.begin;
      about = undefined;
    }
    if (message.making !== undefined) making = message.making;
    if (message.made !== undefined) making = undefined;
    if (message.about !== undefined) about = message.about;
    if (message.end === undefined) return;
    current = undefined;
    making = undefined;
    next = message.end + 1;
    onCase({ index: message.end, outcome: message.outcome, detail: message.detail, about });
    if (Date.now() < until) return;
    isOver = true;
    child.kill('SIGKILL');
  });
  const { code, signal } = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (exit, ended) => resolve({ code: exit, signal: ended }));
  });
  clearTimeout(watchdog);
  clearInterval(poll);
  rmSync(directory, { recursive: true, force: true });
  if (isOver || (code === 0 && next >= to)) return next;
  const message = `${signal ?? `exit status ${code}`} ${errors.trim().split('\n').slice(-12).join(' | ')}`;
  if (current === undefined && next >= to) {
    // All cases were through: the end of the process failed.
    onCase({
      index: to - 1,
      outcome: stopped?.outcome ?? 'crashed',
      detail: `at the end: ${message}`,
      about,
      again: true,
    });
    return next;
  }
  if (current === undefined && next === from && !stopped)
    throw new Error(`The process of '${target}' did not start: ${message}`);
  const index = current ?? next;
  const outcome = making === undefined ? (stopped?.outcome ?? 'crashed') : 'unmade';
  onCase({ index, outcome, detail: stopped?.detail ?? message.slice(0, 1500), about });
  return index + 1;
}

function residentBytes(pid) {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE;
  } catch {
    return 0; // it ended, or the system has no such file
  }
}
