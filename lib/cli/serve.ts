import { readFile } from 'node:fs/promises';
import { basename, dirname, extname, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { TorchError } from '../core/errors';
import { options as checkOptions, integer, invalid, isPlainObject, optionalString, reasonOf } from '../core/validate';
import { readJsonValue } from '../formats/json';
import { SLEEPING_THREADS } from '../libtorch/wait-policy';
import type { CreateServerOptions } from '../server';
import { collect, parseBytes, parseCount, parseDuration } from './selection';

/** What stands in the file of `--config`: the options of `createServer`, and where to listen. */
interface ServeConfig extends Omit<CreateServerOptions, 'https'> {
  host?: string;
  port?: number;
  /** Paths of files. */
  tls?: { key: string; cert: string; ca?: string };
  /** Milliseconds that requests under way have when the server is told to end. */
  shutdownLimit?: number;
}

interface CommandOptions {
  port?: number;
  host?: string;
  config?: string;
  trusted?: boolean;
  public?: boolean;
  apiKeyEnv?: string[];
  allowedHost?: string[];
  device?: string;
  maxBatch?: number;
  maxDelay?: number;
  memoryBudget?: number;
  onDemand?: boolean;
  logLevel?: string;
  shutdownLimit?: number;
}

const DEFAULT_HOST = '127.0.0.1';
const DEFAULT_PORT = 8000;
const DEFAULT_SHUTDOWN_LIMIT = 30_000;
/** What can't be stopped, an operator under way, isn't waited for any longer than this. */
const LAST_WAIT = 2000;

function parsePort(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65535)
    throw new InvalidArgumentError('Expected a port from 0 to 65535.');
  return Number(text);
}

/** Adds `serve`: models over HTTP. */
export function registerServe(program: Command): void {
  program
    .command('serve')
    .description('serve models by the Open Inference Protocol (KServe v2), with their attention as an extension')
    .argument('[models...]', 'files of models, or NAME=FILE; the name is that of the file by default')
    .option('--port <port>', 'the port to listen on (default: 8000)', parsePort)
    .option('--host <host>', 'the address to listen on (default: 127.0.0.1)')
    .option('--config <file>', 'a JSON file of options, which those given here go before')
    .option('--trusted', 'load the models named here as programs that may do anything (files of your own)')
    .option('--device <device>', "where the models named here run: 'cpu', 'cuda', 'cuda:1'")
    .option('--api-key-env <variable>', 'an environment variable with a key that requests have to have', collect)
    .option('--allowed-host <name>', 'a name that the server is reached by, beside localhost and addresses', collect)
    .option('--max-batch <rows>', 'compute requests together, up to so many rows (default: 1)', parseCount)
    .option('--max-delay <time>', 'how long one waits for others of its batch (default: 5ms)', parseDuration)
    .option('--memory-budget <size>', 'what all models may take together: 500MB, 8GiB (default: no limit)', parseBytes)
    .option('--on-demand', 'load models when they are asked for, and free idle ones where there is no room for others')
    .option('--public', 'answer other machines without a key, too')
    .option('--log-level <level>', 'trace, debug, info, warn, error, fatal or silent (default: info)')
    .option(
      '--shutdown-limit <time>',
      'how long requests under way have once it is told to end (default: 30s)',
      parseDuration,
    )
    .addHelpText(
      'after',
      `
Clients of the protocol (tritonclient, KServe's …) speak to it; so does curl:
  curl http://127.0.0.1:8000/v2/models/bert
  curl http://127.0.0.1:8000/v2/models/bert/infer -d '{"inputs":[{"name":"input_ids","datatype":"INT64","shape":[1,2],"data":[101,102]}]}'

SIGTERM ends it once what runs is done. It needs the package fastify; docs/serving.md says the rest.

Examples:
  libtorch-attention serve bert.pt2
  libtorch-attention serve bert=models/bert.pt2 vit=models/vit.pt --port 9000
  API_KEY=… libtorch-attention serve bert.pt2 --host 0.0.0.0 --api-key-env API_KEY --allowed-host models.internal
  libtorch-attention serve --config serve.json`,
    )
    .action((models: string[], options: CommandOptions) => runServe(models, options));
}

/** `NAME=FILE`, or a file whose name it is. */
function namedModel(text: string): [name: string, path: string] {
  const [, name, path] = /^([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)$/s.exec(text) ?? [];
  return name && path ? [name, path] : [basename(text, extname(text)), text];
}

/** Paths in a configuration count from where it is. */
function resolved(config: ServeConfig, folder: string): ServeConfig {
  const source = (given: unknown): unknown => {
    if (typeof given === 'string') return resolve(folder, given);
    if (Array.isArray(given)) return given.map(source);
    if (!isPlainObject(given)) return given;
    const { source: path, warmUp } = given;
    const warmUps = Array.isArray(warmUp)
      ? warmUp.map((each) => (typeof each === 'string' ? resolve(folder, each) : each))
      : warmUp;
    return {
      ...given,
      ...('source' in given && { source: source(path) }),
      ...('warmUp' in given && { warmUp: warmUps }),
    };
  };
  const models = isPlainObject(config.models)
    ? Object.fromEntries(Object.entries(config.models).map(([name, each]) => [name, source(each)]))
    : config.models;
  const { tls } = config;
  if (tls === undefined) return { ...config, models: models as ServeConfig['models'] };
  const { key, cert, ca } = checkOptions(tls, ['key', 'cert', 'ca'], 'tls');
  for (const [name, path] of Object.entries({ key, cert })) {
    if (typeof path !== 'string') throw invalid('the path of a file', `${name} of tls`, path);
  }
  optionalString(ca, 'ca of tls');
  const paths = {
    key: resolve(folder, key),
    cert: resolve(folder, cert),
    ...(ca !== undefined && { ca: resolve(folder, ca) }),
  };
  return { ...config, models: models as ServeConfig['models'], tls: paths };
}

async function readConfig(path: string): Promise<ServeConfig> {
  let config: unknown;
  try {
    config = await readJsonValue(path);
  } catch (error) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected options as JSON in ${path} but they can't be read: ${reasonOf(error)}`,
      {
        cause: error,
      },
    );
  }
  if (!isPlainObject(config)) throw invalid('an object', path, config);
  return resolved(config as unknown as ServeConfig, dirname(resolve(path)));
}

/** What the file and the command line say together. */
async function configOf(models: readonly string[], options: CommandOptions): Promise<ServeConfig> {
  const config: ServeConfig = options.config === undefined ? { models: {} } : await readConfig(options.config);
  const given = models.map((text) => {
    const [name, source] = namedModel(text);
    const { trusted, device, maxBatch, maxDelay } = options;
    const given = {
      source,
      untrusted: !trusted,
      ...(device && { device }),
      ...(maxBatch && { maxBatch }),
      ...(maxDelay !== undefined && { maxDelay }),
    };
    return [name, given] as const;
  });
  const twice = given.find(([name], i) => given.findIndex(([other]) => other === name) !== i);
  if (twice) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected models of different names but received '${twice[0]}' twice: NAME=FILE names them`,
    );
  }
  const keys = (options.apiKeyEnv ?? []).map((env) => ({ env }));
  return {
    ...config,
    models: { ...config.models, ...Object.fromEntries(given) },
    ...(keys.length > 0 && { apiKeys: [...(config.apiKeys ?? []), ...keys] }),
    ...(options.allowedHost && { allowedHosts: [...(config.allowedHosts ?? []), ...options.allowedHost] }),
    ...(options.public && { public: true }),
    ...(options.onDemand && { onDemand: true }),
    ...(options.memoryBudget !== undefined && { memoryBudget: options.memoryBudget }),
    ...(options.host !== undefined && { host: options.host }),
    ...(options.port !== undefined && { port: options.port }),
    ...(options.shutdownLimit !== undefined && { shutdownLimit: options.shutdownLimit }),
    logger: config.logger ?? { level: options.logLevel ?? 'info' },
  };
}

async function readTls({
  key,
  cert,
  ca,
}: NonNullable<ServeConfig['tls']>): Promise<NonNullable<CreateServerOptions['https']>> {
  const read = async (path: string): Promise<Buffer> => {
    try {
      return await readFile(path);
    } catch (error) {
      throw new TorchError('ERR_INVALID_ARGUMENT', `Expected a file of tls that can be read: ${reasonOf(error)}`, {
        cause: error,
      });
    }
  };
  return { key: await read(key), cert: await read(cert), ...(ca !== undefined && { ca: await read(ca) }) };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\./.test(host);
}

async function runServe(given: readonly string[], options: CommandOptions): Promise<void> {
  const { host: hostOption, port: portOption, tls, shutdownLimit: limit, ...own } = await configOf(given, options);
  const host = optionalString(hostOption, 'host') ?? DEFAULT_HOST;
  const port = portOption === undefined ? DEFAULT_PORT : integer(portOption, 'port', 0, 65535);
  const shutdownLimit = limit === undefined ? DEFAULT_SHUTDOWN_LIMIT : integer(limit, 'shutdownLimit', 0);
  if (!isLoopback(host) && !own.public && !own.apiKeys?.length) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected keys (--api-key-env, or apiKeys in the configuration), or --public, to listen on ${host}, which other machines reach, but received neither`,
    );
  }
  Object.assign(process.env, { ...SLEEPING_THREADS, ...process.env });
  const { openServer } = require('../server/create-server') as typeof import('../server/create-server');
  const { app, loaded, models } = openServer({ ...own, ...(tls && { https: await readTls(tls) }) });
  let ending = false;
  const end = async (signal: string): Promise<void> => {
    if (ending) process.exit(1);
    ending = true;
    app.log.info({ signal, running: models.running }, 'Ending once what runs is done');
    const cut = setTimeout(() => {
      process.exitCode = 1;
      app.log.warn({ running: models.running }, 'Requests under way have had their time: they are stopped');
      models.stop();
      setTimeout(() => process.exit(1), LAST_WAIT).unref();
    }, shutdownLimit);
    app.server.close(); // no connections any more, while those that there are go on
    await app.close();
    clearTimeout(cut);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void end(signal));
  try {
    await listen(app, host, port);
    await loaded;
    if (!ending) app.log.info({ models: models.all.map(({ name, version }) => `${name}/${version}`) }, 'Ready');
  } catch (error) {
    if (ending) return; // the load was stopped
    ending = true;
    loaded.catch(() => {});
    await app.close();
    throw error;
  }
}

async function listen(
  app: ReturnType<typeof import('../server/create-server').openServer>['app'],
  host: string,
  port: number,
): Promise<void> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected an address to listen on but received ${host}:${port}: ${reasonOf(error)}`,
      {
        cause: error,
      },
    );
  }
}
