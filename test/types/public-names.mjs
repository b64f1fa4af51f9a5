// Lists what the package exports, and the members of each: what the compiler knows of it, from the declarations of its entries. Prints JSON.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { API } from 'typescript/unstable/sync';

const folder = fileURLToPath(new URL('.', import.meta.url));
const dist = join(folder, '..', '..', 'dist');
const entries = {
  'libtorch-attention': 'index.d.ts',
  'libtorch-attention/server': 'server/index.d.ts',
  'libtorch-attention/bulk': 'bulk/index.d.ts',
};

// SymbolFlags of TypeScript.
const FUNCTION = 16;
const CLASS = 32;
const INTERFACE = 64;
const NAMESPACE = 512 | 1024;
const METHOD = 8192;
const TYPE_PARAMETER = 262144;
const TYPE_ALIAS = 524288;
const ALIAS = 2097152;
const PROTOTYPE = 4194304;

const api = new API({ cwd: folder });
const snapshot = api.updateSnapshot({ openProjects: [join(folder, 'tsconfig.json')] });
const { checker, program } = snapshot.getProject(join(folder, 'tsconfig.json'));

function kindOf(flags) {
  if (flags & CLASS) return 'class';
  if (flags & INTERFACE) return 'interface';
  if (flags & TYPE_ALIAS) return 'type';
  if (flags & FUNCTION) return 'function';
  if (flags & METHOD) return 'method';
  return 'property';
}

/** @param of What it is a member of. */
function described(name, symbol, of) {
  const tags = checker.getJsDocTagsOfSymbol(symbol);
  return {
    name,
    kind: kindOf(symbol.flags),
    ...(of && { of }),
    documentation: checker.getDocumentationCommentOfSymbol(symbol),
    examples: tags.filter((tag) => tag.name === 'example').map((tag) => tag.text ?? ''),
  };
}

/** What was listed: members that several classes inherit are listed of the first. */
const listed = new Set();

/** Members of classes and interfaces, inherited ones included; those named by symbols have names such as `__@dispose@17`. */
function* membersOf(name, symbol) {
  const members = checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol));
  const statics = symbol.flags & CLASS ? [...symbol.getExports().values()] : [];
  for (const member of [...members, ...statics]) {
    const ours = member.declarations.some(({ path }) => path.startsWith(dist.toLowerCase()) || path.startsWith(dist));
    const declared = member.declarations.map(({ path, index }) => `${path} ${index}`).join();
    if (!ours || listed.has(declared) || member.flags & (PROTOTYPE | TYPE_PARAMETER)) continue;
    listed.add(declared);
    const key = member.name.replace(/^\W*_*@(\w+?)(@\d+)?$/, '[Symbol.$1]');
    if (!/#private|hookTypes/.test(key)) yield described(`${name}.${key}`, member, kindOf(symbol.flags));
  }
}

function* namesOf(module, prefix) {
  for (const exported of checker.getExportsOfModule(module)) {
    const symbol = exported.flags & ALIAS ? checker.getAliasedSymbol(exported) : exported;
    const name = prefix + exported.name;
    if (symbol.flags & NAMESPACE && !(symbol.flags & (CLASS | INTERFACE))) {
      // The compiler keeps no documentation of `export * as`.
      yield* namesOf(symbol, `${name}.`);
      continue;
    }
    yield described(name, symbol);
    if (symbol.flags & (CLASS | INTERFACE)) yield* membersOf(name, symbol);
  }
}

const names = Object.entries(entries).flatMap(([from, file]) => {
  const source = program.getSourceFile(join(dist, file));
  return [...namesOf(checker.getSymbolAtLocation(source), '')].map((each) => ({ from, ...each }));
});
process.stdout.write(JSON.stringify(names, null, 1));
api.close();
