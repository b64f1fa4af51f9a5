import { createHash } from 'node:crypto';
import { request } from 'node:http';
import { createServer } from '../../lib/server';
import { Access, type Asker } from '../../lib/server/access';
import type { CheckedOptions } from '../../lib/server/options';
import { type Client, echo, serve } from './server-fixtures';

const KEY = 'a key of sixteen or more';
const OTHER = 'another-key-for-one-model';
const x = { name: 'x', datatype: 'FP32', shape: [1], data: [1] };

function accessOf(options: Partial<CheckedOptions>): Access {
  return new Access({ models: [], apiKeys: [], public: false, allowedHosts: [], allowedOrigins: [], ...options });
}

function refusal(check: () => void): string | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** `fetch` sets the host itself. */
async function statusWith(client: Client, headers: Record<string, string>): Promise<number> {
  const { hostname, port } = new URL(client.url);
  return await new Promise((resolve, reject) => {
    request({ hostname, port, path: '/v2', headers }, (response) => {
      response.resume();
      resolve(response.statusCode as number);
    })
      .on('error', reject)
      .end();
  });
}

test('a name that was made to point here, and the page of another site, are refused', async () => {
  const client = await serve(
    { echo: echo() },
    { allowedHosts: ['models.internal'], allowedOrigins: ['https://lab.example'] },
  );
  for (const host of [
    'localhost',
    'localhost:8000',
    '127.0.0.1:1',
    '[::1]:8000',
    '10.1.2.3',
    'models.internal:80',
    'LOCALHOST',
  ]) {
    expect([host, await statusWith(client, { Host: host })]).toEqual([host, 200]);
  }
  for (const host of ['evil.example', 'localhost.evil.example', 'models.internal.evil:1', '127.0.0.1.evil.example']) {
    expect([host, await statusWith(client, { Host: host })]).toEqual([host, 403]);
  }
  const { host } = new URL(client.url);
  for (const origin of [`http://${host}`, 'https://lab.example'])
    expect(await statusWith(client, { Origin: origin })).toBe(200);
  for (const origin of ['https://evil.example', 'null', 'http://localhost:1']) {
    expect([origin, await statusWith(client, { Origin: origin })]).toEqual([origin, 403]);
  }
});

test('a request without a host, or with what is none, is refused', () => {
  for (const host of [undefined, '', ':', '[', 'a:b:c', '127.0.0.1@evil']) {
    const headers = host === undefined ? {} : { host };
    expect([host, refusal(() => accessOf({}).checkSite({ headers, address: undefined }))]).toEqual([
      host,
      'ERR_FORBIDDEN',
    ]);
  }
});

test('without keys only this machine may ask, unless the server is public', () => {
  const asker = (address: string | undefined): Asker => ({ headers: {}, address });
  const closed = accessOf({});
  for (const address of ['127.0.0.1', '127.1.2.3', '::1', '::ffff:127.0.0.1', undefined]) {
    expect(refusal(() => closed.checkAsker(asker(address), 'm'))).toBeUndefined();
  }
  for (const address of ['10.0.0.1', '::ffff:10.0.0.1', 'fe80::1', '1270.0.0.1']) {
    expect(refusal(() => closed.checkAsker(asker(address), 'm'))).toBe('ERR_FORBIDDEN');
    expect(refusal(() => accessOf({ public: true }).checkAsker(asker(address), 'm'))).toBeUndefined();
  }
});

test('keys open what they are for; whether a server lives is no secret', async () => {
  const sha256 = createHash('sha256').update(KEY).digest('hex');
  const client = await serve({ a: echo(), b: echo() }, { apiKeys: [{ sha256 }, { key: OTHER, models: ['a'] }] });
  expect((await client.get('/v2/health/live')).status).toBe(200);
  expect((await client.get('/v2/health/ready')).status).toBe(200);
  for (const path of ['/v2', '/v2/models/a', '/v2/models/a/ready', '/v2/models/none']) {
    const { status, json, headers } = await client.get(path);
    expect([path, status, json.code, headers.get('www-authenticate')]).toEqual([
      path,
      401,
      'ERR_UNAUTHORIZED',
      'Bearer',
    ]);
  }
  expect((await client.infer('a', [x])).status).toBe(401);
  expect((await client.with({ Authorization: `Bearer ${KEY}x` }).infer('a', [x])).status).toBe(401);
  const all = client.with({ 'X-API-Key': KEY });
  const one = client.with({ Authorization: `Bearer ${OTHER}` });
  expect((await all.infer('a', [x])).status).toBe(200);
  expect((await all.infer('b', [x])).status).toBe(200);
  expect((await one.infer('a', [x])).status).toBe(200);
  expect(await one.infer('b', [x])).toMatchObject({ status: 403, json: { code: 'ERR_FORBIDDEN' } });
  expect((await one.get('/v2')).status).toBe(200);
  const listed = async (asker: Client) =>
    (await asker.post('/v2/repository/index', {})).json.map((each: { name: string }) => each.name);
  expect(await listed(all)).toEqual(['a', 'b']);
  expect(await listed(one)).toEqual(['a']);
  expect((await client.post('/v2/repository/index', {})).status).toBe(401);
});

test.each([
  ['a short key', [{ key: 'short' }], /length of apiKeys\[0\]/],
  ['two in one', [{ key: KEY, env: 'KEY' }], /one of key, sha256 and env/],
  ['none', [{}], /one of key, sha256 and env/],
  ['a variable that is not set', [{ env: 'LIBTORCH_ATTENTION_NO_SUCH_KEY' }], /isn't set/],
  ['a digest that is none', [{ sha256: 'abc' }], /64 hexadecimal digits/],
  ['a key of a model that is not there', [{ key: KEY, models: ['b'] }], /models of apiKeys\[0\]/],
  ['an unknown option', [{ kee: KEY }], /'kee'/],
])('%s is no key, and never shown', async (_, apiKeys, message) => {
  const error = await createServer({ models: { a: echo() }, apiKeys: apiKeys as never }).catch(
    (thrown: Error) => thrown,
  );
  expect(error).toMatchObject({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) });
  expect((error as Error).message).not.toContain(KEY);
});
