import { spawn } from 'node:child_process';
import { createWriteStream } from 'node:fs';

/**
 * Runs a program that may crash or hang. Its output goes to a log, what it writes on descriptor 3 to `onLine`, line by
 * line. It is killed, with all that it started, when its time is over; `onLine` may return another limit in milliseconds.
 * Resolves to the exit code, the signal and whether time was over; never rejects.
 */
export function runChild(command, args, { env = process.env, cwd, log, milliseconds, onLine = () => undefined }) {
  return new Promise((resolve) => {
    const file = createWriteStream(log, { flags: 'a' });
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe', 'pipe'], detached: true });
    let tail = '';
    let late = false;
    const kill = () => {
      late = true;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        child.kill('SIGKILL');
      }
    };
    const end = Date.now() + milliseconds;
    let timer = setTimeout(kill, milliseconds);
    let lines = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        file.write(chunk);
        tail = (tail + chunk).slice(-4000);
      });
    }
    child.stdio[3].on('data', (chunk) => {
      lines += chunk;
      for (let at = lines.indexOf('\n'); at >= 0; at = lines.indexOf('\n')) {
        const limit = onLine(JSON.parse(lines.slice(0, at)));
        lines = lines.slice(at + 1);
        if (limit === undefined) continue;
        clearTimeout(timer);
        timer = setTimeout(kill, Math.max(0, Math.min(limit, end - Date.now())));
      }
    });
    const finish = (code, signal) => {
      clearTimeout(timer);
      file.end();
      resolve({ code, signal, late, tail: tail.trimEnd() });
    };
    child.on('error', (error) => {
      tail = error.message;
      finish(null, null);
    });
    child.on('close', finish);
  });
}

/** Why a child ended, for people. */
export function ending({ code, signal, late }, limit) {
  if (late) return `hung: killed after ${limit}`;
  if (signal) return `crashed: ${signal}`;
  return `ended with ${code}`;
}
