import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

const escaped = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

/** As much of S3 as a store speaks to: objects of one bucket, in memory, listed two a page. */
export class S3Server {
  readonly objects = new Map<string, Buffer>();
  /** Requests that are to fail, each once. */
  failures = 0;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url as string, 'http://localhost');
      const key = decodeURIComponent(pathname.replace(/^\/bucket\/?/, ''));
      const chunks: Buffer[] = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        const answer = (status: number, body: Buffer | string = ''): void => {
          response.writeHead(status, { 'Content-Type': 'application/xml' }).end(body);
        };
        const error = (status: number, code: string): void => answer(status, `<Error><Code>${code}</Code></Error>`);
        if (this.failures > 0) {
          --this.failures;
          return error(503, 'SlowDown');
        }
        if (request.method === 'PUT') {
          this.objects.set(key, contentOf(Buffer.concat(chunks), request.headers['content-encoding']));
          return answer(200);
        }
        if (request.method === 'DELETE') {
          this.objects.delete(key);
          return answer(204);
        }
        if (key !== '') {
          const bytes = this.objects.get(key);
          return bytes ? answer(200, bytes) : error(404, 'NoSuchKey');
        }
        const after = searchParams.get('continuation-token') ?? '';
        const names = [...this.objects.keys()]
          .sort()
          .filter((name) => name.startsWith(searchParams.get('prefix') ?? '') && name > after);
        const page = names.slice(0, 2);
        const listed = page.map(
          (name) => `<Contents><Key>${escaped(name)}</Key><Size>${this.objects.get(name)?.length}</Size></Contents>`,
        );
        const more = names.length > page.length;
        const next = more ? `<NextContinuationToken>${escaped(page.at(-1) as string)}</NextContinuationToken>` : '';
        answer(200, `<ListBucketResult><IsTruncated>${more}</IsTruncated>${next}${listed.join('')}</ListBucketResult>`);
      });
    });
  }

  static async start(): Promise<S3Server> {
    const server = new S3Server();
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  /** The environment that the AWS SDK finds it by. */
  get environment(): Record<string, string> {
    return {
      AWS_ENDPOINT_URL: `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`,
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: 'key',
      AWS_SECRET_ACCESS_KEY: 'secret',
    };
  }

  async end(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Bodies may come in chunks of their own, each with its length, and a checksum behind. */
function contentOf(body: Buffer, encoding: string | undefined): Buffer {
  if (encoding !== 'aws-chunked') return body;
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const line = body.indexOf('\r\n', at);
    const size = Number.parseInt(body.subarray(at, line).toString(), 16);
    if (!(size > 0)) return Buffer.concat(parts);
    parts.push(body.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
}
