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
    throw missing(name, purpose, otherwise, error);
  }
}

/**
 * The same for a package that is an ES module alone.
 *
 * @param load Imports it: `() => import('hyparquet')`.
 */
export async function optionalModule<Exports>(
  name: string,
  purpose: string,
  load: () => Promise<Exports>,
): Promise<Exports> {
  try {
    return await load();
  } catch (error) {
    throw missing(name, purpose, '', error);
  }
}

function missing(name: string, purpose: string, otherwise: string, error: unknown): TorchError {
  const [reason] = (error as Error).message.split('\n');
  return new TorchError(
    'ERR_MISSING_PACKAGE',
    `Expected the package ${name}, ${purpose}, but it can't be loaded: npm install ${name}${otherwise} (${reason})`,
    { cause: error },
  );
}
