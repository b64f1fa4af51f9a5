import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { printNativeCoverage, resetNativeCoverage } from './coverage.mjs';
import { cache, packageScript, root, run } from './process.mjs';

/** Where the number of tests that passed and failed is left for .ci/run. */
const summary = join(cache, 'test-summary.json');

/**
 * Runs the C++ test program, then jest.
 * @param args for jest; with any, a part of its tests is meant, and the C++ program is left out
 * @param build which of the builds to test; `measured`: it counts the lines that are run
 * @param libtorch what to run on instead of what is found; coverage is then left out
 */
export async function runTests(args, { build, measured = false, libtorch }) {
  if (measured) resetNativeCoverage(build.directory);
  rmSync(summary, { force: true });

  const native = args.length === 0 ? await runNativeTests(join(build.directory, 'Release', program)) : nothing;
  const environment = {
    ...process.env,
    ...(measured || libtorch ? { LIBTORCH_ATTENTION_BINARIES: join(build.directory, 'Release') } : {}),
    ...(libtorch ? { LIBTORCH: libtorch.root } : {}),
  };
  // A worker that jest ends by force writes no counts.
  const jestArgs = [...(libtorch ? [] : ['--coverage']), ...(measured ? ['--runInBand'] : []), ...args];
  const typescript = await runJest(jestArgs, environment);
  if (measured) printNativeCoverage(build.directory);

  const passed = native.passed + typescript.passed;
  const failed = native.failed + typescript.failed;
  mkdirSync(cache, { recursive: true });
  writeFileSync(summary, JSON.stringify({ passed, failed }));
  console.log(`\nC++: ${native.passed} passed, ${native.failed} failed`);
  console.log(`TypeScript: ${typescript.passed} passed, ${typescript.failed} failed`);
  console.log(`${passed} passed, ${failed} failed`);
  return native.code || typescript.code || (failed > 0 ? 1 : 0);
}

const program = process.platform === 'win32' ? 'native_tests.exe' : 'native_tests';
const nothing = { passed: 0, failed: 0, code: 0 };

/** Runs the C++ test program, whose last line says `N passed, N failed`. */
async function runNativeTests(path) {
  if (!existsSync(path)) {
    console.error(`The C++ test program is missing: ${path}`);
    return { passed: 0, failed: 1, code: 1 };
  }
  const child = spawn(path, [], { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
    process.stdout.write(chunk);
  });
  const code = await new Promise((done, reject) => {
    child.on('error', reject);
    child.on('close', (exit, signal) => done(signal ? 1 : exit));
  });
  const counts = /(\d+) passed, (\d+) failed\s*$/.exec(output);
  // A program that ends before it has said its counts crashed.
  if (!counts) return { passed: 0, failed: 1, code: code || 1 };
  return { passed: Number(counts[1]), failed: Number(counts[2]), code };
}

async function runJest(args, env) {
  const results = join(cache, 'jest.json');
  rmSync(results, { force: true });
  const jest = packageScript('jest', 'bin/jest.js');
  const code = await run(process.execPath, [jest, '--json', `--outputFile=${results}`, ...args], { env });
  if (!existsSync(results)) return { passed: 0, failed: 1, code: code || 1 };
  const { numPassedTests, numFailedTests, numRuntimeErrorTestSuites } = JSON.parse(readFileSync(results, 'utf8'));
  return { passed: numPassedTests, failed: numFailedTests + numRuntimeErrorTestSuites, code };
}
