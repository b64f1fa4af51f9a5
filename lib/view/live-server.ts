import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import { promisify } from 'node:util';
import { deflateRaw } from 'node:zlib';
import { TorchError } from '../core/errors';
import { reasonOf } from '../core/validate';
import { liveHtml } from './live-html';

const deflate = promisify(deflateRaw);

/** What is typed into the page. */
export interface LiveRequest {
  text: string;
  textPair?: string;
  decoderText?: string;
}

/** A text that was run. */
export interface LiveView {
  /** The document, in UTF-8. */
  html: Buffer;
  /** What is held beside it. */
  heldBytes: number;
  /** The exact weights of one matrix: heads by their place in the page, their mean behind them. */
  full(attention: number, head: number, signal: AbortSignal): Promise<Float32Array>;
}

/** The model behind the page. */
export interface LiveModel {
  title: string;
  /** Which texts it takes beside the first. */
  fields: readonly ('textPair' | 'decoderText')[];
  /** Those without which it can't run. */
  required?: readonly ('textPair' | 'decoderText')[];
  /** Runs it; `base` is where the page asks for weights at full resolution. */
  view(
    request: LiveRequest,
    base: string,
    signal: AbortSignal,
    onProgress: (layers: number) => void,
  ): Promise<LiveView>;
}

/** Pages of so many bytes can be gone back to, of at most so many texts; the last one can be whatever its size. */
const KEPT_BYTES = 100_000_000;
const KEPT = 20;
const MOST_BYTES = 1_000_000;

/**
 * A page in which texts are typed, for whoever has its address: each request needs the token in it, and comes from the page
 * itself. Nothing but Node's own HTTP server.
 */
export class LiveServer {
  private readonly token = randomBytes(18).toString('base64url');
  private readonly server: Server;
  private readonly views = new Map<string, LiveView>();
  private count = 0;

  constructor(
    private readonly model: LiveModel,
    private readonly host: string,
  ) {
    this.server = createServer((request, response) => {
      this.answer(request, response).catch((error: unknown) => {
        if (response.headersSent) response.destroy();
        else refuse(response, 500, reasonOf(error));
      });
    });
  }

  /** Starts to listen. @returns The address of the page, token included. */
  async listen(port: number): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', (error) => {
        const received = `${this.host}:${port}: ${error.message}`;
        reject(
          new TorchError('ERR_INVALID_ARGUMENT', `Expected an address to listen on but received ${received}`, {
            cause: error,
          }),
        );
      });
      this.server.listen(port, this.host, resolve);
    });
    return `http://${this.authority}/${this.token}/`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private get authority(): string {
    const { port } = this.server.address() as AddressInfo;
    return `${this.host.includes(':') ? `[${this.host}]` : this.host}:${port}`;
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('Referrer-Policy', 'no-referrer');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
    response.setHeader('X-Frame-Options', 'SAMEORIGIN');
    if (!this.isOwn(request)) return refuse(response, 403, 'This page is for the machine that it runs on.');
    const [token, ...path] = (request.url ?? '')
      .replace(/^\//, '')
      .replace(/[?#].*$/, '')
      .split('/');
    if (!this.isToken(token ?? ''))
      return refuse(response, 403, 'The address lacks the token that was printed with it.');
    const [what = '', id = '', attention = '', head = ''] = path;
    if (what === 'run') return await this.run(request, response);
    if (request.method !== 'GET') return refuse(response, 405, 'Expected GET.');
    if (what === '') return send(response, 'text/html; charset=utf-8', liveHtml(this.model));
    const view = this.views.get(id);
    const wasThere = /^\d+$/.test(id) && Number(id) < this.count;
    if (!view && wasThere && (what === 'view' || what === 'full'))
      return refuse(response, 410, 'This text was run too long ago, and its page is not kept any more: run it again.');
    if (!view || (what !== 'view' && what !== 'full')) return refuse(response, 404, 'Nothing is here.');
    if (what === 'view') return send(response, 'text/html; charset=utf-8', view.html);
    const weights = await view.full(Number(attention), Number(head), endOf(response));
    send(
      response,
      'application/octet-stream',
      await deflate(new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength), { level: 1 }),
    );
  }

  /** Whether a request names this server, and no other page made it: a name of another's may point here, too. */
  private isOwn({ headers }: IncomingMessage): boolean {
    const { port } = this.server.address() as AddressInfo;
    const hosts = [this.authority, `localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`];
    const { host, origin } = headers;
    // Listening on all addresses, any of them is this server; a name could be made to point here.
    const any =
      (this.host === '0.0.0.0' || this.host === '::') &&
      isIP((host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, ''));
    if (!host || !(any || hosts.includes(host))) return false;
    return origin === undefined || origin === `http://${host}`;
  }

  private isToken(given: string): boolean {
    const [a, b] = [Buffer.from(given), Buffer.from(this.token)];
    return a.length === b.length && timingSafeEqual(a, b);
  }

  /** Runs the model on what was typed: a line of JSON for each layer, one at the end. Who hangs up stops the run. */
  private async run(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'POST' || request.headers['content-type'] !== 'application/json')
      return refuse(response, 405, 'Expected POST with JSON.');
    const body = await readBody(request);
    if (body === undefined) return refuse(response, 413, `Expected a text of at most ${MOST_BYTES} bytes.`);
    const typed = parseRequest(body);
    if (!typed) return refuse(response, 400, 'Expected {"text": "…"}.');
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    const line = (value: object) => response.write(`${JSON.stringify(value)}\n`);
    const signal = endOf(response);
    const id = String(this.count++);
    try {
      const view = await this.model.view(typed, `../full/${id}/`, signal, (layers) => line({ layers }));
      this.keep(id, view);
      line({ view: `view/${id}` });
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (!signal.aborted) line({ error: reasonOf(error), ...(typeof code === 'string' && { code }) });
    }
    response.end();
  }

  private keep(id: string, view: LiveView): void {
    this.views.set(id, view);
    let bytes = 0;
    for (const { html, heldBytes } of this.views.values()) bytes += html.length + heldBytes;
    for (const [oldest, { html, heldBytes }] of this.views) {
      if (oldest === id || (bytes <= KEPT_BYTES && this.views.size <= KEPT)) break;
      this.views.delete(oldest);
      bytes -= html.length + heldBytes;
    }
  }
}

/** Aborts when the other side is gone before all was sent. */
function endOf(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) controller.abort();
  });
  return controller.signal;
}

function send(response: ServerResponse, type: string, body: string | Buffer): void {
  response.writeHead(200, { 'Content-Type': type }).end(body);
}

function refuse(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(`${message}\n`);
}

async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    // What is too much is read to its end, or the answer would be lost with the connection.
    if (size <= MOST_BYTES) parts.push(part);
  }
  return size > MOST_BYTES ? undefined : Buffer.concat(parts).toString('utf8');
}

function parseRequest(body: string): LiveRequest | undefined {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return undefined;
  }
  const { text, textPair, decoderText } = (value ?? {}) as Record<string, unknown>;
  if (typeof text !== 'string') return undefined;
  const optional = (name: string, given: unknown) =>
    typeof given === 'string' && given !== '' ? { [name]: given } : {};
  return { text, ...optional('textPair', textPair), ...optional('decoderText', decoderText) };
}
