// A server of this package with one model, asked over HTTP by its own process, which waits meanwhile:
// node bench/peers/server.mjs THREADS MODEL WIDTH
import { createRequire } from 'node:module';
import library from '../library.mjs';
import { inputData } from '../models.mjs';
import { serve } from './serve.mjs';

const { createServer } = createRequire(import.meta.url)('../../dist/server/index.js');

const [threads, path, width] = process.argv.slice(2);
library.setNumThreads(Number(threads));
let address;

async function load() {
  if (address) return;
  const server = await createServer({ models: { model: { source: path, untrusted: false } }, logger: false });
  await server.listen({ port: 0, host: '127.0.0.1' });
  address = `http://127.0.0.1:${server.server.address().port}/v2/models/model`;
  for (let ready = false; !ready; ) ready = (await fetch(`${address}/ready`)).ok;
}

/** What is sent for an input of these sizes. */
async function requestOf(batch, tokens) {
  const { inputs } = await (await fetch(address)).json();
  const size = Number(width);
  const shape = size === 0 ? [batch, tokens] : [batch, tokens, size];
  const data = Array.from(inputData(size, batch, tokens), Number);
  const [{ name }] = inputs;
  return JSON.stringify({ inputs: [{ name, datatype: size === 0 ? 'INT64' : 'FP32', shape, data }] });
}

async function infer(body) {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`${address}/infer`, { method: 'POST', headers, body });
  const answer = await response.text();
  if (!response.ok) throw new Error(answer);
  return JSON.parse(answer);
}

await serve({
  versions: { package: library.versions.package, libtorch: library.versions.libtorch },
  load,
  async prepare(_, batch, tokens) {
    await load();
    const body = await requestOf(batch, tokens);
    return () => infer(body);
  },
  async output(_, batch, tokens) {
    await load();
    const { outputs } = await infer(await requestOf(batch, tokens));
    return outputs[0].data.slice(0, 16);
  },
});
