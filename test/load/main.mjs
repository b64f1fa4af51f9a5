// npm run test:load: thousands of requests of a server, a third of which leave half-way: while they send, while the model runs,
// while they read. Every answer is compared with what the model gives in this process, so that none is another's; an overload has
// to be answered 429, and to pass; in the end the server has to hold what it held before.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { createRequire } from 'node:module';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Random } from '../fuzz/random.mjs';

const { values: flags } = parseArgs({
  options: {
    requests: { type: 'string', default: '10000' },
    connections: { type: 'string', default: '24' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean' },
  },
});
const requests = Number(flags.requests);
const connections = Number(flags.connections);
if (flags.help || !(requests > 0 && connections > 0)) {
  console.log('usage: npm run test:load -- [--requests 10000] [--connections 24] [--seed 1]');
  process.exit(flags.help ? 0 : 2);
}

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const MODEL = here('../fixtures/cli/text.pt');
const library = createRequire(import.meta.url)('../../dist/index.js');
const random = new Random(Number(flags.seed));

/** What may be held more in the end than after a fifth of the requests, in bytes. */
const MOST_GROWTH = { rss: 48 * 2 ** 20, heapUsed: 8 * 2 ** 20, arrayBuffers: 8 * 2 ** 20 };
/** Texts by their ids, and what belongs to each. */
const TEXTS = 200;
const MOST_TOKENS = 12;
/** Of the model whose requests are put together: the last bits may be others. */
const ROUNDING = 1e-5;

async function makeTexts() {
  const model = await library.ScriptModule.load(MODEL);
  const texts = [];
  for (let i = 0; i < TEXTS; ++i) {
    const ids = Array.from({ length: random.between(1, MOST_TOKENS) }, () => random.between(0, 10));
    const input = library.Tensor.from([ids.map(BigInt)]);
    const { output, attentions } = await model.captureAttention([input]);
    texts.push({
      ids,
      output: Array.from(output.toTypedArray()),
      weights: attentions.map(({ weights }) => Buffer.from(weights.toTypedArray().buffer).toString('base64')),
    });
  }
  model.dispose();
  return texts;
}

const child = fork(
  here('server.mjs'),
  [
    JSON.stringify({
      models: { text: MODEL, batched: { source: MODEL, maxBatch: 8, maxDelay: 2 } },
      maxQueue: 2 * connections,
    }),
  ],
  { execArgv: ['--expose-gc'], env: { OMP_WAIT_POLICY: 'passive', ...process.env } },
);
process.on('exit', () => child.kill('SIGKILL'));
child.on('exit', (code, signal) => {
  console.error(`The server ended: ${signal ?? code}`);
  process.exit(1);
});
const [{ url }] = await once(child, 'message');
const texts = await makeTexts();

const held = async () => {
  child.send('held');
  return (await once(child, 'message'))[0];
};

const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
const counts = { answered: 0, left: { sending: 0, running: 0, reading: 0 }, answeredNevertheless: 0, overloaded: 0 };
const wrong = [];

/** A request, and its answer; undefined where the client left, as `leave` says. */
function ask(path, body, leave) {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}${path}`, { method: 'POST', agent, headers: { 'content-length': body.length } });
    let isLeaving = false;
    const go = () => {
      isLeaving = true;
      sent.destroy();
      resolve(undefined);
    };
    sent.on('error', (error) => (isLeaving ? resolve(undefined) : reject(error)));
    sent.on('response', (response) => {
      const parts = [];
      response.on('data', (part) => {
        parts.push(part);
        if (leave === 'reading') go();
      });
      response.on('error', () => {});
      response.on('end', () => {
        if (!isLeaving) resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) });
      });
    });
    if (leave === 'sending') {
      sent.write(body.subarray(0, body.length >> 1));
      setTimeout(go, random.between(0, 10));
    } else {
      sent.end(body);
      if (leave === 'running') setTimeout(go, random.between(0, 15));
    }
  });
}

function isOutput(output, expected, rounding) {
  return output.length === expected.length && output.every((value, i) => Math.abs(value - expected[i]) <= rounding);
}

/** The weights of the attentions of a stream of frames, in order. */
function weightsOf(body) {
  const weights = [];
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32LE(at);
    const { outputs, error } = JSON.parse(body.subarray(at + 4, at + 4 + length).toString());
    if (error) throw new Error(error);
    at += 4 + length;
    for (const { name, parameters } of outputs) {
      if (/^attention\.\d+$/.test(name))
        weights.push(body.subarray(at, at + parameters.binary_data_size).toString('base64'));
      at += parameters.binary_data_size;
    }
  }
  return weights;
}

const KINDS = {
  json: {
    path: '/v2/models/text/infer',
    isRight: ({ output }, body) => isOutput(JSON.parse(body).outputs[0].data, output, 0),
  },
  batched: {
    path: '/v2/models/batched/infer',
    isRight: ({ output }, body) => isOutput(JSON.parse(body).outputs[0].data, output, ROUNDING),
  },
  attention: {
    path: '/v2/models/text/attention',
    isRight: ({ weights }, body) => weights.join() === weightsOf(body).join(),
  },
};

async function one(number) {
  const text = texts[random.between(0, TEXTS - 1)];
  const [kind, { path, isRight }] = Object.entries(KINDS)[random.between(0, 2)];
  const leave = number % 3 === 0 ? ['sending', 'running', 'reading'][random.between(0, 2)] : undefined;
  const inputs = [{ name: 'input_ids', datatype: 'INT64', shape: [1, text.ids.length], data: text.ids }];
  const answer = await ask(path, Buffer.from(JSON.stringify({ id: String(number), inputs })), leave);
  if (!answer) ++counts.left[leave];
  else if (answer.status === 200 && (kind === 'attention' || JSON.parse(answer.body).id === String(number))) {
    ++counts[leave ? 'answeredNevertheless' : 'answered'];
    if (!isRight(text, answer.body)) wrong.push({ number, kind, leave });
  } else wrong.push({ number, kind, leave, status: answer.status, body: answer.body.toString().slice(0, 200) });
}

/** Many at once: those beyond the queue are told when to come back. */
async function overload() {
  const [{ ids }] = texts;
  const inputs = [{ name: 'input_ids', datatype: 'INT64', shape: [1, ids.length], data: ids }];
  const body = Buffer.from(JSON.stringify({ inputs }));
  const answers = await Promise.all(Array.from({ length: 40 * connections }, () => ask(KINDS.json.path, body)));
  for (const { status, headers } of answers) {
    if (status === 429 && Number(headers['retry-after']) >= 1) ++counts.overloaded;
    else if (status !== 200) wrong.push({ overload: status });
  }
  const after = await ask(KINDS.json.path, body);
  if (after.status !== 200) wrong.push({ afterOverload: after.status });
}

let next = 0;
async function run(until) {
  const lane = async () => {
    while (next < until) await one(next++);
  };
  await Promise.all(Array.from({ length: connections }, lane));
  agent.destroy();
  await wait(300); // for what was stopped to end
}

const begun = Date.now();
await overload();
await run(Math.ceil(requests / 5));
const before = await held();
await run(requests);
const seconds = (Date.now() - begun) / 1000;
const between = await held();
await overload();
agent.destroy();
await wait(300);
const after = await held();

const metrics = await (await fetch(`${url}/metrics`)).text();
const waiting = [...metrics.matchAll(/^libtorch_(waiting|running)_requests\{[^}]*\} (\d+)/gm)].map(([, , count]) =>
  Number(count),
);
const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
const grown = Object.entries(MOST_GROWTH).filter(([name, most]) => after[name] - before[name] > most);
console.log(
  `${requests} requests in ${seconds.toFixed(0)} s over ${connections} connections: ${JSON.stringify(counts)}`,
);
console.log(`wrong: ${wrong.length} ${JSON.stringify(wrong.slice(0, 5))}`);
for (const name of Object.keys(MOST_GROWTH)) {
  const values = [before, between, after].map((each) => megabytes(each[name]));
  console.log(`${name} after a fifth, at the end, after one more overload: ${values.join(', ')}`);
}
console.log(
  `event loop p99 ${between.p99.toFixed(1)} ms; connections left: ${after.connections}; queued or running: ${waiting.join(', ')}`,
);
const isBad =
  wrong.length > 0 ||
  grown.length > 0 ||
  counts.overloaded === 0 ||
  after.connections > 1 ||
  waiting.length === 0 ||
  waiting.some((count) => count > 0);
console.log(isBad ? `Failed${grown.map(([name]) => `, ${name} grows`).join('')}` : 'Passed');
process.exit(isBad ? 1 : 0);
