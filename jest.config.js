/** @type {import('jest').Config} */
module.exports = {
  testEnvironment: 'node',
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
