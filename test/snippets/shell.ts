// Runs the shell commands that documents show, with the package's command and `npx` on the PATH.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { ROOT, type Snippet } from './extract';
import { givenTo } from './given';

/** Milliseconds that a block may take: each command loads libtorch. */
const TIME_LIMIT = 120_000;
/** How many run at once. */
const SIDE_BY_SIDE = 2;

/**
 * Runs each block that isn't said to be shown alone, in a folder with what is given to its document, in a shell that ends
 * with the first command that fails.
 * @returns what went wrong: the place, and the last that was printed
 */
export async function runShell(snippets: readonly Snippet[]): Promise<string[]> {
  mkdirSync(join(ROOT, '.cache'), { recursive: true });
  const folder = mkdtempSync(join(ROOT, '.cache', 'commands-'));
  const programs = join(folder, 'programs');
  writePrograms(programs);
  const waiting = [...snippets.entries()].filter(([, { document, notRun }]) => !(notRun ?? givenTo(document).notRun));
  const problems: string[] = [];
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [number, snippet] = next;
      const directory = join(folder, String(number));
      mkdirSync(directory);
      for (const [name, source] of Object.entries(givenTo(snippet.document).files)) {
        mkdirSync(dirname(join(directory, name)), { recursive: true });
        cpSync(join(ROOT, source), join(directory, name), { recursive: true });
      }
      const failure = await runBlock(await withFreePorts(`${snippet.given}\n${snippet.code}`), directory, programs);
      if (failure !== undefined) problems.push(`${snippet.place}: ${failure}`);
    }
  };
  try {
    await Promise.all(Array.from({ length: SIDE_BY_SIDE }, work));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return problems;
}

/** The commands that a block may call beside the system's. What opens a browser does nothing. */
function writePrograms(folder: string): void {
  const command = `exec '${process.execPath}' '${join(ROOT, 'dist', 'cli', 'main.js')}' "$@"`;
  const scripts = {
    'libtorch-attention': command,
    npx: `[ "$1" = libtorch-attention ] || { echo "npx $1 is no command of this package" >&2; exit 1; }\nshift\n${command}`,
    'xdg-open': 'exit 0',
  };
  mkdirSync(folder);
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
}

/** Has free ports take the place of those on this machine that a script names: something else may have them. */
async function withFreePorts(script: string): Promise<string> {
  const named = [...script.matchAll(/\b(?:127\.0\.0\.1|localhost):(\d+)\b/g)].map(([, port = '']) => port);
  let replaced = script;
  for (const port of new Set(named)) replaced = replaced.replaceAll(new RegExp(`\\b${port}\\b`, 'g'), await freePort());
  return replaced;
}

async function freePort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return String(port);
}

/** Undefined where it succeeded. */
function runBlock(script: string, directory: string, programs: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-euo', 'pipefail', '-c', script], {
      cwd: directory,
      env: { ...process.env, PATH: [programs, dirname(process.execPath), process.env['PATH']].join(delimiter) },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: what runs too long is ended with all that it started.
      detached: true,
    });
    let printed = '';
    const keep = (chunk: Buffer) => {
      printed = (printed + chunk).slice(-2000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      process.kill(-(child.pid as number), 'SIGKILL');
    }, TIME_LIMIT);
    child.on('error', reject);
    child.on('close', (status) => {
      clearTimeout(timer);
      if (late) resolve(`it still ran after ${TIME_LIMIT / 1000} s\n${printed}`);
      else resolve(status === 0 ? undefined : `it ended with ${status}\n${printed}`);
    });
  });
}
