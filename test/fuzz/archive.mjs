import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ScriptModule, setNumThreads } from '../../dist/index.js';
import { programs } from './corpus.mjs';
import { checkOrigin, tensorsIn, wordsOf } from './disclosure.mjs';
import { mutate } from './mutations.mjs';
import { attempt } from './outcome.mjs';
import { Random } from './random.mjs';

// Mutated TorchScript archives: loaded, looked at, run, captured.

export const title = 'TorchScript archives';
export const share = 0.4;
export const count = 10_000;
const TIME_LIMIT_MS = 2000;

let corpus;
let supported;

export async function setUp() {
  setNumThreads(1);
  corpus = programs();
  supported = await supportedOptions(corpus[0]);
}

/** Which of the options that limit a load and a run exist. */
async function supportedOptions({ path, inputs }) {
  const accepts = (work) =>
    work().then(
      () => true,
      (error) => error.code !== 'ERR_INVALID_ARGUMENT',
    );
  const model = await ScriptModule.load(path);
  const values = await inputs();
  return {
    untrusted: await accepts(() => ScriptModule.load(path, { untrusted: true })),
    verify: await accepts(() => ScriptModule.load(path, { verify: true })),
    loadTimeLimit: await accepts(() => ScriptModule.load(path, { timeLimit: 10_000 })),
    timeLimit: await accepts(() => model.forward(values, { timeLimit: 10_000 })),
    memoryLimit: await accepts(() => model.forward(values, { memoryLimit: 1e9 })),
  };
}

/** The file of a case: { bytes, about, extension }. */
export function makeCase(seed, index) {
  const random = new Random(seed, index);
  const { path, kind, bytes } = random.pick(corpus);
  const donor = random.pick(corpus).bytes;
  const made = mutate(random, kind, bytes, donor);
  return { ...made, path, extension: '.pt', about: `${path.split('/').at(-1)}: ${made.mutation}` };
}

export async function runCase(seed, index, { directory, made }) {
  const random = new Random(seed, index + 0x40000000);
  const words = made.contents && wordsOf(made.contents);
  const { inputs } = corpus.find(({ path }) => path === made.path);
  const options = {
    ...(supported.untrusted && random.chance(0.3) ? { untrusted: true } : {}),
    ...(supported.verify && random.chance(0.3) ? { verify: true } : {}),
    ...(supported.loadTimeLimit ? { timeLimit: 5 * TIME_LIMIT_MS } : {}),
  };
  return attack(made.bytes, directory, { byPath: random.chance(0.5), options, inputs, words });
}

/** Runs a file that was kept. */
export async function runFile(bytes, { directory }) {
  const outcomes = [];
  for (const byPath of [true, false]) {
    for (const options of supported.untrusted ? [{}, { untrusted: true }] : [{}]) {
      outcomes.push(await attack(bytes, directory, { byPath, options, inputs: corpus[0].inputs }));
    }
  }
  return outcomes.at(-1);
}

async function attack(bytes, directory, { byPath, options, inputs, words }) {
  const path = join(directory, 'case.pt');
  if (byPath) writeFileSync(path, bytes);
  return attempt(async () => {
    const model = await ScriptModule.load(byPath ? path : bytes, options);
    try {
      const looked = await lookAt(model, words);
      const ran = await run(model, await inputs());
      return looked === 'refused' ? looked : ran;
    } finally {
      model.dispose();
    }
  });
}

/** Asks a model for all that it tells without running. */
async function lookAt(model, words) {
  model.modules();
  for (const method of model.methods()) model.signature(method);
  const parameters = model.namedParameters().map(({ name, tensor }) => [name, tensor]);
  let outcome = 'ran';
  for (const [name, tensor] of [...Object.entries(model.stateDict()), ...parameters]) {
    const read = await attempt(() => {
      const array = tensor.toTypedArray();
      if (words) checkOrigin(name, array, words);
    });
    if (read === 'refused') outcome = read;
  }
  return outcome;
}

async function run(model, values) {
  const signal = AbortSignal.timeout(TIME_LIMIT_MS);
  const limits = {
    signal,
    ...(supported.timeLimit ? { timeLimit: TIME_LIMIT_MS } : {}),
    ...(supported.memoryLimit ? { memoryLimit: 1e9 } : {}),
  };
  const calls = [
    () => model.forward(values, limits),
    () => model.captureAttention(values, { ...limits, maxBytes: 1e8 }),
  ];
  let outcome = 'ran';
  for (const call of calls) {
    const made = await attempt(async () => {
      for (const tensor of tensorsIn(await call())) tensor.toTypedArray();
    }, signal);
    if (made === 'refused') outcome = made;
  }
  await model.settled?.();
  return outcome;
}
