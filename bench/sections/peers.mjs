import { compare, PAUSE } from '../measure.mjs';
import { excerpt } from '../models.mjs';
import {
  difference,
  inputsOf,
  startEncoder,
  startHuggingFace,
  startLibtorch,
  startOnnx,
  startOrLeaveOut,
  startTorchJit,
} from '../peers/start.mjs';
import { memoryFor } from '../process-memory.mjs';
import { megabytes } from '../report.mjs';
import { packageWays } from './captures.mjs';
import { bertCases, title } from './cases.mjs';

export const about = 'the plain forward and all weights, beside libtorch, Python and onnxruntime on the same model';
export const models = ['encoder.pt', 'bert.pt'];

// Other kernels, other last bits; another model would be far off.
const SAME_MODEL = 1e-3;

/** Ways of a peer: [name, its own word for it, the name of its plain forward where it is not that itself]. */
function waysOf(peer, batch, tokens, words) {
  return words.map(([name, word, base]) => ({
    name,
    base,
    peer,
    word,
    run: () => peer.run(word, batch, tokens),
  }));
}

// Beside the peers that run the model's file. Python's sdpa model is the one that the file was made from.
const PEERS = {
  encoder: [
    [
      "Python's nn.TransformerEncoder",
      startEncoder,
      [
        ['nn.TransformerEncoder', 'forward'],
        ['need_weights and hooks', 'weights', 'nn.TransformerEncoder'],
      ],
    ],
  ],
  bert: [
    [
      'Hugging Face transformers',
      startHuggingFace,
      [
        ['Hugging Face, sdpa', 'forward'],
        ['Hugging Face, eager, attentions', 'attentions', 'Hugging Face, sdpa'],
      ],
    ],
    [
      'onnxruntime-node',
      startOnnx,
      [
        ['onnxruntime-node', 'forward'],
        ['onnxruntime-node, attentions', 'attentions', 'onnxruntime-node'],
      ],
    ],
  ],
};

const FILE_PEERS = [
  ['libtorch in C++', startLibtorch, [['libtorch, C++', 'libtorch']]],
  ["Python's torch.jit", startTorchJit, [['torch.jit, Python', 'forward']]],
];

async function compareWithPeers({ report, models: files, threads, timing }, kind, cases) {
  const file = `${kind}.pt`;
  const started = [];
  for (const [what, start, words] of [...FILE_PEERS, ...PEERS[kind]]) {
    const peer = await startOrLeaveOut(report, what, () => start({ models: files, threads, model: file }));
    if (peer) started.push([peer, words]);
  }
  const model = await files.load(file);
  for (const { batch, tokens, weights } of cases) {
    const input = inputsOf(file, batch, tokens);
    const fits = memoryFor(weights);
    if (!fits) report.leftOut(title(kind, batch, tokens), `${megabytes(weights)} of weights: too much for free memory`);
    if (!fits) continue;
    const foreign = started.flatMap(([peer, words]) => waysOf(peer, batch, tokens, words));
    const ways = [...packageWays(model, input, ['forward', 'every weight']), ...foreign];
    const warmUps = tokens > 1000 ? 1 : timing.warmUps;
    const rows = await compare(ways, { ...timing, warmUps, pause: PAUSE });
    await checkOutputs(foreign, rows, { batch, tokens, expected: await excerpt(model, input) });
    report.comparison(title(kind, batch, tokens), rows);
    compareWithEager(report, rows, batch, tokens);
  }
  model.dispose();
  for (const [peer] of started) peer.end();
}

/** Makes a row an error whose way runs another model than the package. */
async function checkOutputs(ways, rows, { batch, tokens, expected }) {
  for (const { name, peer, word } of ways) {
    const row = rows.find((each) => each.name === name);
    if (row.error) continue;
    row.difference = difference(expected, await peer.output(word, batch, tokens));
    if (!(row.difference <= SAME_MODEL)) row.error = `its output is ${row.difference} off: not the same model`;
  }
}

function compareWithEager(report, rows, batch, tokens) {
  if (batch !== 1 || tokens !== 512) return;
  const time = (name) => rows.find((row) => row.name === name)?.ms?.median;
  const eager = time('Hugging Face, eager, attentions');
  if (eager) report.goal('every weight × Hugging Face, eager, attentions', time('every weight') / eager, 1);
}

export async function run(context) {
  const { models: files, quick, long } = context;
  if (files.has('encoder.pt')) {
    const tokens = quick ? 16 : 128;
    await compareWithPeers(context, 'encoder', [{ batch: 1, tokens, weights: 12 * 8 * tokens * tokens * 4 }]);
  }
  if (files.has('bert.pt')) await compareWithPeers(context, 'bert', bertCases({ quick, longest: long }));
}
