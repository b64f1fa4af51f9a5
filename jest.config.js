const { availableParallelism } = require('node:os');

// libtorch's own warnings, of operators in prototype stage for example, say nothing about a test.
process.env.TORCH_CPP_LOG_LEVEL ??= 'ERROR';

/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
  // Jest's own default would be one on two cores, where many tests wait for processes of their own.
  maxWorkers: Math.max(2, availableParallelism() - 1),
  // A process that has run many of the files takes longer to exit than Jest waits for it: it begins anew in between.
  workerIdleMemoryLimit: '300MB',
  // The tests of the page are of the sources as they are.
  globalSetup: '<rootDir>/scripts/build-page.mjs',
  testMatch: ['<rootDir>/test/unit/**/*.test.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'commonjs' } },
    ],
  },
  // Built copies of the package and of others: not this package's modules.
  modulePathIgnorePatterns: ['<rootDir>/build/', '<rootDir>/dist/', '<rootDir>/.cache/'],
  collectCoverageFrom: ['lib/**/*.ts', '!lib/view/page/**'],
  coverageDirectory: 'coverage',
  coverageReporters: ['text', 'lcovonly'],
  // Loading libtorch and running a model for the first time takes seconds.
  testTimeout: 60_000,
};
