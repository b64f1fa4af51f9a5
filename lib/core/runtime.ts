import { load } from '../libtorch/load';
import { native } from './binding';
import { integer } from './validate';

/** Sets the threads that one run uses inside its operators. Default: the cores, shared by runs from eight cores on. */
export function setNumThreads(count: number): void {
  native((addon) => addon.setNumThreads(integer(count, 'count', 1, 1024)));
}

/** The threads that one run uses inside its operators. */
export function getNumThreads(): number {
  return native((addon) => addon.getNumThreads());
}

/** Sets how many runs may be under way at once; others wait. Default: one for every four cores, at least one. */
export function setConcurrency(count: number): void {
  native((addon) => addon.setConcurrency(integer(count, 'count', 1, 1024)));
}

/** How many runs may be under way at once. */
export function getConcurrency(): number {
  return native((addon) => addon.getConcurrency());
}

/**
 * Gives back to the system what waits for the next results: memory of captured weights that were freed, and what threads
 * keep for intermediate results. The next captures take longer. Without it, a sixteenth of the memory that the process may
 * use (of the machine's, or its control group's) waits at most; the environment variable `LIBTORCH_ATTENTION_RESULT_MEMORY`
 * sets another limit, in bytes.
 */
export function releaseMemory(): void {
  native((addon) => addon.releaseMemory());
}

/** Seeds the random numbers of all devices. */
export function manualSeed(seed: number): void {
  native((addon) => addon.manualSeed(integer(seed, 'seed', 0)));
}

/** The devices that models can run on here: `'cpu'`, then `'cuda:0'` … */
export function devices(): string[] {
  return native((addon) => addon.devices());
}

/** Versions of this package, of the libtorch in use, and of the CUDA it was built with (null without). */
export const versions = {
  get package(): string {
    return (require('../../package.json') as { version: string }).version;
  },
  get libtorch(): string {
    return native(() => load().libtorch.version);
  },
  get cuda(): string | null {
    return native(() => load().libtorch.cuda);
  },
} as const;
