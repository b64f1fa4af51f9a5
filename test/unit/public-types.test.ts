import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { publicNames } from '../snippets/extract';

const root = join(__dirname, '..', '..');
const types = join(root, 'test', 'types');
const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');

/** What the compiler finds wrong in a project, and in the declarations of this package; not in those of others. */
function problems(project: string): string[] {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [compiler, '-p', project, '--pretty', 'false', '--skipLibCheck', 'false'],
    { encoding: 'utf8', cwd: root },
  );
  return `${stdout}${stderr}`.split('\n').filter((line) => line !== '' && !/^(\s|.*node_modules\/)/.test(line));
}

const names = publicNames();

test('programs may write what the types say, and no more', () => {
  expect(problems(types)).toEqual([]);
});

test('nothing internal is declared', () => {
  const declarations = readdirSync(join(root, 'dist'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.d.ts'),
  );
  expect(declarations.length).toBeGreaterThan(50);
  expect(declarations.filter((name) => readFileSync(join(root, 'dist', name), 'utf8').includes('@internal'))).toEqual(
    [],
  );
});

test('every public name says what it is', () => {
  expect(names.length).toBeGreaterThan(200);
  expect(names.filter(({ documentation }) => documentation.trim() === '').map(({ name }) => name)).toEqual([]);
});

test('every export, method and property of a class has an example', () => {
  const shown = names.filter(({ of }) => of !== 'interface');
  expect(shown.filter(({ examples }) => examples.length === 0).map(({ name }) => name)).toEqual([]);
});
