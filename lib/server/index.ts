export { type CreateServerOptions, createServer } from './create-server';
export type { ApiKey, ServedModelOptions, ServerOptions } from './options';
export { libtorchServer } from './plugin';
export type { ServerErrorCode } from './request-error';
