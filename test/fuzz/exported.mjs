import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadModel, setNumThreads } from '../../dist/index.js';
import { exportedPrograms } from './corpus.mjs';
import { mutate } from './mutations.mjs';
import { attempt } from './outcome.mjs';
import { Random } from './random.mjs';

// Mutated programs of torch.export: loaded, looked at, run, captured.

export const title = 'exported programs';
export const share = 0.25;
export const count = 10_000;
const TIME_LIMIT_MS = 2000;

let corpus;

export function setUp() {
  setNumThreads(1);
  corpus = exportedPrograms();
}

/** The file of a case: { bytes, about, extension }. */
export function makeCase(seed, index) {
  const random = new Random(seed, index);
  const { path, bytes } = random.pick(corpus);
  const made = mutate(random, 'zip', bytes, random.pick(corpus).bytes);
  return { ...made, path, extension: '.pt2', about: `${path.split('/').at(-1)}: ${made.mutation}` };
}

export async function runCase(seed, index, { directory, tell }) {
  const made = makeCase(seed, index);
  tell(made.about);
  const random = new Random(seed, index + 0x40000000);
  const { call } = corpus.find(({ path }) => path === made.path);
  const options = {
    ...(random.chance(0.3) ? { untrusted: true } : {}),
    ...(random.chance(0.3) ? { verify: true } : {}),
    timeLimit: 5 * TIME_LIMIT_MS,
  };
  return attack(made.bytes, directory, random.chance(0.5), options, call);
}

/** Runs a file that was kept. */
export async function runFile(bytes, { directory }) {
  const outcomes = [];
  for (const byPath of [true, false]) {
    for (const options of [{}, { untrusted: true }]) {
      outcomes.push(await attack(bytes, directory, byPath, options, corpus[0].call));
    }
  }
  return outcomes.at(-1);
}

async function attack(bytes, directory, byPath, options, call) {
  const path = join(directory, 'case.pt2');
  if (byPath) writeFileSync(path, bytes);
  return attempt(async () => {
    const model = await loadModel(byPath ? path : bytes, options);
    try {
      model.modules();
      model.signature();
      for (const tensor of Object.values(model.stateDict())) tensor.toTypedArray();
      const { inputs, kwargs } = await call();
      const limits = { timeLimit: TIME_LIMIT_MS, memoryLimit: 1e9 };
      let outcome = 'ran';
      for (const run of [
        () => model.forward(inputs, { kwargs, ...limits }),
        () => model.captureAttention(inputs, { kwargs, ...limits, maxBytes: 1e8 }),
      ]) {
        if ((await attempt(run)) === 'refused') outcome = 'refused';
      }
      await model.settled();
      return outcome;
    } finally {
      model.dispose();
    }
  });
}
