import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

// Every relative link of every Markdown file leads to a file, and every anchor to a heading of it.

const ROOT = join(__dirname, '../..');
const documents = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], {
  cwd: ROOT,
  encoding: 'utf8',
})
  .split('\n')
  .filter((name) => name && existsSync(join(ROOT, name)));

/** A document without its blocks and spans of code, in which brackets are no links. */
function prose(document: string): string {
  return readFileSync(join(ROOT, document), 'utf8')
    .replace(/^(`{3,})[^\n]*\n.*?^\1$/gms, '')
    .replace(/(`+)(?!`).*?[^`]\1(?!`)/g, (code) => code.replace(/[[\]()]/g, ''));
}

/** The anchors of a document's headings, by GitHub's rule. */
function anchorsOf(document: string): Set<string> {
  const anchors = new Set<string>();
  const text = readFileSync(join(ROOT, document), 'utf8').replace(/^(`{3,})[^\n]*\n.*?^\1$/gms, '');
  for (const [, heading = ''] of text.matchAll(/^#{1,6} +(.*?)\s*#*$/gm)) {
    const words = heading
      .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, '')
      .replace(/ /g, '-');
    let anchor = words;
    for (let n = 1; anchors.has(anchor); n += 1) anchor = `${words}-${n}`;
    anchors.add(anchor);
  }
  for (const [, name = ''] of text.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(name);
  return anchors;
}

function linksOf(document: string): string[] {
  const text = prose(document);
  const inline = [...text.matchAll(/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g)].map(([, target = '']) => target);
  const references = [...text.matchAll(/^\[[^\]]+\]:\s*(\S+)/gm)].map(([, target = '']) => target);
  const html = [...text.matchAll(/\b(?:src|href)="([^"]+)"/g)].map(([, target = '']) => target);
  return [...inline, ...references, ...html].filter((target) => !/^[a-z][a-z+.-]*:/i.test(target));
}

test('no relative link and no anchor is broken', () => {
  const broken: string[] = [];
  let links = 0;
  for (const document of documents) {
    for (const target of linksOf(document)) {
      links += 1;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? document : relative(ROOT, join(ROOT, dirname(document), decodeURIComponent(path)));
      const there = statSync(join(ROOT, file), { throwIfNoEntry: false });
      if (!there || file.startsWith('..')) broken.push(`${document}: ${target} leads to nothing`);
      else if (anchor && !(file.endsWith('.md') && anchorsOf(file).has(anchor))) {
        broken.push(`${document}: ${target} names no heading`);
      }
    }
  }
  expect(links).toBeGreaterThan(50);
  expect(broken).toEqual([]);
});

test('every guide is reached from the index of the guides', () => {
  const reached = new Set(linksOf('docs/README.md').map((target) => `docs/${target.split('#')[0]}`));
  const guides = documents.filter((name) => /^docs\/[\w-]+\.md$/.test(name) && name !== 'docs/README.md');
  expect(guides.filter((name) => !reached.has(name))).toEqual([]);
});
