import { TorchError } from './errors';

/**
 * A package that only some users need, and install themselves.
 *
 * @param purpose What it is for: `'which draws PNGs'`.
 * @param otherwise What can be done without it, if anything: `'; or write an SVG'`.
 * @throws TorchError `ERR_MISSING_PACKAGE` where it can't be loaded.
 */
export function optionalPackage<Exports>(name: string, purpose: string, otherwise = ''): Exports {
  try {
    return require(name) as Exports;
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    throw new TorchError(
      'ERR_MISSING_PACKAGE',
      `Expected the package ${name}, ${purpose}, but it can't be loaded: npm install ${name}${otherwise} (${reason})`,
      { cause: error },
    );
  }
}
