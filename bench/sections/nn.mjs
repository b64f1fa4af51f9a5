import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import library from '../library.mjs';
import { compare, milliseconds, PAUSE } from '../measure.mjs';
import { inputs } from '../models.mjs';
import { startEncoder, startOrLeaveOut } from '../peers/start.mjs';

export const about = "native encoders beside Python's nn.TransformerEncoder with the same weights";
export const models = [];

const CASES = [
  { dModel: 384, nhead: 12, dimFeedforward: 1536, layers: 6, batch: 1, tokens: 128 },
  { dModel: 384, nhead: 12, dimFeedforward: 1536, layers: 6, batch: 1, tokens: 512 },
  { dModel: 512, nhead: 8, dimFeedforward: 2048, layers: 6, batch: 8, tokens: 64 },
];
const QUICK = [{ dModel: 64, nhead: 4, dimFeedforward: 128, layers: 2, batch: 1, tokens: 16 }];

const PYTHON = 'Python';
const ACTIVATION = 'gelu';

async function nativeEncoder({ layers, ...measures }, state) {
  const options = { ...measures, activation: ACTIVATION, batchFirst: true };
  const encoder = new library.nn.TransformerEncoder(new library.nn.TransformerEncoderLayer(options), layers).eval();
  await encoder.loadStateDict(state);
  return encoder;
}

async function allWeights(encoder, input) {
  const { output, attentions } = await encoder.captureAttention(input);
  for (const tensor of [output, ...attentions.map(({ weights }) => weights)]) tensor.dispose();
}

async function compareEncoders({ report, threads, timing }, { batch, tokens, ...measures }, folder) {
  const state = join(folder, 'state.safetensors');
  const start = () => startEncoder({ threads, measures: { ...measures, activation: ACTIVATION, state } });
  const peer = await startOrLeaveOut(report, "Python's nn.TransformerEncoder", start);
  if (!peer) return false;
  const encoder = await nativeEncoder(measures, state);
  const input = inputs(measures.dModel, batch, tokens);
  const ways = [
    { name: PYTHON, run: () => peer.run('forward', batch, tokens) },
    {
      name: 'native',
      limit: 1.05,
      run: () => milliseconds(async () => (await encoder.forward(input[0])).dispose()),
    },
    {
      name: 'native, all weights',
      base: 'native',
      baseLimit: 1.1,
      run: () => milliseconds(() => allWeights(encoder, input)),
    },
    { name: 'Python, need_weights and hooks', base: PYTHON, run: () => peer.run('weights', batch, tokens) },
  ];
  const { dModel, nhead, layers } = measures;
  const rows = await compare(ways, { ...timing, pause: PAUSE });
  report.comparison(`${layers} layers × ${dModel} × ${nhead} heads, ${batch} × ${tokens} tokens`, rows);
  peer.end();
  return true;
}

export async function run(context) {
  const folder = mkdtempSync(join(tmpdir(), 'bench-nn-'));
  try {
    for (const each of context.quick ? QUICK : CASES) if (!(await compareEncoders(context, each, folder))) break;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
