/**
 * Serves models over HTTP, by the Open Inference Protocol, their attention included: `import … from 'libtorch-attention/server'`.
 * Needs Fastify 5. The guide is docs/serving.md.
 *
 * @module libtorch-attention/server
 */

export { type CreateServerOptions, createServer } from './create-server';
export type { ApiKey, ServedModelOptions, ServerOptions } from './options';
export { libtorchServer } from './plugin';
export type { ServerErrorCode } from './request-error';
