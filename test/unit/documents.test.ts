import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { createProgram } from '../../lib/cli/main';
import { type Compiled, compile } from '../snippets/check';
import { ROOT, snippetsOfMarkdown } from '../snippets/extract';
import { DOCUMENTS as GIVEN, givenTo } from '../snippets/given';
import { run } from '../snippets/run';
import { runShell } from '../snippets/shell';

// What the documents show: programs that compile and run, commands and options that are there and work.

/** All that are written for people; the reference is made of docstrings, which have a test of their own. */
const DOCUMENTS = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], {
  cwd: ROOT,
  encoding: 'utf8',
})
  .split('\n')
  .filter((name) => name && !name.startsWith('docs/api/') && existsSync(join(ROOT, name)));

const SNIPPETS = DOCUMENTS.flatMap(snippetsOfMarkdown);
const PROGRAMS = SNIPPETS.filter(({ language }) => /^(ts|js)$/.test(language));
const COMMANDS = SNIPPETS.filter(({ language }) => /^(sh|bash)$/.test(language));

test('every block says what language it is in', () => {
  expect(SNIPPETS.filter(({ language }) => language === '').map(({ place }) => place)).toEqual([]);
});

describe('programs', () => {
  let compiled: Compiled;
  beforeAll(() => {
    compiled = compile(PROGRAMS);
  });
  afterAll(() => rmSync(compiled.folder, { recursive: true }));

  test('every one compiles', () => {
    expect(compiled.programs.length).toBeGreaterThan(30);
    expect(compiled.problems).toEqual([]);
  });

  test('every one runs', async () => {
    expect(await run(compiled)).toEqual([]);
  });

  test('what is given is given to a document that is there', () => {
    expect(Object.keys(GIVEN).filter((name) => name.endsWith('.md') && !DOCUMENTS.includes(name))).toEqual([]);
  });
});

describe('commands', () => {
  test('every block that can run here runs', async () => {
    const runs = COMMANDS.filter(({ document, notRun }) => !(notRun ?? givenTo(document).notRun));
    expect(runs.length).toBeGreaterThan(5);
    expect(await runShell(runs)).toEqual([]);
  }, 600_000);

  test('every command is there, with its options', () => {
    const program = createProgram();
    const lines = COMMANDS.flatMap(({ place, code }) =>
      code.split('\n').map((line) => ({ place, line: line.replace(/ {2,}#.*$/, '').trim() })),
    ).flatMap(({ place, line }) => line.split(' && ').map((part) => ({ place, line: part })));
    const ours = lines.filter(({ line }) => /^(npx )?libtorch-attention /.test(line));
    expect(ours.length).toBeGreaterThan(10);
    const unknown = ours.flatMap(({ place, line }) => {
      const [, name = '', rest = ''] = /libtorch-attention (\w+)(.*)/.exec(line) ?? [];
      const found: Command | undefined = program.commands.find((each) => each.name() === name);
      if (!found) return [`${place}: ${name}`];
      // Commands below it, of which the first stands for itself.
      const [word = ''] = rest.trim().split(' ');
      const command = found.commands.find((each) => each.name() === word) ?? found.commands[0] ?? found;
      const flags = [...rest.replace(/"[^"]*"/g, '').matchAll(/--[\w-]+/g)].map(([flag]) => flag);
      return flags
        .filter((flag) => !command.options.some((option) => option.long === flag))
        .map((flag) => `${place}: ${name} ${flag}`);
    });
    expect(unknown).toEqual([]);
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: object };
    const runs = lines
      .flatMap(({ line }) => [...(/^npm (?:run )?([\w:]+)/.exec(line)?.slice(1) ?? [])])
      .filter((name) => name !== 'install');
    expect(runs.length).toBeGreaterThan(5);
    expect(runs.filter((name) => !Object.hasOwn(scripts, name))).toEqual([]);
  });
});

test('the export of Hugging Face models asks for nothing that its current release lacks', () => {
  const snippet = SNIPPETS.find(({ document, language }) => document === 'README.md' && language === 'python');
  // The option torchscript=True is gone.
  expect(snippet?.code).toContain('return_dict=False');
  expect(snippet?.code).not.toContain('torchscript');
});
