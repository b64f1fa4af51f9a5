import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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

interface PublicName {
  /** The entry of the package that exports it. */
  from: string;
  name: string;
  kind: 'class' | 'interface' | 'type' | 'function' | 'method' | 'property';
  /** What it is a member of. */
  of?: 'class' | 'interface';
  documentation: string;
  examples: string[];
}

const names = JSON.parse(
  execFileSync(process.execPath, [join(types, 'public-names.mjs')], { encoding: 'utf8' }),
) as PublicName[];

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

/** What examples take for granted. */
const GIVEN = `import Fastify from 'fastify';
declare const model: ScriptModule;
declare const program: ExportedProgram;
declare const cache: Value;
declare const encoder: nn.TransformerEncoder;
declare const attention: nn.MultiheadAttention;
declare const stream: AttentionStream;
declare const attentions: Attention[];
declare const ids: Tensor;
declare const mask: Tensor;
declare const src: Tensor;
declare const weights: Tensor;
`;

test('every example compiles', () => {
  const folder = mkdtempSync(join(tmpdir(), 'examples-'));
  try {
    const imports = [...new Set(names.map(({ from }) => from))]
      .map((entry) => {
        const exported = names.filter(({ name, of, from }) => from === entry && !of && !name.includes('.'));
        const listed = exported.map(({ name }) => name).join(', ');
        return `import { ${listed}${entry === 'libtorch-attention' ? ', nn' : ''} } from '${entry}';
`;
      })
      .join('');
    for (const [number, { name, examples }] of names.entries()) {
      for (const [i, example] of examples.entries()) {
        // Names may differ in case alone.
        const file = `${number}_${name.replace(/\W+/g, '_')}_${i}.ts`;
        writeFileSync(join(folder, file), `${imports}${GIVEN}export async function example() {\n${example}\n}\n`);
      }
    }
    writeFileSync(join(folder, 'wrong.ts'), `${imports}export async function example() {\nTensor.from('text');\n}\n`);
    const options = {
      target: 'es2022',
      lib: ['es2023', 'esnext.disposable'],
      module: 'node16',
      moduleResolution: 'node16',
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      noEmit: true,
      types: ['node'],
      typeRoots: [join(root, 'node_modules', '@types')],
      paths: {
        'libtorch-attention': [join(root, 'dist', 'index.d.ts')],
        'libtorch-attention/bulk': [join(root, 'dist', 'bulk', 'index.d.ts')],
        'libtorch-attention/server': [join(root, 'dist', 'server', 'index.d.ts')],
        fastify: [join(root, 'node_modules', 'fastify', 'fastify.d.ts')],
      },
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, include: ['*.ts'] }));
    expect(problems(folder)).toEqual([expect.stringMatching(/wrong\.ts\(5,13\): error/)]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
