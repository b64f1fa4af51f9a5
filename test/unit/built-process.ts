import { spawn } from 'node:child_process';
import { join } from 'node:path';

/** Scripts on the built package, each in a process of its own: what hangs or crashes there is seen and ended here. */
export const DIST = join(__dirname, '..', '..', 'dist', 'index.js');

export interface Ended {
  /** Null where a signal ended it: SIGKILL after `limit`. */
  code: number | null;
  signal: string | null;
  output: string;
  milliseconds: number;
}

/** What every script has: the package, tensors of float32, and the folder of the files whose forwards never end. */
export const prelude = `
  const { HookedModel, ScriptModule, Tensor, nn, releaseMemory, setConcurrency, setNumThreads, manualSeed } = require(${JSON.stringify(DIST)});
  const f32 = (...shape) => Tensor.from(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)), { shape });
  const loops = (name) => ScriptModule.load(${JSON.stringify(join(__dirname, '..', 'fixtures', 'loops'))} + '/' + name + '.pt');
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const failure = (promise) => promise.then(() => 'nothing', (error) => (typeof error.code === 'string' ? error.code : error.name));
`;

export function runScript(script: string, options: { flags?: string[]; limit?: number } = {}): Promise<Ended> {
  const { flags = [], limit = 90_000 } = options;
  return new Promise((resolve, reject) => {
    const started = Date.now();
    const child = spawn(process.execPath, [
      ...flags,
      '-e',
      `${prelude}(async () => {${script}})().catch((error) => { console.error(error); process.exit(99); });`,
    ]);
    const timer = setTimeout(() => child.kill('SIGKILL'), limit);
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, output: output.trim(), milliseconds: Date.now() - started });
    });
  });
}
