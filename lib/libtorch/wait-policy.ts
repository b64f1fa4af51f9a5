// How the threads of libtorch's OpenMP runtime wait for the next parallel region. libgomp, which PyTorch's own libtorch
// brings along, has them spin for milliseconds by default: a core that something else needs goes on spinning, and a forward
// on busy cores takes many times as long. It reads the environment once, when it is opened.

/** What the loader says of the process. */
interface Surroundings {
  /** A variable of the process's environment (`process.env` is a copy in worker threads). */
  variable(name: string): string | undefined;
  /** The path of a library of the process whose file name begins with this. */
  loaded(name: string): string | undefined;
}

/** Variables by which users say it themselves: each wins. */
const OWN_VARIABLES = ['OMP_WAIT_POLICY', 'GOMP_SPINCOUNT'];

/** How often a thread looks for work before it sleeps: see docs/performance.md. */
const SPIN_COUNT = '30000';

/** Who says how threads wait. */
export type WaitPolicy =
  /** The environment, by this variable. */
  | { readonly by: 'environment'; readonly variable: string; readonly value: string }
  /** Whoever opened an OpenMP runtime in this process before: it has read the environment, and can't be told any more. */
  | { readonly by: 'process'; readonly library: string }
  /** This package. */
  | { readonly by: 'package'; readonly variable: string; readonly value: string };

/** The policy that opening libtorch now would lead to. */
export function waitPolicy({ variable, loaded }: Surroundings): WaitPolicy {
  const library = loaded('libgomp');
  if (library !== undefined) return { by: 'process', library };
  for (const name of OWN_VARIABLES) {
    const value = variable(name);
    if (value !== undefined) return { by: 'environment', variable: name, value };
  }
  return { by: 'package', variable: 'GOMP_SPINCOUNT', value: SPIN_COUNT };
}

/** The variables to set while libtorch is opened. */
export function waitVariables(policy: WaitPolicy): [name: string, value: string][] {
  return policy.by === 'package' ? [[policy.variable, policy.value]] : [];
}

/** The same in words. */
export function describeWaitPolicy(policy: WaitPolicy): string {
  switch (policy.by) {
    case 'environment':
      return `as ${policy.variable}=${policy.value} in the environment says`;
    case 'process':
      return `as ${policy.library} was told, which something else had opened before`;
    case 'package':
      return `after a short spin (${policy.variable}=${policy.value}; that or OMP_WAIT_POLICY in the environment wins)`;
  }
}

/**
 * The environment of processes whose cores have more to do than one run at a time (a server, the workers of a bulk run): their
 * threads sleep at once while they wait. Read when libtorch is loaded.
 */
export const SLEEPING_THREADS = { OMP_WAIT_POLICY: 'passive' } as const;
