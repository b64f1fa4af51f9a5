import { milliseconds, PAUSE, ratios, rowsOf, summary, takeTurns } from '../measure.mjs';
import { excerpt } from '../models.mjs';
import { difference, inputsOf, startOnnx, startOnnxPython, startOrLeaveOut } from '../peers/start.mjs';
import { memoryFor } from '../process-memory.mjs';
import { megabytes } from '../report.mjs';
import { WAYS } from '../ways.mjs';
import { bertCases, title } from './cases.mjs';

export const about = 'optimized: the plain forward and all weights, beside onnxruntime from Node and from Python';
export const models = ['bert.pt'];

/** Shorter ones say what a call costs. */
const SHORTEST = 128;

const PEERS = [
  ['onnxruntime-node', startOnnx],
  ['onnxruntime, Python', startOnnxPython],
];
const EVERY = 'every weight';
const ONE_PASS = 'every weight, exact: false';
const ATTENTIONS = 'attentions';
/** Optimized graphs on either side, from the same weights. */
const SAME_MODEL = 1e-3;

export async function run({ report, models: files, threads, timing, quick }) {
  if (!files.has('bert.pt')) return;
  const peers = [];
  for (const [name, start] of PEERS) {
    const peer = await startOrLeaveOut(report, name, () => start({ models: files, threads }));
    if (peer) peers.push({ name, peer });
  }
  if (peers.length === 0) return;
  const model = await files.load('bert.pt', { optimize: true });
  const cases = bertCases({ quick, longest: false });
  for (const { batch, tokens, weights } of quick ? cases : cases.filter((each) => each.tokens >= SHORTEST)) {
    if (!memoryFor(weights)) {
      report.leftOut(title('bert', batch, tokens), `${megabytes(weights)} of weights: too much for free memory`);
      continue;
    }
    const input = inputsOf('bert.pt', batch, tokens);
    const ownWays = [
      ['forward', WAYS.forward],
      [EVERY, WAYS['every weight']],
      [ONE_PASS, WAYS['every weight, exact: false']],
    ].map(([name, way]) => ({ name, run: () => milliseconds(() => way(model, input)) }));
    const foreign = peers.flatMap(({ name, peer }) => [
      { name, run: () => peer.run('forward', batch, tokens) },
      { name: `${name}, ${ATTENTIONS}`, run: () => peer.run(ATTENTIONS, batch, tokens) },
    ]);
    const ways = [...ownWays, ...foreign];
    const taken = await takeTurns(ways, { ...timing, warmUps: tokens > 1000 ? 1 : timing.warmUps, pause: PAUSE });
    for (const { name, peer } of peers) {
      if (taken.failures.has(name)) continue;
      const off = difference(await excerpt(model, input), await peer.output('forward', batch, tokens));
      if (off > SAME_MODEL) throw new Error(`The output of ${name} is ${off} off: not the same model`);
    }
    const what = title('bert', batch, tokens);
    report.comparison(what, rowsOf(ways, taken));
    for (const [own, suffix] of [
      ['forward', ''],
      [EVERY, `, ${ATTENTIONS}`],
      [ONE_PASS, `, ${ATTENTIONS}`],
    ]) {
      const fastest = fastestOf(taken.times, peers, suffix);
      if (!fastest || !taken.times.has(own)) continue;
      const ratio = summary(ratios(taken.times.get(own), taken.times.get(fastest)));
      report.goal(`${what}: ${own} × ${fastest}`, ratio.median, 1);
    }
  }
  model.dispose();
  for (const { peer } of peers) peer.end();
}

/** The way of the peers that took least. */
function fastestOf(times, peers, suffix) {
  const names = peers.map(({ name }) => `${name}${suffix}`).filter((name) => times.has(name));
  const median = (name) => summary(times.get(name)).median;
  return names.sort((a, b) => median(a) - median(b))[0];
}
