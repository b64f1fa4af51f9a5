// Runs compiled snippets, one after the other, in this process: `node runner.mjs plan.json`. Writes a line of JSON as each
// begins, and as it ends, to the file that the plan names.

import { appendFileSync, cpSync, mkdirSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const { root, folder, report, timeLimit, snippets } = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const say = (record) => appendFileSync(report, `${JSON.stringify(record)}\n`);

/** What was thrown where nobody waits for it: of the snippet that runs. */
let stray;
process.on('unhandledRejection', (error) => {
  stray ??= error;
});
process.on('uncaughtException', (error) => {
  stray ??= error;
});

// Servers that a snippet leaves open would hold ports that the next one needs. A port that it names is replaced by a free
// one: something else on this machine may have it.
const servers = new Set();
const { listen } = net.Server.prototype;
net.Server.prototype.listen = function (where, ...more) {
  servers.add(this);
  const free = typeof where === 'number' ? 0 : where?.port === undefined ? where : { ...where, port: 0 };
  return listen.call(this, free, ...more);
};

function closeServers() {
  for (const server of servers) {
    server.closeAllConnections?.();
    server.close(() => {});
  }
  servers.clear();
}

function described(error) {
  return { code: error?.code, text: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

for (const { number, directory, files } of snippets) {
  say({ number, began: true });
  stray = undefined;
  try {
    mkdirSync(directory, { recursive: true });
    for (const [name, source] of Object.entries(files)) {
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      cpSync(resolve(root, source), join(directory, name), { recursive: true });
    }
    process.chdir(directory);
    const program = import(pathToFileURL(join(folder, `${number}.mjs`)).href).then(({ snippet }) => snippet());
    await Promise.race([
      program,
      wait(timeLimit, undefined, { ref: false }).then(() => {
        throw new Error(`It still ran after ${timeLimit / 1000} s`);
      }),
    ]);
    // What it left to reject does so now.
    await wait(0);
    if (stray !== undefined) throw stray;
    say({ number, ended: true });
  } catch (error) {
    say({ number, ended: true, error: described(error) });
  }
  closeServers();
}
process.exit(0);
