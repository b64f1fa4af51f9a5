import { type InspectOptions, inspect } from 'node:util';
import { load } from '../libtorch/load';
import { native } from './binding';
import { integer } from './validate';

/**
 * Sets the threads, from 1 to 1024, that one run uses inside its operators. Default: the cores, shared by runs from eight cores
 * on. Runs that begin from now on have as many; what the event loop's thread computes (operations of tensors) uses one.
 *
 * @param count From 1 to 1024.
 * @throws TorchError `ERR_INVALID_ARGUMENT`; as `devices`.
 *
 * @example
 * setNumThreads(4);
 */
export function setNumThreads(count: number): void {
  native((addon) => addon.setNumThreads(integer(count, 'count', 1, 1024)));
}

/**
 * The threads that one run uses inside its operators.
 *
 * @returns From 1 to 1024.
 * @throws TorchError as `devices`.
 *
 * @example
 * console.log(getNumThreads());
 */
export function getNumThreads(): number {
  return native((addon) => addon.getNumThreads());
}

/**
 * Sets how many runs, from 1 to 1024, may be under way at once; others wait. Default: one for every four cores, at least one.
 *
 * @param count From 1 to 1024.
 * @throws TorchError `ERR_INVALID_ARGUMENT`; as `devices`.
 *
 * @example
 * setConcurrency(2);
 */
export function setConcurrency(count: number): void {
  native((addon) => addon.setConcurrency(integer(count, 'count', 1, 1024)));
}

/**
 * How many runs may be under way at once.
 *
 * @returns From 1 to 1024.
 * @throws TorchError as `devices`.
 *
 * @example
 * console.log(getConcurrency());
 */
export function getConcurrency(): number {
  return native((addon) => addon.getConcurrency());
}

/**
 * Gives back to the system what waits for the next runs: memory of freed tensors that runs made, captured weights among
 * them, and what threads keep for intermediate results. The next runs take longer. Without it, a sixteenth of the memory
 * that the process may use (of the machine's, or its control group's) waits at most, until ten seconds pass without a
 * run; the environment variable `LIBTORCH_ATTENTION_RESULT_MEMORY` sets another limit, in bytes.
 *
 * @throws TorchError as `devices`.
 *
 * @example
 * releaseMemory();
 */
export function releaseMemory(): void {
  native((addon) => addon.releaseMemory());
}

/**
 * Seeds the random numbers of all devices: dropout in training mode, initial parameters of `nn`, random operators of
 * checkpoints. The same seed gives the same numbers where runs follow one another.
 *
 * @param seed An integer of at least 0.
 * @throws TorchError `ERR_INVALID_ARGUMENT`; as `devices`.
 *
 * @example
 * manualSeed(42);
 * const layer = new nn.TransformerEncoderLayer({ dModel: 64, nhead: 4 });
 */
export function manualSeed(seed: number): void {
  native((addon) => addon.manualSeed(integer(seed, 'seed', 0)));
}

/**
 * The devices that models can run on here: `'cpu'`, then `'cuda:0'` …
 *
 * @returns Names, `'cpu'` first; those of CUDA where this libtorch, a driver and a GPU are there.
 * @throws TorchError `ERR_LIBTORCH_NOT_FOUND`, `ERR_LIBTORCH_VERSION`, `ERR_ADDON_LOAD`.
 *
 * @example
 * const device = devices().at(-1) ?? 'cpu';
 */
export function devices(): string[] {
  return native((addon) => addon.devices());
}

/**
 * Versions of this package, of the libtorch in use, and of the CUDA it was built with (null without). Asking for the last two
 * loads libtorch, and throws what that fails with: `ERR_LIBTORCH_NOT_FOUND`, `ERR_LIBTORCH_VERSION`, `ERR_ADDON_LOAD`.
 *
 * @example
 * console.log(versions.package, versions.libtorch, versions.cuda ?? 'CPU');
 */
export const versions: { readonly package: string; readonly libtorch: string; readonly cuda: string | null } = {
  get package(): string {
    return (require('../../package.json') as { version: string }).version;
  },
  get libtorch(): string {
    return native(() => load().libtorch.version);
  },
  get cuda(): string | null {
    return native(() => load().libtorch.cuda);
  },
};

// What has getters is shown as such: without this, console.log would say "[Getter]".
Object.defineProperty(versions, inspect.custom, {
  value: (_depth: number, options: InspectOptions) => inspect({ ...versions }, options),
});
