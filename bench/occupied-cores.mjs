import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';

/** Starts something that never rests on each core; returns what ends it. */
export function occupyCores() {
  const children = Array.from({ length: availableParallelism() }, () =>
    spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
  );
  const release = () => {
    for (const child of children) child.kill('SIGKILL');
  };
  process.once('exit', release);
  return release;
}
