import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cache } from './process.mjs';
import { step } from './progress.mjs';

const path = join(cache, 'set-up.lock');

/** Does some work that no other process of this checkout does at the same time. */
export async function withLock(work) {
  mkdirSync(cache, { recursive: true });
  if (!acquire()) await step('Waiting for another task of this checkout', waitForLock);
  const release = () => rmSync(path, { force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    process.removeListener('exit', release);
    release();
  }
}

async function waitForLock() {
  while (!acquire()) await new Promise((resolve) => setTimeout(resolve, 250));
}

function acquire() {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
  }
  // Left behind by a process that was killed.
  const owner = Number(readOwner());
  if (owner > 0 && !isRunning(owner)) rmSync(path, { force: true });
  return false;
}

function readOwner() {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
