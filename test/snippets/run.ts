// Runs snippets that were compiled, in a process of their own.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Compiled } from './check';
import { ROOT } from './extract';
import { givenTo } from './given';

/** Milliseconds that a snippet may take. */
const TIME_LIMIT = 20_000;

interface Line {
  number: number;
  ended?: true;
  error?: { code?: string; text: string };
}

/**
 * Runs each snippet that isn't said to be compiled alone, in a folder with what is given to it.
 * @returns what went wrong: the place and the error, or that the process ended there
 */
export async function run({ folder, programs }: Compiled): Promise<string[]> {
  const report = join(folder, 'report.jsonl');
  const plan = join(folder, 'plan.json');
  const snippets = programs.flatMap(({ snippet }, number) => {
    const { files, notRun } = givenTo(snippet.document);
    if (snippet.notRun ?? notRun) return [];
    return [{ number, directory: join(folder, 'runs', String(number)), files }];
  });
  writeFileSync(plan, JSON.stringify({ root: ROOT, folder, report, timeLimit: TIME_LIMIT, snippets }));
  const printed = await output([join(__dirname, 'runner.mjs'), plan]);
  const lines = existsSync(report)
    ? readFileSync(report, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Line)
    : [];
  const ends = new Map(lines.filter(({ ended }) => ended).map((line) => [line.number, line]));
  return snippets.flatMap(({ number }) => {
    const { snippet } = programs[number]!;
    const end = ends.get(number);
    if (!end) return [`${snippet.place}: the process ended there, or ahead of it\n${printed}`];
    const mayThrow = snippet.mayThrow ?? givenTo(snippet.document).mayThrow;
    if (!end.error || (mayThrow !== undefined && end.error.code === mayThrow)) return [];
    return [`${snippet.place}: ${end.error.text}`];
  });
}

/** The last that a process printed. */
function output(args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let printed = '';
    const keep = (chunk: Buffer) => {
      printed = (printed + chunk).slice(-4000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', reject);
    child.on('close', () => resolve(printed));
  });
}
