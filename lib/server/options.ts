import { TorchError } from '../core/errors';
import { getConcurrency } from '../core/runtime';
import {
  options as checkOptions,
  elements,
  entriesOf,
  integer,
  invalid,
  isPlainObject,
  optionalBoolean,
  optionalString,
  shortened,
} from '../core/validate';
import type { ExportedProgram } from '../model/exported-program';
import { HookableModel } from '../model/hookable-model';
import type { LoadOptions } from '../model/load-options';
import type { ScriptModule } from '../model/script-module';

/**
 * A model of a server, and how it is loaded and run.
 *
 * @example
 * const options: ServedModelOptions = { source: 'bert.pt2', untrusted: false, concurrency: 2, warmUp: ['bert-request.json'] };
 */
export interface ServedModelOptions extends Omit<LoadOptions, 'signal' | 'untrusted'> {
  /** The path of a file, as `loadModel` takes it, or a model that is loaded: that one is the caller's to dispose. */
  source: string | ScriptModule | ExportedProgram;
  /** Its version in addresses and answers. Default `'1'`. */
  version?: string;
  /**
   * As in `LoadOptions`, but true by default: whoever may put a file where a server reads it may make the server run it.
   * `false` for files of your own.
   */
  untrusted?: boolean;
  /**
   * Requests that run, three times each, before the model is ready: bodies of `infer` requests, or paths of JSON files of
   * such. A TorchScript file doesn't say what its tensors are: the metadata has their types and ranks of these. Default: none.
   */
  warmUp?: readonly (string | object)[];
  /** Runs of this model at once, at least 1. Default: that of the server. */
  concurrency?: number;
  /** Requests that wait for this model, at least 0, beyond which others are answered 429. Default: that of the server. */
  maxQueue?: number;
  /**
   * Rows, at least 1, that requests which differ in their first dimension alone may have together to be computed in one run.
   * Answers then say so (`batch` in their parameters): their last bits may differ from those of single runs. The first batch is
   * compared to single runs, and a model that mixes rows isn't batched. Default 1: no batches.
   */
  maxBatch?: number;
  /** Milliseconds, at least 0, that a request waits for others of its batch. Default 5. */
  maxDelay?: number;
  /**
   * Whether it is loaded by the first request that needs it. While nobody uses it, it may make room for others within
   * `memoryBudget`, the least recently used one first. Default: that of the server.
   */
  onDemand?: boolean;
}

/**
 * A key that requests are made with: `Authorization: Bearer …` or `X-API-Key: …`. One of `key`, `sha256` and `env`.
 *
 * @example
 * const key: ApiKey = { env: 'BERT_KEY', models: ['bert'] };
 */
export interface ApiKey {
  /** The key itself, of at least 16 characters. */
  key?: string;
  /** Its SHA-256 in hexadecimal digits, so that the configuration holds no secret. */
  sha256?: string;
  /** The environment variable that it is in. */
  env?: string;
  /** The names of the models that it opens. Default: all, and the metrics. */
  models?: readonly string[];
}

/**
 * Options of `createServer` and of the plugin `libtorchServer`.
 *
 * @example
 * const options: ServerOptions = { models: { bert: 'bert.pt2' }, timeLimit: 5000, apiKeys: [{ env: 'API_KEY' }] };
 */
export interface ServerOptions {
  /** Models by the name that they have in addresses; an array for several versions of one. */
  models: {
    readonly [name: string]:
      | string
      | ScriptModule
      | ExportedProgram
      | ServedModelOptions
      | readonly (string | ServedModelOptions)[];
  };
  /** Runs of one model at once, at least 1. Default: `getConcurrency()`. */
  concurrency?: number;
  /** Requests that wait for one model, at least 0, beyond which others are answered 429. Default 64. */
  maxQueue?: number;
  /**
   * Milliseconds, at least 1, that a request may take, waiting for its turn included: then its run is stopped, and the answer is
   * 504. A request may ask for less (its parameter `timeout`, in microseconds). Default 60,000.
   */
  timeLimit?: number;
  /** Bytes that the body of a request may have, compressed or not, at least 1. Default 64 MiB. */
  bodyLimit?: number;
  /** Bytes of attention that one request may capture (`maxBytes` of captures), at least 1. Default 256 MiB. */
  maxAttentionBytes?: number;
  /**
   * Bytes, at least 1, that the parameters of all models may take together. Idle models with `onDemand` make room for others;
   * beyond that, one that there is no room for isn't loaded (`ERR_MEMORY_LIMIT`), and a changed file, which is loaded beside the
   * model that it replaces, neither. Default: no limit.
   */
  memoryBudget?: number;
  /** Whether models are loaded by the first request that needs them. Default false: all are loaded before the server is ready. */
  onDemand?: boolean;
  /**
   * Milliseconds between two looks at the files of models, at least 0: one that has changed is loaded, warmed up and put in the
   * place of the model, without a failed request; where that can't be, the model stays. 0: never. Default 2000.
   */
  reloadInterval?: number;
  /** Whether there are Prometheus metrics at `/metrics`. Default: where the package prom-client is installed. */
  metrics?: boolean;
  /** Who may ask. Default: no keys, and only this machine may. */
  apiKeys?: readonly ApiKey[];
  /** Whether other machines may ask without a key. Default false. */
  public?: boolean;
  /**
   * Names that the server is reached by, as the `Host` of requests has them, without port. `localhost` and addresses of
   * numbers are always allowed: no other site's name can be made to point to those. Default: none.
   */
  allowedHosts?: readonly string[];
  /** Origins whose pages may ask, beside those that the server itself sent: `'https://lab.example'`. Default: none. */
  allowedOrigins?: readonly string[];
}

/** A model's options once they are checked. */
export interface CheckedModel {
  name: string;
  version: string;
  source: string | ScriptModule | ExportedProgram;
  load: LoadOptions;
  warmUp: readonly (string | object)[];
  concurrency: number;
  maxQueue: number;
  maxBatch: number;
  maxDelay: number;
  onDemand: boolean;
  reloadInterval: number;
}

/** A server's options once they are checked. */
export interface CheckedOptions {
  models: CheckedModel[];
  timeLimit: number;
  bodyLimit: number;
  maxAttentionBytes: number;
  memoryBudget: number;
  metrics: boolean | undefined;
  apiKeys: readonly ApiKey[];
  public: boolean;
  allowedHosts: readonly string[];
  allowedOrigins: readonly string[];
}

export const SERVER_OPTIONS = [
  'models',
  'concurrency',
  'maxQueue',
  'timeLimit',
  'bodyLimit',
  'maxAttentionBytes',
  'memoryBudget',
  'onDemand',
  'reloadInterval',
  'metrics',
  'apiKeys',
  'public',
  'allowedHosts',
  'allowedOrigins',
] as const satisfies readonly (keyof ServerOptions)[];

const LOAD_OPTIONS = ['device', 'dtype', 'optimize', 'fuse', 'untrusted', 'verify', 'timeLimit'] as const;
const MODEL_OPTIONS = [
  'source',
  'version',
  'warmUp',
  'concurrency',
  'maxQueue',
  'maxBatch',
  'maxDelay',
  'onDemand',
  ...LOAD_OPTIONS,
] as const;

/** What addresses can hold without being written in another way, as long as Fastify takes their parts. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

const MIB = 2 ** 20;

type Defaults = Pick<CheckedModel, 'concurrency' | 'maxQueue' | 'onDemand' | 'reloadInterval'>;

function optionalInteger(value: unknown, what: string, min: number, byDefault: number): number {
  return value === undefined ? byDefault : integer(value, what, min);
}

function strings(value: unknown, what: string): string[] {
  if (value === undefined) return [];
  return elements(value, 'an array of strings', what, (each) => {
    if (typeof each !== 'string') throw invalid('a string', `an element of ${what}`, each);
    return each;
  });
}

function checkModel(name: string, given: unknown, defaults: Defaults): CheckedModel {
  const what = `the options of model '${name}'`;
  const isSource = typeof given === 'string' || HookableModel.is(given);
  const options = isSource
    ? { source: given as string | ScriptModule }
    : checkOptions(given as ServedModelOptions, MODEL_OPTIONS, what);
  const { source, version, warmUp, concurrency, maxQueue, maxBatch, maxDelay, onDemand, ...load } =
    options as ServedModelOptions;
  if (typeof source !== 'string' && !HookableModel.is(source)) {
    throw invalid('the path of a file, or a model that is loaded,', `the source of model '${name}'`, source);
  }
  if (typeof source !== 'string' && Object.keys(load).length > 0) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected no options of load for model '${name}', which is loaded already, but received ${Object.keys(load).join(', ')}`,
    );
  }
  const checkedVersion = optionalString(version, `the version of model '${name}'`) ?? '1';
  if (!NAME.test(checkedVersion))
    throw invalid('letters, digits, points, - and _', `the version of model '${name}'`, version);
  optionalBoolean(load.untrusted, `untrusted of model '${name}'`);
  return {
    name,
    version: checkedVersion,
    source,
    load: { ...load, untrusted: load.untrusted ?? true },
    warmUp:
      warmUp === undefined
        ? []
        : elements(warmUp, 'an array', `warmUp of model '${name}'`, (each) => {
            if (typeof each !== 'string' && !isPlainObject(each)) {
              throw invalid(
                'the path of a JSON file, or the body of a request,',
                `an element of warmUp of model '${name}'`,
                each,
              );
            }
            return each;
          }),
    concurrency: optionalInteger(concurrency, `concurrency of model '${name}'`, 1, defaults.concurrency),
    maxQueue: optionalInteger(maxQueue, `maxQueue of model '${name}'`, 0, defaults.maxQueue),
    maxBatch: optionalInteger(maxBatch, `maxBatch of model '${name}'`, 1, 1),
    maxDelay: optionalInteger(maxDelay, `maxDelay of model '${name}'`, 0, 5),
    // One that is loaded already stays where it is: it is the caller's.
    onDemand:
      typeof source === 'string' && (optionalBoolean(onDemand, `onDemand of model '${name}'`) ?? defaults.onDemand),
    reloadInterval: defaults.reloadInterval,
  };
}

function checkModels(given: unknown, defaults: Defaults): CheckedModel[] {
  if (!isPlainObject(given)) throw invalid('an object of models by name', 'models', given);
  const entries = entriesOf(given, 'models');
  if (entries.length === 0)
    throw new TorchError('ERR_INVALID_ARGUMENT', 'Expected at least one model but received none');
  return entries.flatMap(([name, value]) => {
    if (!NAME.test(name)) {
      const received = `'${shortened(name)}'`;
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected letters, digits, points, - and _ for the name of a model but received ${received}`,
      );
    }
    if (!Array.isArray(value)) return [checkModel(name, value, defaults)];
    const versions = elements(value, 'an array', `the versions of model '${name}'`, (each) =>
      checkModel(name, each, defaults),
    );
    if (new Set(versions.map(({ version }) => version)).size !== versions.length || versions.length === 0) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected versions of model '${name}' that differ but received ${versions.map(({ version }) => version).join(', ') || 'none'}`,
      );
    }
    return versions;
  });
}

/** Node's timers take no more milliseconds, some weeks: longer ones would end at once. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** Checks the options of a server. */
export function checkServerOptions(given: ServerOptions | undefined): CheckedOptions {
  const options = checkOptions(given, SERVER_OPTIONS, 'the options of the server');
  const defaults = {
    concurrency: optionalInteger(options.concurrency, 'concurrency', 1, getConcurrency()),
    maxQueue: optionalInteger(options.maxQueue, 'maxQueue', 0, 64),
    onDemand: optionalBoolean(options.onDemand, 'onDemand') ?? false,
    reloadInterval: optionalInteger(options.reloadInterval, 'reloadInterval', 0, 2000),
  };
  return {
    models: checkModels(options.models, defaults),
    timeLimit: Math.min(optionalInteger(options.timeLimit, 'timeLimit', 1, 60_000), LONGEST_TIMER),
    bodyLimit: optionalInteger(options.bodyLimit, 'bodyLimit', 1, 64 * MIB),
    maxAttentionBytes: optionalInteger(options.maxAttentionBytes, 'maxAttentionBytes', 1, 256 * MIB),
    memoryBudget: optionalInteger(options.memoryBudget, 'memoryBudget', 1, Number.POSITIVE_INFINITY),
    metrics: optionalBoolean(options.metrics, 'metrics'),
    apiKeys: options.apiKeys ?? [],
    public: optionalBoolean(options.public, 'public') ?? false,
    allowedHosts: strings(options.allowedHosts, 'allowedHosts'),
    allowedOrigins: strings(options.allowedOrigins, 'allowedOrigins'),
  };
}
