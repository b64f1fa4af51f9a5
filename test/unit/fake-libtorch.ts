import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { TorchError } from '../../lib/core/errors';

/** A new folder that is removed when the test file ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'libtorch-attention-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function writeFiles(root: string, files: Record<string, string>): string {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
  return root;
}

/** The name of a shared library on this platform. */
export function libraryName(name: string): string {
  if (process.platform === 'win32') return `${name}.dll`;
  return `lib${name}.${process.platform === 'darwin' ? 'dylib' : 'so'}`;
}

/** The files of a libtorch as the official archive lays it out, with empty libraries. */
export function archiveFiles(version: string): Record<string, string> {
  const names = ['c10', 'torch_cpu', 'torch', ...(version.includes('+cu') ? ['c10_cuda', 'torch_cuda'] : [])];
  const libraries = names.map((name) => [`lib/${libraryName(name)}`, `not really ${name}`]);
  return { 'build-version': `${version}\n`, 'include/torch/script.h': '', ...Object.fromEntries(libraries) };
}

/** The same as pip lays it out. */
export function wheelFiles(version: string, cuda: string | null = null): Record<string, string> {
  const { 'build-version': _version, ...files } = archiveFiles(version);
  const python = `from typing import Optional\n__version__ = '${version}'\ndebug = False\ncuda: Optional[str] = ${cuda ? `'${cuda}'` : 'None'}\n`;
  return { ...files, '__init__.py': '', 'version.py': python };
}

/**
 * A folder for PATH with a `python3` that answers as a shell script does.
 * @returns the folder, and how often python3 was run so far
 */
export function fakePython(folder: string, script: string): { bin: string; runs: () => number } {
  const bin = join(folder, 'bin');
  const log = join(folder, 'runs');
  writeFiles(bin, { python3: `#!/bin/sh\necho run >> '${log}'\n${script}\n` });
  writeFileSync(log, '');
  chmodSync(join(bin, 'python3'), 0o755);
  return { bin, runs: () => readFileSync(log, 'utf8').split('\n').length - 1 };
}

/** The TorchError that a function throws. */
export function errorOf(failing: () => unknown): TorchError {
  try {
    failing();
  } catch (error) {
    expect(error).toBeInstanceOf(TorchError);
    return error as TorchError;
  }
  throw new Error('Expected a TorchError, but nothing was thrown');
}
