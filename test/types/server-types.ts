// What programs may write with the server, and what they may not.

import Fastify from 'fastify';
import type { ScriptModule } from 'libtorch-attention';
import { type ApiKey, createServer, libtorchServer, type ServerOptions } from 'libtorch-attention/server';

declare const model: ScriptModule;

export async function served(): Promise<string> {
  const key: ApiKey = { env: 'API_KEY', models: ['a'] };
  const options: ServerOptions = {
    models: {
      a: 'a.pt',
      b: model,
      c: { source: 'c.pt2', dtype: 'bfloat16' },
      d: ['d.pt', { source: 'e.pt', version: '2' }],
    },
    apiKeys: [key],
  };
  const app = Fastify();
  await app.register(libtorchServer, { prefix: '/ml', ...options });
  // @ts-expect-error: a port is told to listen
  await createServer({ ...options, port: 8000 });
  // @ts-expect-error: a signal ends one load, and a server has many
  await createServer({ models: { a: { source: 'a.pt', signal: AbortSignal.timeout(1) } } });
  return await (await createServer({ ...options, logger: { level: 'warn' } })).listen({ port: 8000 });
}
