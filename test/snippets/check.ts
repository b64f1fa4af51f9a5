// Compiles snippets as a user's strict project would be, against the package by its name.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compose, type Program } from './compose';
import { type PublicName, publicNames, ROOT, type Snippet } from './extract';

export interface Compiled {
  /** Holds `<number>.mjs` for each program; within the package, so that its name means itself. */
  folder: string;
  programs: Program[];
  /** What the compiler says, with the places that snippets stand at: `docs/bulk.md:43:7: error TS2345: …`. */
  problems: string[];
}

/** Remove the folder when done with it. */
export function compile(snippets: readonly Snippet[], names: readonly PublicName[] = publicNames()): Compiled {
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, '.cache', 'snippets-'));
  const programs = snippets.map((snippet) => compose(snippet, names));
  for (const [number, { text }] of programs.entries()) writeFileSync(join(folder, `${number}.mts`), text);
  const compilerOptions = {
    target: 'es2022',
    lib: ['es2023', 'esnext.disposable'],
    module: 'node16',
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules', '@types')],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.mts'] }));
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { stdout, stderr } = spawnSync(process.execPath, [compiler, '-p', folder, '--pretty', 'false'], {
    encoding: 'utf8',
    cwd: folder,
  });
  const problems = `${stdout}${stderr}`
    .split(/\n(?! )/)
    .filter((line) => line !== '')
    .map((line) =>
      line.replace(/^(\d+)\.mts\((\d+),(\d+)\)/, (_, number, row, column) => at(programs[number], row, column)),
    );
  return { folder, programs, problems };
}

function at(program: Program | undefined, row: string, column: string): string {
  if (!program) return '';
  const { snippet, linesAhead } = program;
  const line = Number(row) - linesAhead;
  if (line < 1) return `${snippet.place}: in what is given to it`;
  return snippet.place === `${snippet.document}:${snippet.line}`
    ? `${snippet.document}:${snippet.line + line - 1}:${column}`
    : `${snippet.place}: line ${line}, column ${column}`;
}
