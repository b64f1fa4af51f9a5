import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseJson, readJson } from '../../dist/formats/json.js';
import { parseNpz, readNpz } from '../../dist/formats/npz.js';
import { parseSafetensors, readSafetensors } from '../../dist/formats/safetensors.js';
import { nn } from '../../dist/index.js';
import { readStateDict } from '../../dist/model/state-dict.js';
import { dataFiles } from './corpus.mjs';
import { checkOrigin, wordsOf } from './disclosure.mjs';
import { mutate } from './mutations.mjs';
import { attempt } from './outcome.mjs';
import { Random } from './random.mjs';

// Mutated files of tensors, given to every reader: safetensors, npz, JSON, torch.save in both formats, and the state
// dictionaries of TorchScript archives.

export const title = 'readers of tensors';
export const share = 0.25;
export const count = 10_000;

let corpus;
let layer;

export function setUp() {
  corpus = dataFiles();
  layer = new nn.TransformerEncoderLayer({ dModel: 4, nhead: 2, dimFeedforward: 4 });
}

export function makeCase(seed, index) {
  const random = new Random(seed, index);
  const { path, kind, bytes, extension } = random.pick(corpus);
  const donor = random.pick(corpus.filter((each) => each.kind === kind)).bytes;
  const made = mutate(random, kind, bytes, donor);
  return { ...made, extension, about: `${path.split('/').at(-1)}: ${made.mutation}` };
}

export async function runCase(_seed, _index, { directory, made }) {
  const words = made.contents && wordsOf(made.contents);
  return attack(made.bytes, directory, made.extension, words);
}

export function runFile(bytes, { directory, extension }) {
  return attack(bytes, directory, extension);
}

const READERS = {
  '.safetensors': [(path) => readSafetensors(path), (_path, bytes) => parseSafetensors(bytes)],
  '.npz': [(path) => readNpz(path), (_path, bytes) => parseNpz(bytes)],
  '.json': [(path) => readJson(path), (_path, bytes) => parseJson(Buffer.from(bytes).toString())],
};

async function attack(bytes, directory, extension, words) {
  const path = join(directory, `case${extension}`);
  writeFileSync(path, bytes);
  const outcomes = [];
  for (const reader of READERS[extension] ?? []) {
    outcomes.push(
      await attempt(async () => {
        const { entries } = await reader(path, bytes);
        for (const { name, data } of entries) if (words) checkOrigin(name, data, words);
      }),
    );
  }
  outcomes.push(
    await attempt(async () => {
      const { tensors } = await readStateDict(path, { prefix: '', names: new Set() });
      for (const [name, tensor] of tensors) {
        const array = tensor.toTypedArray();
        if (words) checkOrigin(name, array, words);
      }
    }),
    await attempt(async () => {
      await layer.loadStateDict(path, { strict: false });
    }),
  );
  return outcomes.includes('ran') ? 'ran' : 'refused';
}
