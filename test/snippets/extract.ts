// Finds the snippets that documents and docstrings show.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import MarkdownIt from 'markdown-it';

export const ROOT = join(__dirname, '..', '..');

export interface Snippet {
  /** Where it stands: `docs/bulk.md:41` (the line of its first line of code), or `Tensor.from` for a docstring. */
  place: string;
  /** What the tables of given.ts may say something about: the document (`docs/bulk.md`), or the docstring's name. */
  document: string;
  /** The line of the document that its first line of code is on; 1 in a docstring. */
  line: number;
  /** `ts`, `sh` …; `''` for a block that names none. */
  language: string;
  code: string;
  /** Hidden code that is run ahead of it. */
  given: string;
  /** Why it is compiled alone. */
  notRun?: string;
  /** The code of an error that it may end with, where the machine lacks something: a GPU. */
  mayThrow?: string;
}

/**
 * The fenced blocks of a Markdown file, in order. HTML comments right ahead of a block, which readers don't see, say more
 * about it:
 *
 * - `<!-- given: const cut = 3; -->`: code that is run ahead of it (it may have several lines)
 * - `<!-- continues -->`: it goes on where the `ts` block before it ended, with its variables
 * - `<!-- not run: needs a cluster -->`: it is compiled alone, and why
 * - `<!-- may throw: ERR_DEVICE_UNAVAILABLE -->`: it may end with this error
 *
 * @param document path below the root of the repository
 */
export function snippetsOfMarkdown(document: string): Snippet[] {
  const tokens = new MarkdownIt({ html: true }).parse(readFileSync(join(ROOT, document), 'utf8'), {});
  const snippets: Snippet[] = [];
  for (const [at, { type, info, content, map }] of tokens.entries()) {
    if (type !== 'fence') continue;
    const language = info.trim().split(/\s+/)[0] ?? '';
    const line = (map?.[0] ?? 0) + 2;
    const marks = marksAhead(tokens.slice(0, at), `${document}:${line}`);
    const continued = marks.continues ? snippets.findLast((each) => each.language === language) : undefined;
    if (marks.continues && !continued) throw new Error(`${document}:${line} continues nothing`);
    snippets.push({
      place: `${document}:${line}`,
      document,
      line,
      language,
      code: content,
      given: [...(continued ? [continued.given, continued.code] : []), ...marks.given].join('\n'),
      ...(marks.notRun !== undefined && { notRun: marks.notRun }),
      ...(marks.mayThrow !== undefined && { mayThrow: marks.mayThrow }),
    });
  }
  return snippets;
}

interface Marks {
  given: string[];
  continues: boolean;
  notRun?: string;
  mayThrow?: string;
}

/** What the comments right ahead of a block say. */
function marksAhead(tokens: { type: string; content: string }[], place: string): Marks {
  const marks: Marks = { given: [], continues: false };
  const comments: string[] = [];
  for (let at = tokens.length - 1; tokens[at]?.type === 'html_block'; at--) comments.unshift(tokens[at]?.content ?? '');
  for (const [, text = ''] of comments.join('').matchAll(/<!--\s*(.*?)\s*-->/gs)) {
    const [, name = '', value = ''] = /^([^:]*?)\s*(?::\s*(.*))?$/s.exec(text) ?? [];
    if (name === 'given' && value) marks.given.push(value);
    else if (name === 'continues' && !value) marks.continues = true;
    else if (name === 'not run' && value) marks.notRun = value;
    else if (name === 'may throw' && value) marks.mayThrow = value;
    else throw new Error(`${place}: expected one of the comments that extract.ts lists but received "${text}"`);
  }
  return marks;
}

/** A name that programs can import from the package, or a member of one. */
export interface PublicName {
  /** The entry of the package that exports it. */
  from: string;
  name: string;
  kind: 'class' | 'interface' | 'type' | 'function' | 'method' | 'property';
  /** What it is a member of. */
  of?: 'class' | 'interface';
  documentation: string;
  examples: string[];
}

/** All of them, from the declarations of dist/. */
export function publicNames(): PublicName[] {
  const script = join(ROOT, 'test', 'types', 'public-names.mjs');
  return JSON.parse(execFileSync(process.execPath, [script], { encoding: 'utf8' })) as PublicName[];
}

/** The examples of docstrings. One that is fenced is what the fence holds. */
export function snippetsOfDocstrings(names: readonly PublicName[] = publicNames()): Snippet[] {
  return names.flatMap(({ name, examples }) =>
    examples.map((example, i) => ({
      place: i === 0 ? name : `${name}, example ${i + 1}`,
      document: name,
      line: 1,
      language: 'ts',
      code: /^```ts\n(.*)^```$/ms.exec(example)?.[1] ?? example,
      given: '',
    })),
  );
}
