import { accessSync, constants, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/**
 * The folder in the user's cache directory that holds what was fetched and remembered. Exists only once something was
 * written to it.
 */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return join(userCacheDirectory(env), 'libtorch-attention');
}

function userCacheDirectory(env: NodeJS.ProcessEnv): string {
  const xdg = env['XDG_CACHE_HOME'];
  // The XDG specification has relative paths ignored.
  if (xdg && isAbsolute(xdg)) return xdg;
  const home = env['HOME'] || homeOfUser();
  if (process.platform === 'win32') return env['LOCALAPPDATA'] || join(env['USERPROFILE'] || home, 'AppData', 'Local');
  if (process.platform === 'darwin') return join(home, 'Library', 'Caches');
  return join(home, '.cache');
}

/** The home of the user that runs this process; what Debian calls the home of those that have none for one that the system doesn't know. */
function homeOfUser(): string {
  try {
    return homedir();
  } catch {
    return '/nonexistent';
  }
}

/** Whether something can be kept in the cache directory. */
export function canRemember(env: NodeJS.ProcessEnv): boolean {
  const directory = cacheDirectory(env);
  try {
    mkdirSync(directory, { recursive: true });
    accessSync(directory, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Reads a small JSON object of the cache directory; an empty one where it is missing or unreadable. */
export function readRemembered<T>(name: string, env: NodeJS.ProcessEnv): Record<string, T> {
  try {
    const value: unknown = JSON.parse(readFileSync(join(cacheDirectory(env), name), 'utf8'));
    return value && typeof value === 'object' ? (value as Record<string, T>) : {};
  } catch {
    return {};
  }
}

/**
 * Adds one entry to a small JSON object of the cache directory, dropping the oldest beyond 16. Remembering is only about
 * time: where the directory can't be written, nothing is remembered and nothing fails.
 */
export function remember<T>(name: string, key: string, value: T, env: NodeJS.ProcessEnv): void {
  const { [key]: _previous, ...others } = readRemembered<T>(name, env);
  const kept = Object.fromEntries([...Object.entries(others).slice(-15), [key, value]]);
  const directory = cacheDirectory(env);
  const temporary = join(directory, `${name}.${process.pid}.${Math.random().toString(36).slice(2)}`);
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(temporary, JSON.stringify(kept));
    renameSync(temporary, join(directory, name));
  } catch {
    // A full disk, a read-only directory.
  }
}
