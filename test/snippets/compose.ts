// Makes a program of a snippet: what it takes for granted, and the snippet itself in a function, so that it may declare
// anew what it was given.

import ts from 'typescript-6';
import type { PublicName, Snippet } from './extract';
import { givenTo } from './given';

export interface Program {
  snippet: Snippet;
  text: string;
  /** How many of its lines are ahead of the snippet's first. */
  linesAhead: number;
}

const parse = (code: string) => ts.createSourceFile('snippet.ts', code, ts.ScriptTarget.ES2022, true);

/** @param names what a snippet needn't import to use, since documents import it once */
export function compose(snippet: Snippet, names: readonly PublicName[]): Program {
  const { values, given: hidden = '' } = givenTo(snippet.document);
  const { imports, body } = withoutImports(parse(snippet.code));
  const given = withoutImports(parse(`${hidden}\n${snippet.given}`));
  const declared: string[] = [];
  const isGiven = new Set<string>();
  /** Declares what the code uses and doesn't have, with what that needs ahead of it. */
  function provide(code: string): void {
    for (const name of freeNames(parse(code))) {
      const value = values[name];
      if (value === undefined || isGiven.has(name)) continue;
      isGiven.add(name);
      provide(value);
      declared.push(value);
    }
  }
  provide(`${hidden}\n${snippet.given}\n${snippet.code}`);
  const ahead = [...given.imports, ...imports, ...declared, given.body].join('\n');
  const missing = freeNames(parse(`${ahead}\n${body}`));
  const importsOfOurs = new Map<string, string[]>();
  for (const name of missing) {
    const from = name === 'nn' ? 'libtorch-attention' : names.find((each) => !each.of && each.name === name)?.from;
    if (from) importsOfOurs.set(from, [...(importsOfOurs.get(from) ?? []), name]);
  }
  const head = `${[...importsOfOurs].map(([from, list]) => `import { ${list.join(', ')} } from '${from}';\n`).join('')}${ahead}
export async function snippet() {
`;
  return { snippet, text: `${head}${body}\n}\n`, linesAhead: head.split('\n').length - 1 };
}

/** Imports aren't allowed in functions, nor are exports: those are taken out, with the lines of the rest where they were. */
function withoutImports(source: ts.SourceFile): { imports: string[]; body: string } {
  const imports: string[] = [];
  let body = source.text;
  const blank = (from: number, to: number) => {
    body = body.slice(0, from) + body.slice(from, to).replace(/[^\n]/g, ' ') + body.slice(to);
  };
  for (const statement of source.statements) {
    if (ts.isImportDeclaration(statement)) {
      imports.push(statement.getText());
      blank(statement.getStart(), statement.end);
    } else if (ts.canHaveModifiers(statement)) {
      const exporting = ts.getModifiers(statement)?.filter(({ kind }) => exportKinds.has(kind)) ?? [];
      for (const modifier of exporting) blank(modifier.getStart(), modifier.end);
    }
  }
  return { imports, body };
}

const exportKinds = new Set([ts.SyntaxKind.ExportKeyword, ts.SyntaxKind.DefaultKeyword]);

/** The names that code uses and declares nowhere at its top level. */
function freeNames(source: ts.SourceFile): Set<string> {
  const used = new Set<string>();
  const declared = new Set<string>();
  const visit = (node: ts.Node, top: boolean): void => {
    if (ts.isIdentifier(node) && isReference(node)) used.add(node.text);
    if (top) for (const name of namesDeclared(node)) declared.add(name);
    ts.forEachChild(node, (child) => visit(child, node.kind === ts.SyntaxKind.SourceFile));
  };
  visit(source, false);
  return new Set([...used].filter((name) => !declared.has(name)));
}

function isReference(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isQualifiedName(parent)) return parent.left === node;
  if (ts.isBindingElement(parent)) return parent.initializer === node;
  if (ts.isPropertyAssignment(parent) || ts.isVariableDeclaration(parent)) return parent.initializer === node;
  return !(ts.isPropertySignature(parent) || ts.isNamedTupleMember(parent) || ts.isMethodDeclaration(parent));
}

function* namesDeclared(statement: ts.Node): Iterable<string> {
  if (ts.isVariableStatement(statement)) {
    for (const { name } of statement.declarationList.declarations) yield* namesBound(name);
  } else if (ts.isImportDeclaration(statement)) {
    const { name, namedBindings } = statement.importClause ?? {};
    if (name) yield name.text;
    if (namedBindings && ts.isNamespaceImport(namedBindings)) yield namedBindings.name.text;
    else if (namedBindings) for (const element of namedBindings.elements) yield element.name.text;
  } else if (
    ts.isFunctionDeclaration(statement) ||
    ts.isClassDeclaration(statement) ||
    ts.isInterfaceDeclaration(statement) ||
    ts.isTypeAliasDeclaration(statement) ||
    ts.isEnumDeclaration(statement)
  ) {
    if (statement.name) yield statement.name.text;
  }
}

function* namesBound(name: ts.BindingName): Iterable<string> {
  if (ts.isIdentifier(name)) yield name.text;
  else for (const element of name.elements) if (!ts.isOmittedExpression(element)) yield* namesBound(element.name);
}
