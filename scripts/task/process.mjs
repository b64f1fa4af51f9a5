import { spawn, spawnSync } from 'node:child_process';
import { createWriteStream, mkdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/[\\/]$/, '');

/** Where everything that this folder's scripts keep lies; git ignores it. */
export const cache = join(root, '.cache');

/** A failure whose message says everything: no stack trace is shown. */
export class Failure extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

const isWindows = process.platform === 'win32';

/** Runs a command with this process's input and output. Resolves to its exit code. */
export function run(command, args, { env = process.env } = {}) {
  return new Promise((done, reject) => {
    const child = spawn(command, args, { cwd: root, env, stdio: 'inherit', shell: needsShell(command) });
    child.on('error', reject);
    child.on('close', (code, signal) => done(signal ? 1 : code));
  });
}

/**
 * Runs a command with its output in a log, shown only when the command fails.
 * @param log name of the log below .cache/logs
 * @param onLine called with each line of output
 */
export function runLogged(command, args, { log, env = process.env, onLine } = {}) {
  const directory = join(cache, 'logs');
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${log}.log`);
  const file = createWriteStream(path);
  return new Promise((done, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      shell: needsShell(command),
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => file.write(chunk));
      if (onLine) createInterface({ input: stream }).on('line', onLine);
    }
    child.on('error', reject);
    child.on('close', (code, signal) => {
      file.end(() => {
        if (code === 0) return done();
        const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
        const end = signal ? `was ended by ${signal}` : `exited with ${code}`;
        const excerpt = lines.slice(-80).join('\n');
        return reject(new Failure(`${excerpt}\n\n${command} ${end}; its output is in ${relative(root, path)}.`));
      });
    });
  });
}

/** The output of a command, or null where it can't be run or fails. */
export function output(command, args, { env = process.env } = {}) {
  const result = spawnSync(command, args, { cwd: root, env, encoding: 'utf8', shell: needsShell(command) });
  return result.status === 0 ? `${result.stdout}${result.stderr}` : null;
}

/** The entry script of an installed package's command, to be run with this Node. */
export function packageScript(name, script) {
  return join(root, 'node_modules', ...name.split('/'), script);
}

// npm is a batch file on Windows, which only a shell can run.
function needsShell(command) {
  return isWindows && command === 'npm';
}
