import { createServer, libtorchServer } from '../../lib/server';
import { listen } from './server-fixtures';

jest.mock('fastify', () => {
  throw new Error("Cannot find module 'fastify'");
});
jest.mock('prom-client', () => {
  throw new Error("Cannot find module 'prom-client'");
});

test('without Fastify the error says what to install', async () => {
  await expect(createServer({ models: { a: 'a.pt' } })).rejects.toMatchObject({
    code: 'ERR_MISSING_PACKAGE',
    message: expect.stringMatching(/npm install fastify/),
  });
  expect(libtorchServer).toBeInstanceOf(Function);
});

describe('without prom-client', () => {
  const { fastify } = jest.requireActual<typeof import('fastify')>('fastify');

  test('a server has no metrics, unless they are asked for: then the error says what to install', async () => {
    const app = fastify();
    await app.register(libtorchServer, { models: { a: 'a.pt' } });
    const client = await listen(app);
    expect((await client.get('/v2/health/live')).status).toBe(200);
    expect((await client.get('/metrics')).status).toBe(404);
    const wanting = fastify();
    const registered = async () => await wanting.register(libtorchServer, { models: { a: 'a.pt' }, metrics: true });
    await expect(registered()).rejects.toMatchObject({
      code: 'ERR_MISSING_PACKAGE',
      message: expect.stringMatching(/npm install prom-client/),
    });
  });
});
