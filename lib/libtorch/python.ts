import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { readRemembered, remember } from './cache';

/** What a Python knows of torch. `torch` is the folder of the package, or null where it can't be imported. */
export interface PythonTorch {
  readonly python: string;
  readonly torch: string | null;
}

interface RememberedPython {
  torch: string | null;
  /** The folders that Python imports from, with their times of change: an install or uninstall changes one of them. */
  searched: Record<string, number>;
}

const REMEMBERED = 'python.json';
const TIMEOUT_MS = 20_000;

// Finds the package without importing it, which would take seconds. The working directory, which `-c` puts first, is
// left out: a folder named torch there is not an installed torch.
const PROBE = `
import importlib.util, json, sys
sys.path[:] = [path for path in sys.path if path]
try:
    spec = importlib.util.find_spec('torch')
except Exception:
    spec = None
found = bool(spec and spec.origin and spec.submodule_search_locations)
print(json.dumps({'torch': list(spec.submodule_search_locations)[0] if found else None, 'searched': sys.path}))
`;

/** The absolute path of the `python3` that a shell would run; null where there is none. */
export function findPython(env: NodeJS.ProcessEnv): string | null {
  const names = process.platform === 'win32' ? ['python3.exe', 'python.exe'] : ['python3'];
  for (const directory of (env['PATH'] ?? env['Path'] ?? '').split(delimiter)) {
    for (const name of names) {
      const path = join(directory, name);
      if (directory && existsSync(path)) return path;
    }
  }
  return null;
}

/**
 * Finds the torch that `python3` would import. Starting Python takes a tenth of a second, so the answer is remembered in
 * the cache directory until one of the folders that Python imports from changes.
 */
export function findPythonTorch(env: NodeJS.ProcessEnv = process.env): PythonTorch | null {
  const python = findPython(env);
  if (!python) return null;
  const key = identity(python, env);
  const known = readRemembered<RememberedPython>(REMEMBERED, env)[key];
  if (known && isCurrent(known)) return { python, torch: known.torch };

  const result = spawnSync(python, ['-c', PROBE], { env, encoding: 'utf8', timeout: TIMEOUT_MS, windowsHide: true });
  if (result.status !== 0) return { python, torch: null };
  try {
    const answer = JSON.parse(result.stdout) as { torch: string | null; searched: string[] };
    const searched = Object.fromEntries(answer.searched.map((path) => [path, changedAt(path)]));
    remember<RememberedPython>(REMEMBERED, key, { torch: answer.torch, searched }, env);
    return { python, torch: answer.torch };
  } catch {
    return { python, torch: null };
  }
}

function isCurrent(known: RememberedPython): boolean {
  if (known.torch !== null && !existsSync(known.torch)) return false;
  return Object.entries(known.searched).every(([path, time]) => changedAt(path) === time);
}

/** When a file or folder changed last, in milliseconds; 0 where it doesn't exist. */
function changedAt(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Everything that decides which Python runs and where it imports from. */
function identity(python: string, env: NodeJS.ProcessEnv): string {
  const real = realpathSync(python);
  const decisive: unknown[] = [
    python,
    real,
    changedAt(real),
    env['PYTHONPATH'],
    env['PYTHONHOME'],
    env['PYTHONUSERBASE'],
  ];
  // A script in Python's place (pyenv, asdf) chooses the interpreter by environment, working directory and settings.
  if (isScript(real)) {
    decisive.push(process.cwd(), env['PYENV_VERSION'], env['ASDF_PYTHON_VERSION']);
    decisive.push(changedAt(join(dirname(dirname(python)), 'version')));
    decisive.push(changedAt(join(process.cwd(), '.python-version')));
  }
  return JSON.stringify(decisive);
}

function isScript(path: string): boolean {
  const file = openSync(path, 'r');
  try {
    const start = Buffer.alloc(2);
    readSync(file, start, 0, 2, 0);
    return start.toString('latin1') === '#!';
  } finally {
    closeSync(file);
  }
}
