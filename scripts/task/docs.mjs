import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Failure, packageScript, root, runLogged } from './process.mjs';

const committed = join(root, 'docs', 'api');

/** Writes the API reference into a folder, whose files it replaces. Fails where a public name isn't described in full. */
async function writeReference(folder) {
  const scripts = join(root, 'scripts', 'docs');
  const hook = pathToFileURL(join(scripts, 'older-typescript.mjs')).href;
  const typedoc = packageScript('typedoc', 'bin/typedoc');
  const options = ['--options', join(scripts, 'typedoc.json'), '--out', folder];
  await runLogged(process.execPath, ['--import', hook, typedoc, ...options], {
    log: 'typedoc',
    env: { ...process.env, NO_COLOR: '1' },
  });
  appendFileSync(
    join(folder, 'README.md'),
    '\n## Errors\n\nEvery code, with what it means, its causes and remedies: [troubleshooting](../troubleshooting.md).\n',
  );
}

/** Writes docs/api. */
export async function makeReference() {
  await writeReference(committed);
}

/** Fails where docs/api isn't what the sources make. */
export async function checkReference() {
  const folder = mkdtempSync(join(tmpdir(), 'reference-'));
  try {
    await writeReference(folder);
    const [made, there] = [contentsOf(folder), contentsOf(committed)];
    const differ = [...new Set([...made.keys(), ...there.keys()])].filter((name) => made.get(name) !== there.get(name));
    if (differ.length === 0) return;
    throw new Failure(
      `Expected docs/api to be what the docstrings make but ${differ.length} of its files differ: ${differ.slice(0, 10).join(', ')}. "npm run docs" writes them.`,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function contentsOf(folder) {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    names.map(({ parentPath, name }) => [
      join(parentPath, name).slice(folder.length + 1),
      readFileSync(join(parentPath, name), 'utf8'),
    ]),
  );
}
