/** The package itself, loaded only by commands that run a model: help and setup work where libtorch is missing. */
export function loadPackage(): typeof import('../index') {
  return require('../index') as typeof import('../index');
}
