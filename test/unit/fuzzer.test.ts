import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runScript } from './built-process';

const imported = (name: string) =>
  `await import(${JSON.stringify(pathToFileURL(join(__dirname, '..', 'fuzz', name)).href)})`;

test('a case that can’t be made is counted as such, and those behind it are run', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fuzzer-'));
  try {
    const { output } = await runScript(`
      const { runBatch } = ${imported('supervisor.mjs')};
      const seen = [];
      const limits = { seed: 1, to: 7, keep: ${JSON.stringify(join(folder, 'kept'))}, timeout: 1000, memory: 2 ** 31 };
      for (let from = 0; from < 7; ) {
        from = await runBatch('../fixtures/fuzz/unmakeable', { ...limits, from }, (each) => seen.push(each));
      }
      console.log(JSON.stringify(seen.map(({ index, outcome, about }) => [index, outcome, about ?? ''].join(' ').trim())));
    `);
    expect(JSON.parse(output)).toEqual([
      '0 ran case 0',
      '1 unmade',
      '2 ran case 2',
      '3 unmade',
      '4 ran case 4',
      '5 unmade',
      '6 ran case 6',
    ]);
    expect(readdirSync(folder)).toEqual(['kept.bin']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('fields of an archive have a size, whatever its files are called', async () => {
  const { output } = await runScript(`
    const { writeZip } = ${imported('zip.mjs')};
    const { fields } = writeZip([{ name: '', data: new Uint8Array(3) }]);
    console.log(fields.length > 0 && fields.every(({ size }) => size > 0));
  `);
  expect(output).toBe('true');
});

test('changes of a large file, and of large parts, fit into little memory', async () => {
  const script = `
    const { mutate } = ${imported('mutations.mjs')};
    const { editJson } = ${imported('json-edits.mjs')};
    const { writeZip } = ${imported('zip.mjs')};
    const { Random } = ${imported('random.mjs')};
    let largest = 0;
    const archive = (size) => writeZip(
      ['model.json', 'code.py', 'data.pkl', 'weight'].map((name) => ({ name: 'x/' + name, data: new Uint8Array(size) })),
    ).bytes;
    const large = archive(8e6);
    for (let i = 0; i < 40; i++) largest = Math.max(largest, mutate(new Random(1, i), 'zip', large, large).bytes.length);
    const document = Buffer.from(JSON.stringify({ parts: [{ text: 'x'.repeat(1e6) }] }));
    for (let i = 0; i < 300; i++) largest = Math.max(largest, editJson(new Random(2, i), document, []).length);
    console.log(largest);
  `;
  const { code, output } = await runScript(script, { flags: ['--max-old-space-size=300'] });
  expect([code, output]).toEqual([0, expect.stringMatching(/^\d+$/)]);
  expect(Number(output)).toBeLessThan(2e8);
});
