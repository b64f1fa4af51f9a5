import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root } from './process.mjs';

/**
 * A hash of files by path, size and time of change, and of anything else that decides what is made from them.
 * @param paths files and folders below the project's root; those that don't exist count as such
 */
export function fingerprint(paths, others = []) {
  const hash = createHash('sha256').update(JSON.stringify(others));
  const visit = (path) => {
    const stat = statSync(join(root, path), { throwIfNoEntry: false });
    if (stat?.isDirectory()) {
      for (const name of readdirSync(join(root, path)).sort()) visit(join(path, name));
    } else {
      hash.update(`${path}\0${stat?.size}\0${stat?.mtimeMs}\0`);
    }
  };
  for (const path of paths) visit(path);
  return hash.digest('hex');
}

/**
 * Does some work only if it wasn't done for the same fingerprint before, or what it made is gone.
 * @param file where the fingerprint of the last time is kept
 * @param results files that the work makes
 */
export async function unlessDone(file, current, results, work) {
  const done = existsSync(file) && readFileSync(file, 'utf8') === current && results.every((path) => existsSync(path));
  if (done) return;
  await work();
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, current);
}
