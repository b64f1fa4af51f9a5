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
    says: ["of the reactants' atoms most at their origins (0.08 to 0.14)", "at the product's (0.13 and 0.17)"],
    *check({ weight, queries }) {
      // CC(=O)O.OCC>>CC(=O)OCC, by the positions of its atoms in either part.
      const arrow = queries.indexOf('>>');
      const atoms = queries.flatMap((token, i) => (/^[CO]$/.test(token) ? [i] : []));
      const [reactants, product] = [atoms.filter((i) => i < arrow), atoms.filter((i) => i > arrow)];
      const [carbon, carbonyl, oxygen, , , first, second] = reactants;
      const looks = [
        ...[carbon, carbonyl, oxygen].map((origin, i) => [product[i], origin, reactants]),
        [first, product[4], product],
        [second, product[5], product],
      ];
      for (const [atom, other, among] of looks) {
        const most = among.reduce((best, each) => (weight(atom, each) > weight(atom, best) ? each : best));
        if (most !== other) yield `the atom at ${atom} looks at ${most}, not at ${other}`;
      }
      for (const atom of product.slice(0, 3)) {
        if (queries.some((_, key) => weight(atom, key) > weight(atom, atom)))
          yield `the atom at ${atom} looks elsewhere`;
      }
      const figures = looks.map(([atom, other]) => weight(atom, other).toFixed(2)).join(' ');
      if (figures !== '0.08 0.14 0.11 0.13 0.17') yield `with ${figures}`;
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
    *check({ weight, queries, keys }) {
      const text = keys.join('');
      // What a row writes is the token behind it.
      const written = { 2019: [0, 4], March: [5, 7], '3rd': [8, queries.length] };
      const massOf = (row, part) => [...part].reduce((sum, _, i) => sum + weight(row, text.indexOf(part) + i), 0);
      for (const [part, [from, to]] of Object.entries(written)) {
        for (let row = from; row < to; row++) {
          const most = Object.keys(written).reduce((best, each) =>
            massOf(row, each) > massOf(row, best) ? each : best,
          );
          if (most !== part) yield `row ${row} looks at ${most}, not at ${part}`;
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
  const { queries, keys } = Array.isArray(tokens) ? { queries: tokens, keys: tokens } : tokens;
  return { weight, strongest, queries, keys };
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
