import { realpathSync } from 'node:fs';
import { load } from '../libtorch/load';
import { verifyOperators } from '../libtorch/verify';
import { native } from './binding';
import { TorchError } from './errors';
import { invalid, shortened } from './validate';

/**
 * Loads a shared library of custom operators (C++, `TORCH_LIBRARY`), so that models can use them: those of `torch.export` and
 * TorchScript alike. It has to be built against the libtorch that is used here, and not against Python's part of it
 * (libtorch_python). It stays until the process ends; loading it again does nothing.
 *
 * The library runs code of its own as it is loaded. It is first tried in a child process, which takes about a second.
 *
 * @param path The shared library: a path, from the working directory on where it is relative.
 * @throws TorchError `ERR_INVALID_ARGUMENT` where there is no such file, or it can't be loaded (which says why: a missing
 *   library, another libtorch, an operator that is registered already).
 *
 * @example
 * loadOperators('libmy_operators.so');
 * const program = await ExportedProgram.load('model.pt2');
 */
export function loadOperators(path: string): void {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw invalid('the path of a shared library', 'path', path);
  }
  let file: string;
  try {
    file = realpathSync(path);
  } catch (cause) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a shared library of operators at '${shortened(path)}' but received a path that cannot be read: ${(cause as Error).message}`,
      { cause },
    );
  }
  const loaded = native((addon) => addon.loadedOperators());
  if (loaded.includes(file)) return;
  const { libtorch, binaries } = load();
  const reason = verifyOperators(libtorch, binaries, [...loaded, file]);
  if (reason !== '') {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected a shared library of operators for libtorch ${libtorch.version} but '${shortened(path)}' cannot be loaded: ${reason}`,
    );
  }
  native((addon) => addon.loadOperators(file));
}
