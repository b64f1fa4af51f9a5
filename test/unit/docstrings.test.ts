import { rmSync } from 'node:fs';
import { type Compiled, compile } from '../snippets/check';
import { publicNames, snippetsOfDocstrings } from '../snippets/extract';
import { DOCUMENTS } from '../snippets/given';
import { run } from '../snippets/run';

// What docstrings show.

let compiled: Compiled;
beforeAll(() => {
  const names = publicNames();
  compiled = compile(snippetsOfDocstrings(names), names);
});
afterAll(() => rmSync(compiled.folder, { recursive: true }));

test('every example compiles', () => {
  expect(compiled.programs.length).toBeGreaterThan(200);
  expect(compiled.problems).toEqual([]);
});

test('every example runs', async () => {
  expect(await run(compiled)).toEqual([]);
  // A quarter of a minute of computing, on a machine that has it.
}, 180_000);

test('what is given to an example is given to one that is there', () => {
  const examples = new Set(compiled.programs.map(({ snippet }) => snippet.document));
  const given = Object.keys(DOCUMENTS).filter((name) => !name.endsWith('.md'));
  expect(given.filter((name) => !examples.has(name))).toEqual([]);
});
