// The server of `npm run test:load`: it says its address and, when it is asked, what it holds once nothing is garbage any more.
import { createRequire } from 'node:module';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { collectGarbage } from '../../bench/process-memory.mjs';

const { createServer } = createRequire(import.meta.url)('../../dist/server/index.js');

const app = await createServer(JSON.parse(process.argv[2]));
const url = await app.listen({ port: 0, host: '127.0.0.1' });
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();

process.on('message', async () => {
  const p99 = delay.percentile(99) / 1e6;
  await collectGarbage();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  const connections = await new Promise((resolve) => app.server.getConnections((_, count) => resolve(count)));
  process.send({ rss, heapUsed, arrayBuffers, connections, p99 });
  delay.reset();
});
process.on('disconnect', () => process.exit(0));
process.send({ url });
