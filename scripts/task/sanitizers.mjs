import { join } from 'node:path';
import { root, run } from './process.mjs';

// libtorch is a released binary without instrumentation: what it reports that is not this project's is suppressed by
// name, with the reason, in test/native/suppressions.
const suppressions = (name) => `suppressions=${join(root, 'test', 'native', 'suppressions', `${name}.txt`)}`;

/** The environment of each sanitizer's run, and the files of tests that it runs; without any, all. */
const RUNS = {
  asan: {
    environment: {
      // Containers that libtorch, without instrumentation, grows and ours, with it, read look overflown. Globals that
      // inline functions of its headers define exist in both.
      ASAN_OPTIONS: 'detect_container_overflow=0:detect_odr_violation=0:strict_string_checks=1:exitcode=66',
      LSAN_OPTIONS: suppressions('lsan'),
      UBSAN_OPTIONS: `print_stacktrace=1:halt_on_error=1:exitcode=66:${suppressions('ubsan')}`,
    },
    files: [],
  },
  tsan: {
    environment: {
      TSAN_OPTIONS: `halt_on_error=0:second_deadlock_stack=1:ignore_noninstrumented_modules=1:exitcode=66:${suppressions('tsan')}`,
      // Threads of OpenMP synchronize in a runtime that isn't instrumented.
      OMP_NUM_THREADS: '1',
    },
    files: ['runtime_test', 'threads_test', 'crew_test', 'script_test'],
  },
};

/** Runs the C++ test program that was built with a sanitizer. Resolves to its exit code. */
export function runSanitized(name, program) {
  const { environment, files } = RUNS[name];
  return run(program, files, { env: { ...process.env, ...environment } });
}
