import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { root } from './process.mjs';

function filesBelow(directory, extension) {
  return readdirSync(directory, { recursive: true })
    .filter((name) => name.endsWith(extension))
    .map((name) => join(directory, name));
}

/** Forgets the counts of earlier runs. */
export function resetNativeCoverage(directory) {
  for (const path of filesBelow(directory, '.gcda')) rmSync(path);
}

/** Prints how many lines of each C++ file were run, as gcov counted them. */
export function printNativeCoverage(directory) {
  const files = new Map();
  for (const notes of filesBelow(directory, '.gcno')) {
    for (const { file, lines } of readCounts(notes)) {
      const path = relative(root, resolve(directory, file));
      if (!path.startsWith('native')) continue;
      const counts = files.get(path) ?? new Map();
      files.set(path, counts);
      // A header is counted in every file that includes it.
      for (const line of lines) counts.set(line.line_number, (counts.get(line.line_number) ?? 0) + line.count);
    }
  }
  if (files.size === 0) {
    console.log('\nC++ line coverage: not measured (gcov of the compiler in use is needed).');
    return;
  }
  const rows = [...files].sort(([left], [right]) => (left < right ? -1 : 1)).map(([path, counts]) => row(path, counts));
  const sum = (key) => rows.reduce((total, each) => total + each[key], 0);
  const total = { path: 'all C++ files', covered: sum('covered'), lines: sum('lines'), missed: '' };
  const width = Math.max(...rows.map(({ path }) => path.length));
  console.log('\nC++ line coverage');
  for (const { path, covered, lines, missed } of [...rows, total]) {
    const percent = ((100 * covered) / Math.max(lines, 1)).toFixed(1).padStart(5);
    console.log(`${path.padEnd(width)} | ${percent} % | ${covered} of ${lines}${missed ? ` | ${missed}` : ''}`);
  }
}

function row(path, counts) {
  const missed = [...counts].filter(([, count]) => count === 0).map(([line]) => line);
  missed.sort((left, right) => left - right);
  const shown = missed.slice(0, 12).join(',') + (missed.length > 12 ? ',…' : '');
  return { path, covered: counts.size - missed.length, lines: counts.size, missed: shown };
}

function readCounts(notes) {
  const result = spawnSync(process.env.GCOV ?? 'gcov', ['--json-format', '--stdout', basename(notes)], {
    cwd: dirname(notes),
    encoding: 'utf8',
    maxBuffer: 1 << 30,
  });
  if (result.status !== 0 || !result.stdout.trim()) return [];
  return result.stdout
    .trim()
    .split('\n')
    .flatMap((line) => JSON.parse(line).files);
}
