import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip, createInflate } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { JsonCaptureOptions } from '../capture/json-capture-options';
import { TorchError } from '../core/errors';
import { invalid } from '../core/validate';
import { renderView } from '../view/render-view';
import { Access } from './access';
import { attentionOutputs, requestedCapture, viewOf } from './attention-request';
import { FrameStream } from './attention-stream';
import type { InferRequest } from './infer-request';
import { byteLength, type EncodedResponse, encodeResponse, type ResponseHead, type WireOutput } from './infer-response';
import { loopTurn } from './loop-turn';
import { Metrics } from './metrics';
import { Models } from './models';
import { type CheckedOptions, checkServerOptions, type ServerOptions } from './options';
import { errorAnswer, RequestError } from './request-error';
import { RequestParser } from './request-parser';
import { clientLeft, withStop } from './request-stop';
import type { ServedModel } from './served-model';
import { withSpan } from './telemetry';

const HEADER_LENGTH = 'inference-header-content-length';

/** Larger answers, in bytes, aren't copied into one. */
const SMALL = 2 ** 16;

/** What the addresses of a model hold. */
interface ModelParameters {
  name: string;
  version?: string;
}

function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}

/**
 * A Fastify plugin that serves models by the Open Inference Protocol (KServe v2, REST). Its routes, hooks and parsers are its
 * own: with a `prefix` it stands beside whatever else the application has. Models load while the application goes on;
 * `/v2/health/ready` says when they are there, and the application's log why one isn't. They are freed when it is closed.
 *
 * @param app The application.
 * @param options The models, and who may ask what of them.
 * @throws TorchError `ERR_INVALID_ARGUMENT` for options that aren't right.
 *
 * @example
 * const app = Fastify({ logger: true });
 * await app.register(libtorchServer, { prefix: '/models', models: { bert: 'bert.pt2' } });
 * await app.listen({ port: 8000 });
 */
export async function libtorchServer(
  app: FastifyInstance,
  options: ServerOptions & { prefix?: string },
): Promise<void> {
  const { prefix: _, ...own } = options;
  const checked = checkServerOptions(own);
  const models = new Models(checked, app.log);
  registerRoutes(app, checked, new Access(checked), models);
  // Without a prefix, what isn't found is the application's.
  if (app.prefix !== '') answerOthers(app);
  models.load().catch((error: unknown) => app.log.error({ err: error }, 'A model could not be loaded'));
}

/** The routes of models that somebody else loads. */
export function registerRoutes(app: FastifyInstance, options: CheckedOptions, access: Access, models: Models): void {
  const metrics = Metrics.of(models, options.metrics);
  acceptBodies(app);
  app.setErrorHandler((error, request, reply) => answerError(error, request, reply));
  app.addHook('onRequest', async (request, { raw }) => {
    await loopTurn();
    if (raw.destroyed) throw clientLeft(); // meanwhile: nothing says so any more
    access.checkSite(askerOf(request));
  });
  app.addHook('preClose', async () => models.drain());
  app.addHook('onSend', async ({ socket }, reply) => {
    // Who doesn't read an answer would keep it, and the request's place, for good.
    socket?.setTimeout?.(options.timeLimit);
    // A connection that is kept would keep the server from ending.
    if (models.draining) reply.header('Connection', 'close');
  });
  const parser = new RequestParser(options);
  app.addHook('onClose', async () => {
    models.dispose(); // when all requests are answered
    await parser.end();
  });

  app.get('/v2/health/live', async () => ({ live: true }));
  app.get('/v2/health/ready', async (_, reply) => reply.code(models.ready ? 200 : 503).send({ ready: models.ready }));

  app.register(async (guarded) => {
    guarded.addHook('onRequest', async (request) => {
      const { name } = request.params as Partial<ModelParameters>;
      const { config } = request.routeOptions;
      if (!(config as { listing?: boolean }).listing) access.checkAsker(askerOf(request), name);
    });
    guarded.get('/v2', { config: { listing: true } }, async (request) => {
      if (!models.all.some(({ name }) => access.mayList(askerOf(request), name)))
        access.checkAsker(askerOf(request), undefined);
      return {
        name: 'libtorch-attention',
        version: packageVersion(),
        extensions: ['binary_tensor_data', 'model_repository', 'attention'],
      };
    });
    guarded.post('/v2/repository/index', { config: { listing: true } }, async (request) => {
      const shown = models.all.filter(({ name }) => access.mayList(askerOf(request), name));
      if (shown.length === 0) access.checkAsker(askerOf(request), undefined);
      return shown.map(({ name, version, ready, reason }) => ({
        name,
        version,
        state: ready ? 'READY' : 'UNAVAILABLE',
        reason,
      }));
    });
    if (metrics) {
      guarded.get('/metrics', async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
      metrics.observe(guarded, models);
    }
    for (const path of ['/v2/models/:name', '/v2/models/:name/versions/:version'])
      registerModelRoutes(guarded, path, options, models, parser, metrics);
  });
}

function registerModelRoutes(
  app: FastifyInstance,
  path: string,
  options: CheckedOptions,
  models: Models,
  parser: RequestParser,
  metrics: Metrics | undefined,
): void {
  const find = (request: FastifyRequest): ServedModel => {
    const { name, version } = request.params as ModelParameters;
    return models.find(name, version);
  };
  /** Before a body is read: one that nobody could run would only take memory, and one that never comes keep its place. */
  const admit = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const { timeLimit } = options;
    const leave = find(request).queue.admit();
    const timer = setTimeout(() => {
      const message = `Expected the body of a request within ${timeLimit} ms but received a part of it`;
      void reply.header('Connection', 'close').send(new TorchError('ERR_TIME_LIMIT', message));
    }, timeLimit);
    request.raw.once('end', () => clearTimeout(timer));
    reply.raw.once('close', () => {
      clearTimeout(timer);
      leave();
    });
  };
  const running = { bodyLimit: options.bodyLimit, onRequest: admit };
  app.get(path, async (request) => {
    const model = find(request);
    return {
      name: model.name,
      versions: models.versionsOf(model.name).map(({ version }) => version),
      platform: 'libtorch',
      ...(await model.describe()),
    };
  });
  app.get(`${path}/ready`, async (request, reply) => {
    const { name, ready } = find(request);
    return await reply.code(ready ? 200 : 503).send({ name, ready });
  });
  app.post(`${path}/infer`, running, async (request, reply) => {
    const model = find(request);
    const given = await requestOf(request, parser);
    const capture = requestedCapture(given, options.maxAttentionBytes);
    const response = await traced(reply, model, given, options, models, async (signal) => {
      if (!capture) {
        const { outputs, batch } = await model.infer(given, signal);
        if (batch !== undefined) metrics?.observeBatch(model, batch);
        const head = { ...headOf(model, given), ...(batch !== undefined && { parameters: { batch } }) };
        return await encodeResponse(head, outputs, given);
      }
      const attentions: WireOutput[] = [];
      const { outputs, unseen } = await model.capture(given, capture, signal, async (stream) => {
        for await (const attention of stream) attentions.push(...(await attentionOutputs(attention)));
      });
      const head = { ...headOf(model, given), ...(unseen.length > 0 && { parameters: { unseen } }) };
      return await encodeResponse(head, [...outputs, ...attentions], given);
    });
    return await sendResponse(reply, response);
  });
  app.post(`${path}/attention`, running, async (request, reply) => {
    const model = find(request);
    const given = await requestOf(request, parser);
    const capture = requestedCapture(given, options.maxAttentionBytes) ?? { maxBytes: options.maxAttentionBytes };
    return /\btext\/html\b/i.test(request.headers.accept ?? '')
      ? await sendPage(reply, model, given, capture, options, models)
      : await sendFrames(reply, model, given, capture, options, models);
  });
}

/** Does what a request asks of a model, within its time and as a span of the trace that it belongs to. */
async function traced<Result>(
  reply: FastifyReply,
  { name, version }: ServedModel,
  given: InferRequest,
  options: CheckedOptions,
  models: Models,
  task: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const operation = reply.request.routeOptions.url?.split('/').at(-1) ?? '';
  const attributes = { 'libtorch.model': name, 'libtorch.version': version, 'libtorch.operation': operation };
  return await withSpan(`libtorch ${operation} ${name}`, attributes, () =>
    withStop(reply, limitOf(given, options), models, task),
  );
}

/** A frame for each attention as soon as it exists, and one with the outputs at the end. */
async function sendFrames(
  reply: FastifyReply,
  model: ServedModel,
  given: InferRequest,
  capture: JsonCaptureOptions,
  options: CheckedOptions,
  models: Models,
): Promise<FastifyReply> {
  const frames = new FrameStream(reply, headOf(model, given));
  try {
    await traced(reply, model, given, options, models, async (signal) => {
      const { outputs, unseen } = await model.capture(given, capture, signal, async (stream) => {
        for await (const attention of stream) {
          await frames.write(await attentionOutputs(attention), undefined, signal);
        }
      });
      await frames.write(outputs, { final: true, unseen }, signal);
      frames.end();
    });
  } catch (error) {
    if (!frames.begun) throw error;
    frames.fail(error);
  }
  return reply;
}

/** The page that `view` makes. */
async function sendPage(
  reply: FastifyReply,
  model: ServedModel,
  given: InferRequest,
  capture: JsonCaptureOptions,
  options: CheckedOptions,
  models: Models,
): Promise<FastifyReply> {
  const { title = model.name, ...tokens } = viewOf(given);
  let page = '';
  await traced(reply, model, given, options, models, async (signal) => {
    await model.capture(given, capture, signal, async (attentions) => {
      page = await renderView([{ attentions, title, ...tokens }], { title });
    });
  });
  return reply.type('text/html; charset=utf-8').header('X-Content-Type-Options', 'nosniff').send(page);
}

/** Answers what is asked for at all other addresses. */
export function answerOthers(app: FastifyInstance): void {
  app.setNotFoundHandler((request, reply) => {
    const received = `${request.method} ${request.url.slice(0, 200)}`;
    const error = new RequestError(
      'ERR_NOT_FOUND',
      `Expected a method and an address of the Open Inference Protocol but received ${received}`,
    );
    return answerError(error, request, reply);
  });
}

/** The body of a request is bytes, whatever it says that it is; curl says that JSON is a form. */
function acceptBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body));
  app.addHook('preParsing', async (request, _, payload) => {
    const encoding = request.headers['content-encoding'];
    if (encoding === undefined || encoding === 'identity') return payload;
    if (encoding !== 'gzip' && encoding !== 'deflate') throw invalid('gzip or deflate', 'Content-Encoding', encoding);
    const decoded = encoding === 'gzip' ? createGunzip() : createInflate();
    let received = 0;
    payload.on('data', (chunk: Buffer) => {
      received += chunk.length;
      // Fastify compares what came to Content-Length, and what it was decoded to with the limit.
      Object.assign(decoded, { receivedEncodedLength: received });
    });
    payload.on('error', (error) => decoded.destroy(error));
    decoded.on('error', () => {}); // also where Fastify has refused the body, and doesn't read it
    return payload.pipe(decoded);
  });
}

function askerOf(request: FastifyRequest): { headers: FastifyRequest['headers']; address: string | undefined } {
  return { headers: request.headers, address: request.socket?.remoteAddress };
}

async function requestOf(request: FastifyRequest, parser: RequestParser): Promise<InferRequest> {
  const body = request.body as Buffer | undefined | null;
  if (!body?.length) throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected a request in the body but received none');
  const length = request.headers[HEADER_LENGTH];
  return await parser.parse(body, Array.isArray(length) ? length.join() : length);
}

/** Milliseconds that a request may take. */
function limitOf({ parameters }: InferRequest, { timeLimit }: CheckedOptions): number {
  const { timeout } = parameters;
  if (timeout === undefined || timeout === 0) return timeLimit;
  if (typeof timeout !== 'number' || !(timeout > 0)) throw invalid('a number of microseconds', 'timeout', timeout);
  return Math.min(timeLimit, timeout / 1000);
}

function headOf({ name, version }: ServedModel, { id }: InferRequest): ResponseHead {
  return { model_name: name, model_version: version, ...(id === undefined ? {} : { id }) };
}

function sendResponse(reply: FastifyReply, { json, binary }: EncodedResponse): FastifyReply {
  const parts = [...json, ...binary];
  if (binary.length === 0) reply.type('application/json');
  else reply.type('application/octet-stream').header(HEADER_LENGTH, byteLength(json));
  const length = byteLength(parts);
  if (length <= SMALL) return reply.send(Buffer.concat(parts));
  return reply.header('Content-Length', length).send(Readable.from(parts.filter((part) => part.length > 0)));
}

function answerError(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const { status, body, retryAfter } = errorAnswer(error);
  // What isn't ready, and what takes too long, is said by the status of the answer.
  if (status === 500) request.log.error({ err: error }, 'A request failed');
  if (retryAfter !== undefined) reply.header('Retry-After', retryAfter);
  if (status === 401) reply.header('WWW-Authenticate', 'Bearer');
  // As bytes: of a string Fastify says what charset it has, and clients look for the type without one.
  return reply
    .code(status)
    .type('application/json')
    .send(Buffer.from(JSON.stringify(body)));
}
