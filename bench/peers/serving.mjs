// A server of one model, for a parent that asks it over HTTP: it says its address, and what its event loop and its memory do.
// Arguments: the name of the model, its file, and options of `createServer` as JSON.
import { createRequire } from 'node:module';
import { monitorEventLoopDelay } from 'node:perf_hooks';

const { createServer } = createRequire(import.meta.url)('../../dist/server/index.js');

const [name, source, options = '{}'] = process.argv.slice(2);
const app = await createServer({ models: { [name]: { source, untrusted: false } }, ...JSON.parse(options) });
const url = await app.listen({ port: 0, host: '127.0.0.1' });
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();

process.on('message', (message) => {
  if (message === 'begin') delay.reset();
  const milliseconds = (nanoseconds) => nanoseconds / 1e6;
  const loop = { p99: milliseconds(delay.percentile(99)), most: milliseconds(delay.max) };
  process.send({ loop, memory: process.memoryUsage.rss() });
});
process.on('disconnect', () => process.exit(0));
process.send({ url });
