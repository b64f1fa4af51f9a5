import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { createProgram } from '../../lib/cli/main';
import { temporaryFolder, writeFiles } from './fake-libtorch';

// What the documents show: programs that compile, commands and options that are there.

const ROOT = join(__dirname, '../..');
const folder = temporaryFolder();
const DOCUMENTS = [
  'README.md',
  'examples/README.md',
  ...readdirSync(join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

function blocks(language: RegExp): { place: string; text: string }[] {
  return DOCUMENTS.flatMap((document) =>
    [...readFileSync(join(ROOT, document), 'utf8').matchAll(/^```(\w*)\n(.*?)^```/gms)]
      .map(([, name = '', text = ''], i) => ({ place: `${document} ${i}`, name, text }))
      .filter(({ name }) => language.test(name)),
  );
}

/** What the programs of documents take for granted. */
const GIVEN = `
declare const model: lib.ScriptModule;
declare const ids: lib.Tensor, mask: lib.Tensor, src: lib.Tensor, prompt: lib.Tensor, a: lib.Tensor, b: lib.Tensor, itsMask: lib.Tensor;
declare const srcKeyPaddingMask: lib.Tensor, srcMask: lib.Tensor;
declare const next: (output: lib.Value) => lib.Value[] | undefined;
declare const tokens: string[];
declare const pcm: Float32Array, sharedArrayBuffer: SharedArrayBuffer;
declare const END: bigint;
`;

test('every program compiles', () => {
  const programs = blocks(/^ts$/);
  expect(programs.length).toBeGreaterThan(8);
  const { exports: names } = { exports: ['ScriptModule', 'Tensor', 'nn', 'assembleAttention', 'HookedModel'] };
  programs.forEach(({ text }, i) => {
    const own = new Set([...text.matchAll(/^(?:const|let) (?:\{ ?)?(\w+)/gm)].map(([, name]) => name));
    const given = GIVEN.replace(/(\w+): lib\.Tensor(, )?/g, (whole, name) => (own.has(name) ? '' : whole))
      .replace(/, ?;/g, ';')
      .replace(/declare const ;/g, '');
    const imports = text.includes("from 'libtorch-attention'")
      ? ''
      : `import { ${names.join(', ')}, type Value } from 'libtorch-attention';\n`;
    const [head = '', body = ''] = /^import/m.test(text)
      ? [/^(?:import .*\n)+/m.exec(text)?.[0], text.replace(/^(?:import .*\n)+/m, '')]
      : ['', text];
    const declared = own.has('model') ? given.replace(/declare const model.*\n/, '') : given;
    writeFiles(folder, {
      [`program-${i}.mts`]: `import type * as lib from 'libtorch-attention';\n${imports}${head}${declared}\nexport async function program() {\n${body}\n}\n`,
    });
  });
  const compilerOptions = {
    target: 'es2022',
    lib: ['es2023', 'dom', 'esnext.disposable'],
    module: 'node16',
    strict: true,
    noEmit: true,
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules', '@types')],
    skipLibCheck: true,
    paths: {
      'libtorch-attention': [join(ROOT, 'dist', 'index.d.ts')],
      'libtorch-attention/bulk': [join(ROOT, 'dist', 'bulk', 'index.d.ts')],
      'libtorch-attention/server': [join(ROOT, 'dist', 'server', 'index.d.ts')],
      fastify: [join(ROOT, 'node_modules', 'fastify', 'fastify.d.ts')],
    },
  };
  writeFiles(folder, { 'tsconfig.json': JSON.stringify({ compilerOptions, include: ['*.mts'] }) });
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { stdout } = spawnSync(process.execPath, [compiler, '-p', folder, '--pretty', 'false'], { encoding: 'utf8' });
  const places = stdout.replace(/\S*program-(\d+)\.mts/g, (_, i) => programs[Number(i)]?.place ?? '');
  expect(places).toBe('');
});

test('every command is there, with its options', () => {
  const program = createProgram();
  const lines = blocks(/^(sh|bash|)$/)
    .flatMap(({ place, text }) =>
      text.split('\n').map((line) => ({ place, line: line.replace(/ {2,}#.*$/, '').trim() })),
    )
    .flatMap(({ place, line }) => line.split(' && ').map((part) => ({ place, line: part })));
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

test('the export of Hugging Face models asks for nothing that its current release lacks', () => {
  const [snippet] = blocks(/^python$/);
  // The option torchscript=True is gone.
  expect(snippet?.text).toContain('return_dict=False');
  expect(snippet?.text).not.toContain('torchscript');
});
