import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { availableJobs } from './native.mjs';
import { Failure, output, root, run } from './process.mjs';
import { pythonTools } from './python-tools.mjs';

/** Runs clang-format with these arguments on all C++ sources. Resolves to its exit code. */
export async function clangFormat(args) {
  const sources = ['native', 'test/native']
    .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name)))
    .filter((path) => /\.(cc|h)$/.test(path));
  const tool = await pythonTools();
  return run(tool('clang-format'), [...args, ...sources]);
}

/**
 * Runs clang-tidy on each source that changed, or whose headers did, since it was last found clean: scripts/tidy/CMakeLists.txt
 * has the rules. Resolves to an exit code.
 * @param build whose compile_commands.json says how each source is compiled
 */
export async function clangTidy({ directory }) {
  const tool = await pythonTools();
  const tidy = join(root, 'build', 'tidy');
  const settings = { ROOT: root, DATABASE: directory, CLANG_TIDY: tool('clang-tidy') };
  const defined = Object.entries(settings).map(([name, value]) => `-D${name}=${value}`);
  const generator = output('ninja', ['--version']) ? 'Ninja' : 'Unix Makefiles';
  const source = join(root, 'scripts', 'tidy');
  if (output('cmake', ['-S', source, '-B', tidy, '-G', generator, ...defined]) === null) {
    throw new Failure(`Expected CMake to take ${source}.`);
  }
  // On to the end, whatever is found.
  const goOn = generator === 'Ninja' ? ['-k', '0'] : ['-k'];
  return run('cmake', ['--build', tidy, '--parallel', String(availableJobs()), '--', ...goOn]);
}
