import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import type { Tensor } from '../../lib/index';
import { type CreateServerOptions, createServer } from '../../lib/server';
import { archiveOf } from './script-archive';

/** Servers that tests started, each on a port of its own, and a folder of models made for them. */
const started: FastifyInstance[] = [];
export const folder = mkdtempSync(join(tmpdir(), 'server-'));

afterEach(async () => {
  for (const app of started.splice(0)) await app.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A TorchScript file whose `forward` is written out. */
export function scriptFile(name: string, forward: string, attributes = ''): string {
  const path = join(folder, `${name}.pt`);
  writeFileSync(path, archiveOf(forward, attributes));
  return path;
}

/** Gives back what it is given. */
export const echo = (): string =>
  scriptFile('echo', 'def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  return x\n');

/** Goes on until it is stopped, unless `x` is 0. */
export const slow = (): string =>
  scriptFile(
    'slow',
    'def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  y = x\n  while bool(torch.sum(y)):\n    y = torch.mul(y, 1)\n  return y\n',
  );

/** Counts so far, which takes as long as it is told. */
export const counting = (): string =>
  scriptFile(
    'counting',
    'def forward(self: __torch__.M, x: Tensor, times: int) -> Tensor:\n  y = x\n  for i in range(times):\n    y = torch.add(y, 1)\n  return y\n',
  );

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any form
  json: any;
  bytes: Buffer;
}

/** Listens on a free port and asks over HTTP. */
export class Client {
  constructor(
    readonly url: string,
    private readonly headers: Record<string, string> = {},
  ) {}

  with(headers: Record<string, string>): Client {
    return new Client(this.url, { ...this.headers, ...headers });
  }

  async #ask(path: string, init: RequestInit): Promise<Answer> {
    const response = await fetch(`${this.url}${path}`, { ...init, headers: { ...this.headers, ...init.headers } });
    const bytes = Buffer.from(await response.arrayBuffer());
    const length = Number(response.headers.get('inference-header-content-length') ?? bytes.length);
    let json: unknown;
    try {
      json = JSON.parse(bytes.subarray(0, length).toString());
    } catch {
      json = undefined;
    }
    return { status: response.status, headers: response.headers, json, bytes: bytes.subarray(length) };
  }

  get(path: string): Promise<Answer> {
    return this.#ask(path, {});
  }

  post(path: string, body: unknown, init: RequestInit = {}): Promise<Answer> {
    const isBytes = body instanceof Uint8Array;
    return this.#ask(path, {
      method: 'POST',
      body: isBytes ? new Uint8Array(body) : JSON.stringify(body),
      ...init,
      headers: { ...(isBytes ? {} : { 'Content-Type': 'application/json' }), ...init.headers },
    });
  }

  infer(model: string, inputs: object[], more: object = {}, init: RequestInit = {}): Promise<Answer> {
    return this.post(`/v2/models/${model}/infer`, { inputs, ...more }, init);
  }
}

export async function listen(app: FastifyInstance): Promise<Client> {
  started.push(app);
  return new Client(await app.listen({ port: 0, host: '127.0.0.1' }));
}

export async function serve(models: CreateServerOptions['models'], options: object = {}): Promise<Client> {
  return await listen(await createServer({ models, ...options }));
}

/** The bytes of a tensor, in the order in which they are sent. */
export function bytesOf(tensor: Tensor): Buffer {
  const array = tensor.toTypedArray();
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

/** The body of a request with binary data, and the length of its JSON. */
export function binaryBody(
  inputs: { name: string; datatype: string; shape: readonly number[]; bytes: Uint8Array }[],
  more: object = {},
): { body: Buffer; headers: Record<string, string> } {
  const header = Buffer.from(
    JSON.stringify({
      inputs: inputs.map(({ bytes, ...each }) => ({ ...each, parameters: { binary_data_size: bytes.length } })),
      ...more,
    }),
  );
  return {
    body: Buffer.concat([header, ...inputs.map(({ bytes }) => bytes)]),
    headers: { 'Inference-Header-Content-Length': String(header.length), 'Content-Type': 'application/octet-stream' },
  };
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await wait(20);
}

/** A log, and its lines so far. */
export function logged(): [{ stream: Writable }, () => string[]] {
  let text = '';
  const stream = new Writable({
    write(chunk, _, done) {
      text += chunk;
      done();
    },
  });
  return [{ stream }, () => text.split('\n')];
}
