import { MemoryBudget } from './memory-budget';
import type { CheckedOptions } from './options';
import { RequestError } from './request-error';
import { ServedModel, type ServerLog } from './served-model';

/** The models of a server, by name and version. */
export class Models {
  readonly #byName = new Map<string, Map<string, ServedModel>>();
  readonly #loading = new AbortController();
  /** Those under way, by what stops them. */
  readonly #requests = new Set<AbortController>();
  #draining = false;

  constructor(options: Pick<CheckedOptions, 'models' | 'memoryBudget'>, log: ServerLog) {
    const budget = new MemoryBudget(options.memoryBudget);
    for (const each of options.models) {
      const versions = this.#byName.get(each.name) ?? new Map<string, ServedModel>();
      this.#byName.set(each.name, versions.set(each.version, new ServedModel(each, log, budget, this.#loading.signal)));
    }
  }

  get all(): ServedModel[] {
    return [...this.#byName.values()].flatMap((versions) => [...versions.values()]);
  }

  get ready(): boolean {
    return !this.#draining && this.all.every(({ ready, onDemand }) => ready || onDemand);
  }

  /**
   * Loads all models that aren't loaded on demand, one after the other, and warms them up.
   *
   * @throws TorchError what the first that can't be loaded failed with, once the others are there.
   */
  async load(): Promise<void> {
    const failures: unknown[] = [];
    for (const model of this.all) await model.load().catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw failures[0];
  }

  /** Versions of a model, the one that requests get by default first: the highest. */
  versionsOf(name: string): ServedModel[] {
    const versions = this.#byName.get(name);
    if (!versions) {
      throw new RequestError(
        'ERR_UNKNOWN_MODEL',
        `Expected one of this server's models but received '${name.slice(0, 128)}'`,
      );
    }
    return [...versions.values()].sort((a, b) => b.version.localeCompare(a.version, 'en', { numeric: true }));
  }

  find(name: string, version: string | undefined): ServedModel {
    const versions = this.versionsOf(name);
    const found = version === undefined ? versions[0] : versions.find((each) => each.version === version);
    if (found) return found;
    const known = versions.map((each) => each.version).join(', ');
    throw new RequestError(
      'ERR_UNKNOWN_MODEL',
      `Expected one of the versions ${known} of '${name}' but received '${version?.slice(0, 128)}'`,
    );
  }

  /** Requests that run, or wait for their turn. */
  get running(): number {
    return this.all.reduce((sum, { queue }) => sum + queue.running + queue.waiting, 0);
  }

  get draining(): boolean {
    return this.#draining;
  }

  /** Does what a request asks for, which `stop` may end. */
  async serve<Result>(stop: AbortController, task: () => Promise<Result>): Promise<Result> {
    if (this.#draining) throw endingError();
    this.#requests.add(stop);
    try {
      return await task();
    } finally {
      this.#requests.delete(stop);
    }
  }

  /** Begins nothing any more. */
  drain(): void {
    this.#draining = true;
    this.#loading.abort(endingError());
  }

  /** Ends what is under way. */
  stop(): void {
    for (const request of this.#requests) request.abort(endingError());
  }

  /** Frees the models, each when nothing runs on it any more. */
  dispose(): void {
    for (const model of this.all) model.dispose();
  }
}

function endingError(): RequestError {
  return new RequestError('ERR_NOT_READY', 'Expected a server that goes on but received one that is ending');
}
