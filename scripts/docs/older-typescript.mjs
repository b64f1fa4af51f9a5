// Gives TypeDoc the TypeScript that it needs, which is older than the one that compiles the package: `node --import` this.
// npm can't: both would be named "typescript", in one folder.

import { register } from 'node:module';
import { isMainThread } from 'node:worker_threads';

// Node resolves modules on a thread of its own, which loads this file again.
if (isMainThread) register(import.meta.url);

export function resolve(specifier, context, next) {
  return next(specifier === 'typescript' ? 'typescript-6' : specifier, context);
}
