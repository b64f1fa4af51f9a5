import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { TorchError } from '../core/errors';
import { options as checkOptions, elements, integer, invalid, optionalString } from '../core/validate';
import type { ApiKey, CheckedOptions } from './options';
import { RequestError } from './request-error';

/** Shorter keys could be guessed. */
const MIN_KEY_LENGTH = 16;

interface CheckedKey {
  sha256: Buffer;
  /** Undefined: all of them. */
  models: ReadonlySet<string> | undefined;
}

/** What is known of who asks. */
export interface Asker {
  headers: IncomingHttpHeaders;
  /** The address that the connection comes from. */
  address: string | undefined;
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}

function checkKey(given: ApiKey, index: number, models: ReadonlySet<string>): CheckedKey {
  const what = `apiKeys[${index}]`;
  const { key, sha256: digest, env, models: opened } = checkOptions(given, ['key', 'sha256', 'env', 'models'], what);
  for (const [name, value] of Object.entries({ key, sha256: digest, env })) optionalString(value, `${name} of ${what}`);
  if ([key, digest, env].filter((each) => each !== undefined).length !== 1)
    throw invalid('one of key, sha256 and env', what, given);
  if (digest !== undefined && !/^[0-9a-f]{64}$/i.test(digest)) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected 64 hexadecimal digits for sha256 of ${what} but received others`,
    );
  }
  const text = env === undefined ? key : process.env[env];
  if (digest === undefined) {
    if (text === undefined) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        `Expected a key in the environment variable ${env} (${what}) but it isn't set`,
      );
    }
    // The key itself isn't to be in any log.
    integer(text.length, `the length of ${what}`, MIN_KEY_LENGTH);
  }
  const names =
    opened === undefined
      ? undefined
      : elements(opened, 'an array of names', `models of ${what}`, (name) => {
          if (typeof name !== 'string' || !models.has(name)) {
            throw invalid(`one of ${[...models].join(', ')}`, `an element of models of ${what}`, name);
          }
          return name;
        });
  return {
    sha256: digest === undefined ? sha256(text as string) : Buffer.from(digest, 'hex'),
    models: names && new Set(names),
  };
}

/** Decides who may ask for what. */
export class Access {
  readonly #keys: CheckedKey[];

  constructor(
    private readonly options: Pick<CheckedOptions, 'apiKeys' | 'public' | 'allowedHosts' | 'allowedOrigins' | 'models'>,
  ) {
    const models = new Set(options.models.map(({ name }) => name));
    this.#keys = elements(options.apiKeys, 'an array', 'apiKeys', (each, i) => checkKey(each as ApiKey, i, models));
  }

  /** Refuses what another site's page, or a name of another's that was made to point here, asks for. */
  checkSite({ headers }: Asker): void {
    const host = headers.host ?? headers[':authority'];
    const name = nameOfHost(typeof host === 'string' ? host : '');
    const isAllowed = name === 'localhost' || isIP(name) !== 0 || this.options.allowedHosts.includes(name);
    if (!isAllowed) {
      throw new RequestError(
        'ERR_FORBIDDEN',
        `Expected localhost, an address of numbers or one of allowedHosts as the Host but received '${name.slice(0, 100)}'`,
      );
    }
    const { origin } = headers;
    if (origin === undefined || this.options.allowedOrigins.includes(origin)) return;
    if (origin === `http://${host}` || origin === `https://${host}`) return;
    throw new RequestError(
      'ERR_FORBIDDEN',
      `Expected a page of this server, or of allowedOrigins, as the Origin but received '${origin.slice(0, 100)}'`,
    );
  }

  /**
   * Refuses who may not ask.
   *
   * @param model The model that is asked for; undefined for what belongs to all.
   */
  checkAsker(asker: Asker, model: string | undefined): void {
    const { length } = this.#keys;
    if (length === 0) {
      if (this.options.public || isLoopback(asker.address)) return;
      throw new RequestError(
        'ERR_FORBIDDEN',
        'Expected a request of this machine but received one of another: apiKeys, or public: true, let others ask',
      );
    }
    const given = givenKey(asker.headers);
    const key = given === undefined ? undefined : this.#find(given);
    if (!key) {
      throw new RequestError(
        'ERR_UNAUTHORIZED',
        `Expected a key of this server (Authorization: Bearer …, or X-API-Key) but received ${given === undefined ? 'none' : 'another'}`,
      );
    }
    if (model !== undefined && (key.models?.has(model) ?? true)) return;
    if (model === undefined && key.models === undefined) return;
    throw new RequestError('ERR_FORBIDDEN', 'Expected a key that opens this but received one of other models');
  }

  /** The models that a list shows to who asks. */
  mayList(asker: Asker, model: string): boolean {
    try {
      this.checkAsker(asker, model);
      return true;
    } catch {
      return false;
    }
  }

  /** Compares to all keys, whichever it is, so that the time says nothing of them. */
  #find(given: string): CheckedKey | undefined {
    const digest = sha256(given);
    let found: CheckedKey | undefined;
    for (const key of this.#keys) if (timingSafeEqual(key.sha256, digest)) found = key;
    return found;
  }
}

function givenKey(headers: IncomingHttpHeaders): string | undefined {
  const [, token] = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '') ?? [];
  const key = headers['x-api-key'];
  return token ?? (typeof key === 'string' ? key : undefined);
}

/** The name, without port and brackets. */
function nameOfHost(host: string): string {
  const [, name = ''] = /^(\[[^\]]*\]|[^:]*)(?::\d+)?$/.exec(host) ?? [];
  return name.replace(/^\[|\]$/g, '').toLowerCase();
}

function isLoopback(address: string | undefined): boolean {
  if (address === undefined) return true; // a socket of this machine's file system, or a request without any (inject)
  return /^(::ffff:)?127\.|^::1$/.test(address);
}
