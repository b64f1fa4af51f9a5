import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MODEL_STATUS, SERVER_STATUS } from '../../lib/server/request-error';

// docs/troubleshooting.md has a heading for whatever a user may look up, and none for what is gone.

const ROOT = join(__dirname, '../..');
const SOURCES = /\.(ts|cc|h|inc|mjs)$/;
/** What runs on a user's machine: the scripts too, with which `build` compiles. */
const ROOMS = ['lib', 'native', 'scripts/task'];

const sources = ROOMS.flatMap((room) =>
  readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' })
    .filter((name) => SOURCES.test(name))
    .map((name) => ({ name: `${room}/${name}`, text: readFileSync(join(ROOT, room, name), 'utf8') })),
);
const guide = readFileSync(join(ROOT, 'docs/troubleshooting.md'), 'utf8');

/** The headings of a section, or of all sections but some. */
function headings(accept: (section: string) => boolean): string[] {
  const sections = guide.split(/^## /m).slice(1);
  return sections.flatMap((section) =>
    accept(section.slice(0, section.indexOf('\n')))
      ? [...section.matchAll(/^### (\S+)$/gm)].map(([, name = '']) => name)
      : [],
  );
}

function occurrences(pattern: RegExp, files = sources): string[] {
  const found = files.flatMap(({ text }) =>
    [...text.matchAll(pattern)].map((match) => match.slice(1).find(Boolean) ?? ''),
  );
  return [...new Set(found)].sort();
}

test('every error code of the types, and of C++, has a heading, and every heading is one', () => {
  // What isn't in the types can't be thrown in TypeScript: other codes that sources name are Node's.
  const typed = occurrences(/\| '(ERR_[A-Z_]+)'/g);
  const native = sources.filter(({ name }) => name.startsWith('native/'));
  const codes = [...new Set([...typed, ...occurrences(/"(ERR_[A-Z_]+)"/g, native)])].sort();
  expect(codes.length).toBeGreaterThan(30);
  expect(headings((name) => name !== 'Warnings' && name !== 'Environment variables').sort()).toEqual(codes);
});

test("the statuses of the server's answers are those that it sends", () => {
  const section = guide.split(/^## /m).find((each) => each.startsWith('Answers of the server')) ?? '';
  const own = [...section.matchAll(/^### (ERR_\w+)\n\n(\d+)[:,] /gm)].map(([, code, status]) => [code, Number(status)]);
  expect(Object.fromEntries(own)).toEqual(SERVER_STATUS);
  const [list = ''] = /The codes above have these statuses: [^.]*/.exec(section) ?? [];
  const ofModels = list.split(';').flatMap((part) => {
    const [, status] = /(\d{3}) for `/.exec(part) ?? [];
    return [...part.matchAll(/`(ERR_\w+)`/g)].map(([, code]) => [code, Number(status)]);
  });
  expect(Object.fromEntries(ofModels)).toEqual(MODEL_STATUS);
});

test('every process warning has a code and a heading, and every heading a source', () => {
  const emitted = sources.flatMap(({ name, text }) =>
    [...text.matchAll(/process\.emitWarning\(/g)].map(({ index }) => ({
      name,
      call: text.slice(index, text.indexOf(');', index)),
    })),
  );
  const withoutCode = emitted.filter(({ call }) => !/code: '[A-Z_]+'/.test(call)).map(({ name }) => name);
  expect(withoutCode).toEqual([]);
  const codes = [...new Set(emitted.map(({ call }) => /code: '([A-Z_]+)'/.exec(call)?.[1] ?? ''))].sort();
  expect(codes.length).toBeGreaterThan(3);
  expect(headings((name) => name === 'Warnings').sort()).toEqual(codes);
});

/** Of the system, pip and pyenv: where a home, programs and modules are, not what this package is told by. */
const OF_OTHERS = [
  'HOME',
  'LOCALAPPDATA',
  'USERPROFILE',
  'PATH',
  'PYTHONPATH',
  'PYTHONHOME',
  'PYTHONUSERBASE',
  'PYENV_VERSION',
  'ASDF_PYTHON_VERSION',
  // Of the same paragraph as AWS_ENDPOINT_URL_S3.
  'AWS_ENDPOINT_URL',
];

test('every environment variable that is read has a heading, and every heading a source', () => {
  const read = occurrences(/\benv(?:\.|\[')([A-Z][A-Z0-9_]{2,})\b|getenv\("([A-Z0-9_]+)"\)/g);
  const ofPackage = sources.filter(({ name }) => !name.endsWith('.mjs'));
  const own = occurrences(/\b(LIBTORCH_ATTENTION_[A-Z0-9_]+)\b/g, ofPackage);
  const given = occurrences(/\b(OMP_[A-Z_]+):/g, ofPackage);
  // What libtorch reads when it is called so.
  const byLibtorch = occurrences(/c10::(initLogging)\(\)/g).map(() => 'TORCH_CPP_LOG_LEVEL');
  const known = [...new Set([...read, ...own, ...given, ...byLibtorch])]
    .filter((name) => !OF_OTHERS.includes(name))
    .sort();
  expect(known.length).toBeGreaterThan(10);
  expect(headings((name) => name === 'Environment variables').sort()).toEqual(known);
});

test('a heading is followed by what to do, not by another heading', () => {
  expect(guide.match(/^### .*\n+#/gm)).toBeNull();
});
