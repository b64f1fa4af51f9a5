import { spawnSync } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { context, SpanStatusCode, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { fastify } from 'fastify';
import { createServer, libtorchServer } from '../../lib/server';
import { archiveOf } from './script-archive';
import { type Client, counting, echo, folder, listen, serve, until } from './server-fixtures';

const x = { name: 'x', datatype: 'FP32', shape: [1], data: [1] };

/** Puts a model that multiplies by `factor` in the place of a file, as deployments do: by renaming. */
function replace(path: string, factor: number | string): void {
  const content =
    typeof factor === 'string'
      ? factor
      : archiveOf(`def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  return torch.mul(x, ${factor})\n`);
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
}

test('a file that has changed is served without a failed request, and one that is broken is not', async () => {
  const path = join(folder, 'factor.pt');
  replace(path, 2);
  const client = await serve({ factor: path }, { reloadInterval: 50 });
  const factors = new Set<number>();
  let asking = true;
  const loop = (async () => {
    while (asking) {
      const { status, json } = await client.infer('factor', [x]);
      expect([status, json.error]).toEqual([200, undefined]);
      factors.add(json.outputs[0].data[0]);
    }
  })();
  const answers = (factor: number) => async () =>
    (await client.infer('factor', [x])).json.outputs[0].data[0] === factor;
  await until(answers(2));
  replace(path, 3);
  await until(answers(3));
  replace(path, 'no model');
  await wait(400);
  expect(await answers(3)()).toBe(true);
  replace(path, 4);
  await until(answers(4));
  asking = false;
  await loop;
  expect([...factors]).toEqual([2, 3, 4]);
});

test('files are not looked at again with an interval of 0', async () => {
  const path = join(folder, 'later.pt');
  replace(path, 2);
  const client = await serve({ later: path }, { reloadInterval: 0 });
  replace(path, 5);
  await wait(200);
  expect((await client.infer('later', [x])).json.outputs[0].data).toEqual([2]);
});

test('metrics count requests by model and status, and say what waits', async () => {
  const client = await serve({ counting: counting(), echo: echo() }, { maxQueue: 1, concurrency: 1 });
  const times = { name: 'times', datatype: 'INT64', shape: [1], data: [20_000] };
  const busy = Promise.all(Array.from({ length: 5 }, () => client.infer('counting', [x, times])));
  await busy;
  await client.infer('echo', [x]);
  await client.infer('made-up-by-a-client', [x]);
  const { status, headers, bytes } = await read(client);
  expect([status, headers.get('content-type')]).toEqual([200, expect.stringContaining('text/plain')]);
  const text = bytes;
  expect(text).toMatch(
    /libtorch_request_duration_seconds_count\{model="echo",version="1",operation="infer",status="200"\} 1/,
  );
  expect(text).toMatch(/_count\{model="counting",version="1",operation="infer",status="429"\} [1-4]/);
  expect(text).toContain('libtorch_model_ready{model="echo",version="1"} 1');
  expect(text).toContain('libtorch_waiting_requests{model="counting",version="1"} 0');
  expect(text).toContain('nodejs_eventloop_lag_p99_seconds');
  expect(text).not.toContain('made-up');
});

async function read(client: Client): Promise<{ status: number; headers: Headers; bytes: string }> {
  const response = await fetch(`${client.url}/metrics`);
  return { status: response.status, headers: response.headers, bytes: await response.text() };
}

test('metrics can be left out, and are of no model alone', async () => {
  const without = await serve({ echo: echo() }, { metrics: false });
  expect((await read(without)).status).toBe(404);
  const key = 'a key of sixteen or more';
  const limited = await serve({ echo: echo() }, { apiKeys: [{ key, models: ['echo'] }] });
  const response = await fetch(`${limited.url}/metrics`, { headers: { 'X-API-Key': key } });
  expect(response.status).toBe(403);
});

test('inferences and captures are spans of the trace that is active, which the SDK exports with their failures', async () => {
  const exporter = new InMemorySpanExporter();
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  trace.setGlobalTracerProvider(provider);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  const app = fastify();
  const parents: string[] = [];
  // As instrumentations of HTTP do it: what handles a request runs within a span of its own.
  app.addHook('preHandler', (_, reply, done) => {
    provider.getTracer('test').startActiveSpan('request', (span) => {
      parents.push(span.spanContext().spanId);
      reply.raw.once('close', () => span.end());
      done();
    });
  });
  await app.register(libtorchServer, { models: { echo: echo() } });
  const client = await listen(app);
  try {
    await until(async () => (await client.get('/v2/health/ready')).status === 200);
    expect((await client.infer('echo', [x])).status).toBe(200);
    expect((await client.infer('echo', [{ ...x, name: 'y' }])).status).toBe(400);
    expect((await client.post('/v2/models/echo/attention', { inputs: [x] })).status).toBe(400); // it has none
  } finally {
    trace.disable();
    context.disable();
  }
  const own = exporter.getFinishedSpans().filter(({ name }) => name !== 'request');
  expect(own.map(({ name, status, parentSpanContext }) => [name, status.code, parentSpanContext?.spanId])).toEqual([
    ['libtorch infer echo', SpanStatusCode.UNSET, parents.at(-3)],
    ['libtorch infer echo', SpanStatusCode.ERROR, parents.at(-2)],
    ['libtorch attention echo', SpanStatusCode.ERROR, parents.at(-1)],
  ]);
  const attributes = { 'libtorch.model': 'echo', 'libtorch.version': '1', 'libtorch.operation': 'infer' };
  expect(own[0]?.attributes).toEqual(attributes);
  expect(own[1]?.status.message).toMatch(/'x'/);
  expect(own[1]?.events).toEqual([expect.objectContaining({ name: 'exception' })]);
  expect(own[0]?.duration[0]).toBe(0);
});

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;

(hasOpenssl ? test : test.skip)('a certificate makes it HTTPS', async () => {
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => join(folder, name)) as [string, string];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const made = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-keyout',
    key,
    '-out',
    cert,
  ];
  expect(spawnSync('openssl', [...made, ...subject]).status).toBe(0);
  const app = await createServer({
    models: { echo: echo() },
    https: { key: readFileSync(key), cert: readFileSync(cert) },
  });
  const { url } = await listen(app);
  const { port } = new URL(url);
  const status = await new Promise((resolve, reject) => {
    get({ host: 'localhost', port, path: '/v2/models/echo', ca: readFileSync(cert), family: 4 }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', reject);
  });
  expect([url, status]).toEqual([expect.stringMatching(/^https:/), 200]);
});
