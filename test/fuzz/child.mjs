// Runs cases one after the other and says on file descriptor 3 which one begins and what became of it. A write to it is
// done when it returns, so that what is said is not lost when the process dies.
import { readFileSync, writeFileSync, writeSync } from 'node:fs';
import { Fault } from './outcome.mjs';

const { target: name, seed, from, to, file, keep, extension, directory } = JSON.parse(process.argv[2]);
const say = (message) => writeSync(3, `${JSON.stringify(message)}\n`);

// A folder for the files of a case, and what to say of one before it can go wrong.
const around = { directory, extension, tell: (about) => say({ about }) };
const target = await import(`./${name}.mjs`);
await target.setUp?.();
say({ ready: true });

/** The file of a case, where its target makes one. Whatever ends before it is made is no fault of the package. */
function make(index) {
  if (!target.makeCase) return undefined;
  say({ making: index });
  try {
    const made = target.makeCase(seed, index);
    if (keep) writeFileSync(keep + made.extension, made.bytes);
    say({ made: index, about: made.about });
    return made;
  } catch (error) {
    throw new Fault('unmade', String(error?.stack ?? error).slice(0, 500));
  }
}

async function run(index) {
  say({ begin: index });
  try {
    if (file) say({ end: index, outcome: await target.runFile(readFileSync(file), around) });
    else say({ end: index, outcome: await target.runCase(seed, index, { ...around, made: make(index) }) });
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    say({ end: index, outcome: error.outcome, detail: error.message });
  }
}

for (let index = from; index < to; index++) {
  await run(index);
  // What a case left to be collected and reported is told to it rather than to a later one.
  await new Promise((resolve) => setImmediate(resolve));
}
process.exit(0);
