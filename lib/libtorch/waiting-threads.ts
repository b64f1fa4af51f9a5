/**
 * The environment of processes whose cores have more to do than one run at a time. Threads of libgomp spin while they wait for
 * the others of a run, which keeps whatever else has work from its core; with this they sleep. Read when libtorch is loaded.
 */
export const SLEEPING_THREADS = { OMP_WAIT_POLICY: 'passive' } as const;
