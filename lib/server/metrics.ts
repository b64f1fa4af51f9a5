import type { FastifyInstance } from 'fastify';
import { TorchError } from '../core/errors';
import { optionalPackage } from '../core/optional-package';
import type { Models } from './models';

/** Seconds: from what a tiny model takes to what clients wait for. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128];

/** Prometheus metrics of one server, and of the process that it is in. */
export class Metrics {
  readonly #registry: import('prom-client').Registry;
  readonly #requests: import('prom-client').Histogram<'model' | 'version' | 'operation' | 'status'>;
  readonly #batches: import('prom-client').Histogram<'model' | 'version'>;

  private constructor(client: typeof import('prom-client'), models: Models) {
    this.#registry = new client.Registry();
    const registers = [this.#registry];
    client.collectDefaultMetrics({ register: this.#registry });
    this.#requests = new client.Histogram({
      name: 'libtorch_request_duration_seconds',
      help: 'Requests by model, operation and status: how long they took, waiting included',
      labelNames: ['model', 'version', 'operation', 'status'],
      buckets: SECONDS,
      registers,
    });
    this.#batches = new client.Histogram({
      name: 'libtorch_batch_rows',
      help: 'Rows that were computed together, for each request in a batch',
      labelNames: ['model', 'version'],
      buckets: ROWS,
      registers,
    });
    const gauges = {
      libtorch_running_requests: ['Requests that run', (model: Models['all'][number]) => model.queue.running],
      libtorch_waiting_requests: [
        'Requests that wait for their turn',
        (model: Models['all'][number]) => model.queue.waiting,
      ],
      libtorch_model_ready: ['Whether a model is ready', (model: Models['all'][number]) => (model.ready ? 1 : 0)],
      libtorch_model_bytes: [
        'Bytes of the parameters of a model, 0 while it is not loaded',
        (model: Models['all'][number]) => model.bytes,
      ],
    } as const;
    for (const [name, [help, read]] of Object.entries(gauges)) {
      new client.Gauge({
        name,
        help,
        labelNames: ['model', 'version'],
        registers,
        collect(): void {
          for (const model of models.all) this.set({ model: model.name, version: model.version }, read(model));
        },
      });
    }
  }

  /**
   * @param wanted Undefined: where prom-client is installed.
   * @throws TorchError `ERR_MISSING_PACKAGE` where they are wanted, and it isn't.
   */
  static of(models: Models, wanted: boolean | undefined): Metrics | undefined {
    if (wanted === false) return undefined;
    try {
      return new Metrics(
        optionalPackage<typeof import('prom-client')>('prom-client', 'which metrics are made with'),
        models,
      );
    } catch (error) {
      if (wanted === undefined && error instanceof TorchError && error.code === 'ERR_MISSING_PACKAGE') return undefined;
      throw error;
    }
  }

  /** Counts the requests of the routes in a scope, whose parameters name a model. */
  observe(app: FastifyInstance, models: Models): void {
    app.addHook('onResponse', async (request, { statusCode, elapsedTime, raw }) => {
      const { name, version } = request.params as { name?: string; version?: string };
      // Names that no model has would be as many as clients make up.
      const model = models.all.find(
        (each) => each.name === name && (version === undefined || each.version === version),
      );
      if (name === undefined || !model) return;
      const shown = version ?? models.versionsOf(name)[0]?.version ?? model.version;
      const operation = /\/(infer|attention|ready)$/.exec(request.routeOptions.url ?? '')?.[1] ?? 'metadata';
      const status = raw.writableFinished ? statusCode : 499;
      this.#requests.observe({ model: name, version: shown, operation, status }, elapsedTime / 1000);
    });
  }

  observeBatch(model: { name: string; version: string }, rows: number): void {
    this.#batches.observe({ model: model.name, version: model.version }, rows);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  async text(): Promise<string> {
    return await this.#registry.metrics();
  }
}
