import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Failure, packageScript, root, runLogged } from './process.mjs';

const committed = join(root, 'docs', 'api');
const require = createRequire(import.meta.url);

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
  writeFileSync(join(folder, 'errors.md'), errorCodes());
  appendFileSync(join(folder, 'README.md'), '\n## Errors\n\n- [Codes of errors](errors.md)\n');
}

/** The page of the codes of errors, of what dist/ says of each. */
function errorCodes() {
  const { ERROR_CODES } = require('../../dist/core/error-codes.js');
  const { SERVER_ERROR_CODES } = require('../../dist/server/request-error.js');
  const rows = (codes, more) =>
    Object.entries(codes).map(([code, guide]) => {
      const link = `[\`${code}\`](../troubleshooting.md#${code.toLowerCase()})`;
      const cells = [link, ...more(guide), guide.meaning, guide.cause, guide.remedy];
      return `| ${cells.join(' | ')} |`;
    });
  return `# Codes of errors

Every error is a [\`TorchError\`](libtorch-attention/classes/TorchError.md) with a \`code\`; an aborted call rejects with the signal's reason.

| code | meaning | cause | remedy |
| --- | --- | --- | --- |
${rows(ERROR_CODES, () => []).join('\n')}

## Answers of the server

Beside those above: answers of \`libtorch-attention/server\` that are errors have a body \`{ "error": …, "code": … }\`.

| code | status | meaning | cause | remedy |
| --- | --- | --- | --- | --- |
${rows(SERVER_ERROR_CODES, ({ status }) => [status]).join('\n')}
`;
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
