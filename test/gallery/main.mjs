// npm run test:gallery: runs the scripts of the gallery, and compares what docs/gallery.md says of their models with the weights of
// the files that they leave. Needs Python with the packages that examples/gallery/README.md names.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: flags } = parseArgs({
  options: { python: { type: 'string', default: 'python3' }, help: { type: 'boolean' } },
});
if (flags.help) {
  console.log('usage: npm run test:gallery -- [--python python3]');
  process.exit(0);
}

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const require = createRequire(import.meta.url);
const { readSafetensors } = require('../../dist/formats/safetensors.js');
const guide = readFileSync(here('../../docs/gallery.md'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'gallery-'));

/** Positions of what a token's text is. */
const positions = (tokens, text) => tokens.flatMap((token, i) => (token === text ? [i] : []));

/** What the guide says of a head. Each check gets its weights by query and key, and the tokens of both; it gives what isn't so. */
const models = {
  sentence: {
    file: 'sentence.pt2',
    layer: 3,
    head: 1,
    says: ['*it* looks at *animal*, with 0.68'],
    *check({ weight, queries, keys }) {
      const [it, animal] = [queries.indexOf('it'), keys.indexOf('animal')];
      if (weight(it, animal).toFixed(2) !== '0.68') yield `it looks at animal with ${weight(it, animal)}`;
    },
  },
  reaction_mapping: {
    file: 'reaction_mapping.pt',
    layer: 10,
    head: 5,
    says: ['look at themselves, then at their origins'],
    *check({ weight, strongest, queries, keys }) {
      // CC(=O)O.OCC>>CC(=O)OCC: the acid's two carbons and its oxygen, and the alcohol's two carbons, are found again behind ">>".
      const product = queries.indexOf('>>') + 1;
      const atoms = [...'CC(=O)OCC'].flatMap((symbol, i) => (/[CO]/.test(symbol) ? [product + i] : []));
      const reactant = [...'CC(=O)O.OCC'].flatMap((symbol, i) => (/[CO]/.test(symbol) ? [1 + i] : []));
      // By the order of atoms: C C O(=) and the carbons of OCC. The single-bonded oxygen isn't claimed.
      const origins = new Map([
        [atoms[0], reactant[0]],
        [atoms[1], reactant[1]],
        [atoms[2], reactant[2]],
        [atoms[4], reactant[5]],
        [atoms[5], reactant[6]],
      ]);
      for (const [atom, origin] of origins) {
        const [first, second] = strongest(atom);
        if (first !== atom || second !== origin) {
          yield `${queries[atom]} at ${atom} looks at ${keys[first]} at ${first}, then ${keys[second]} at ${second}, not at ${origin} (${weight(atom, origin)})`;
        }
      }
    },
  },
  reaction_class: {
    file: 'reaction_class.pt',
    layer: 10,
    head: 1,
    says: ['looks at the nitrogen of the amine that is acylated, with 0.78'],
    *check({ weight, keys }) {
      const nitrogen = keys.indexOf('N');
      if (weight(0, nitrogen).toFixed(2) !== '0.78') yield `the first token looks at it with ${weight(0, nitrogen)}`;
    },
  },
  antibody: {
    file: 'antibody.pt2',
    layer: 4,
    head: 7,
    says: ['cysteine at 22 looks most at the one at 96', '0.12, fifteen times an even share'],
    *check({ weight, strongest, queries, keys }) {
      // Position 0 is [CLS], so that amino acids count from 1.
      if (positions(queries, 'C').join() !== '22,96') yield `the cysteines are at ${positions(queries, 'C')}`;
      if (strongest(22)[0] !== 96) yield `the cysteine at 22 looks most at ${strongest(22)[0]}`;
      const share = weight(22, 96) * keys.length;
      if (weight(22, 96).toFixed(2) !== '0.12' || Math.round(share) !== 15)
        yield `with ${weight(22, 96)}, ${share} times`;
    },
  },
  dates: {
    file: 'dates.pt',
    layer: 3,
    head: 0,
    says: ['Writing *2019-03-03*, the decoder looks at the year, the month, the day'],
    *check({ strongest, queries, keys }) {
      const text = keys.join('');
      const within = (part) => [text.indexOf(part), text.indexOf(part) + part.length];
      // What a row writes is the token behind it.
      const written = { 2019: [0, 4], March: [5, 7], '3rd': [8, queries.length] };
      for (const [part, [from, to]] of Object.entries(written)) {
        const [begin, end] = within(part);
        for (let row = from; row < to; row++) {
          const [first] = strongest(row);
          if (first < begin || first >= end) yield `row ${row} looks at "${keys[first]}" at ${first}, not at ${part}`;
        }
      }
    },
  },
};

const run = (command, ...args) => execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

/** A head of a file that a script left, by the tokens that its picture has. */
async function readHead(name, { file, layer, head }) {
  const captured = join(folder, `${name}-head.safetensors`);
  const inputs = join(folder, `${name}.safetensors`);
  const command = [here('../../dist/cli/main.js'), 'capture', join(folder, file), '--inputs', inputs];
  run(process.execPath, ...command, '--layers', String(layer), '--heads', String(head), '--out', captured);
  const { entries } = await readSafetensors(captured);
  const { data, shape } = entries.find((each) => each.name === `attentions.${layer}`);
  const width = shape.at(-1);
  const tokens = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
  const weight = (query, key) => data[query * width + key];
  const strongest = (query) => [...Array(width).keys()].sort((one, other) => weight(query, other) - weight(query, one));
  return { weight, strongest, queries: tokens.queries ?? tokens, keys: tokens.keys ?? tokens };
}

/** Width and height of a PNG. */
const sizeOf = (path) => {
  const bytes = readFileSync(path);
  return `${bytes.readUInt32BE(16)} × ${bytes.readUInt32BE(20)}`;
};

let failures = 0;
try {
  for (const [name, model] of Object.entries(models)) {
    const started = Date.now();
    const problems = model.says
      .filter((text) => !guide.includes(text))
      .map((text) => `docs/gallery.md lacks "${text}"`);
    try {
      run(flags.python, here(`../../examples/gallery/${name}.py`), folder);
      const sizes = [join(folder, `${name}.png`), here(`../../docs/gallery/${name}.png`)].map(sizeOf);
      if (sizes[0] !== sizes[1]) problems.push(`the picture has ${sizes[0]}, that of the guide ${sizes[1]}`);
      if (!readFileSync(join(folder, `${name}.html`), 'utf8').includes('</html>')) problems.push('the page has no end');
      problems.push(...model.check(await readHead(name, model)));
    } catch (error) {
      problems.push(`${error.stderr ?? ''}${error.stdout ?? ''}` || error.stack);
    }
    if (problems.length > 0) failures += 1;
    console.log(
      [
        `${problems.length > 0 ? '✗' : '✓'} ${name} (${((Date.now() - started) / 1000).toFixed(0)} s)`,
        ...problems,
      ].join('\n  '),
    );
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(failures > 0 ? `${failures} failed` : 'All passed');
process.exitCode = failures > 0 ? 1 : 0;
