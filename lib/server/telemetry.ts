import { optionalPackage } from '../core/optional-package';
import { reasonOf } from '../core/validate';

type Api = typeof import('@opentelemetry/api');

/** Null where `@opentelemetry/api` isn't installed. */
let api: Api | null | undefined;

function telemetry(): Api | null {
  if (api === undefined) {
    try {
      api = optionalPackage<Api>('@opentelemetry/api', 'which traces are made with');
    } catch {
      api = null;
    }
  }
  return api;
}

/** Does a task within a span of OpenTelemetry, below the one that is active, where its API is installed. */
export async function withSpan<Result>(
  name: string,
  attributes: Record<string, string>,
  task: () => Promise<Result>,
): Promise<Result> {
  const found = telemetry();
  if (!found) return await task();
  const { SpanStatusCode, trace } = found;
  return await trace.getTracer('libtorch-attention').startActiveSpan(name, { attributes }, async (span) => {
    try {
      return await task();
    } catch (error) {
      span.recordException(error instanceof Error ? error : reasonOf(error));
      span.setStatus({ code: SpanStatusCode.ERROR, message: reasonOf(error) });
      throw error;
    } finally {
      span.end();
    }
  });
}
