import type { FastifyInstance, FastifyServerOptions } from 'fastify';
import { optionalPackage } from '../core/optional-package';
import { options as checkOptions } from '../core/validate';
import { Access } from './access';
import { Models } from './models';
import { checkServerOptions, SERVER_OPTIONS, type ServerOptions } from './options';
import { answerOthers, registerRoutes } from './plugin';
import { closeUnusedConnections } from './unused-connections';

/**
 * Options of `createServer`: those of the plugin, and two of Fastify's.
 *
 * @example
 * const options: CreateServerOptions = { models: { bert: 'bert.pt2' }, logger: true };
 */
export interface CreateServerOptions extends ServerOptions {
  /** Fastify's log, by pino: what Fastify's option of that name takes. Default false. */
  logger?: FastifyServerOptions['logger'];
  /** Certificate and key for TLS, as Node's `https.createServer` takes them. Default: none, and HTTP. */
  https?: { key: string | Buffer; cert: string | Buffer; ca?: string | Buffer } | null;
}

/**
 * Makes a server of models by the Open Inference Protocol: a Fastify application, to be told to `listen`. It resolves when the
 * models are loaded and warmed up.
 *
 * @param options The models, and who may ask what of them.
 * @returns The application: `listen({ port, host })` starts it, `close()` ends it once what runs is done, and frees the models.
 * @throws TorchError `ERR_MISSING_PACKAGE` where Fastify isn't installed; `ERR_INVALID_ARGUMENT` for options that aren't right;
 *   as `loadModel` for a model that can't be loaded.
 *
 * @example
 * const server = await createServer({ models: { bert: 'bert.pt2' } });
 * await server.listen({ port: 8000 });
 */
export async function createServer(options: CreateServerOptions): Promise<FastifyInstance> {
  const { app, loaded } = openServer(options);
  try {
    await loaded;
    return app;
  } catch (error) {
    await app.close();
    throw error;
  }
}

/** Milliseconds in which a request has to have come in as a whole: Node's own limit, which Fastify would lift. */
const REQUEST_TIMEOUT = 300_000;

/** The same before its models are there: `loaded` says when they are, or why one isn't. */
export function openServer(options: CreateServerOptions): {
  app: FastifyInstance;
  loaded: Promise<void>;
  models: Models;
} {
  const { logger, https, ...own } = checkOptions(
    options,
    [...SERVER_OPTIONS, 'logger', 'https'],
    'the options of createServer',
  );
  const { fastify } = optionalPackage<typeof import('fastify')>('fastify', 'which the server is made with');
  const checked = checkServerOptions(own as ServerOptions);
  const app = fastify({
    logger: logger ?? false,
    requestTimeout: REQUEST_TIMEOUT,
    ...(https ? { https } : {}),
  } as FastifyServerOptions) as unknown as FastifyInstance;
  const access = new Access(checked);
  const models = new Models(checked, app.log);
  answerOthers(app);
  closeUnusedConnections(app);
  app.register(async (scope) => registerRoutes(scope, checked, access, models));
  return { app, loaded: models.load(), models };
}
