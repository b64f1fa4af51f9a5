import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createProgram } from '../../lib/cli/main';
import { hasRedis } from '../kills/redis.cjs';
import {
  doubling,
  expectEachOnce,
  folder,
  inputFiles,
  resultsOf,
  TEXT_MODEL,
  TOKENIZER,
  workersOf,
} from './bulk-fixtures';

const MAIN = join(__dirname, '..', '..', 'dist', 'cli', 'main.js');
const KILLS = join(__dirname, '..', 'kills', 'main.mjs');

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [MAIN, 'bulk', ...args], { encoding: 'utf8', cwd: folder, timeout: 60_000 });
}

/** What a program says that uses the packages of Parquet, which are ES modules. */
function parquet(script: string): string {
  const imports = `import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'; import { parquetWriteFile } from 'hyparquet-writer';`;
  const json = `const json = (value) => JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? Number(each) : each));`;
  return execFileSync(process.execPath, ['--input-type=module', '-e', `${imports}${json}${script}`], {
    encoding: 'utf8',
  });
}

test('texts come from Parquet, and results go there', () => {
  const [text, out] = [join(folder, 'texts.parquet'), join(folder, 'parquet')];
  const column = (name: string, data: (string | null)[]) => ({ name, data, type: 'STRING' });
  const columnData = [
    column('line', ['the cat', 'a dog sat', null, 'the mat', 'cat']),
    column('text_pair', [null, 'on the mat', null, null, null]),
  ];
  parquet(
    `parquetWriteFile({ filename: ${JSON.stringify(text)}, columnData: ${JSON.stringify(columnData)}, rowGroupSize: 2 });`,
  );
  const source = ['--text', text, '--text-field', 'line', '--tokenizer', TOKENIZER];
  const kept = ['--top-k', '2', '--layers', '-1', '--no-output', '--format', 'parquet', '--chunk-size', '3'];
  const { status, stdout, stderr } = run(TEXT_MODEL, ...source, ...kept, '--out', out, '--workers', '1');
  expect([status, stdout, stderr]).toEqual([0, `4 of 5 inputs in 2 files in ${out}; 1 failed, see failed.jsonl\n`, '']);
  const files = JSON.stringify([0, 1].map((chunk) => join(out, `part-0000000${chunk}.parquet`)));
  const rows = JSON.parse(
    parquet(
      `const rows = []; for (const path of ${files}) rows.push(...await parquetReadObjects({ file: await asyncBufferFromFile(path) })); console.log(json(rows));`,
    ),
  ) as {
    index: number;
    input: string;
    tensor: string;
    module: string;
    dtype: string;
    shape: number[];
    values: number[];
  }[];
  expect(rows.map(({ index, tensor, dtype, shape }) => [index, tensor, dtype, ...shape])).toEqual(
    [
      [0, 4],
      [1, 6],
      [3, 4],
      [4, 3],
    ].flatMap(([index, length]) => [
      [index, 'attentions.1', 'float32', 1, 3, length, 2],
      [index, 'attentions.1.keys', 'int64', 1, 3, length, 2],
    ]),
  );
  expect(rows[0]).toMatchObject({ input: 'texts.parquet:1', module: 'layers.1' });
  expect(rows[1]?.values.every((key) => key >= 0 && key < 4)).toBe(true);
  const failed = readFileSync(join(out, 'failed.jsonl'), 'utf8').trim().split('\n');
  expect(failed.map((each) => JSON.parse(each))).toEqual([
    expect.objectContaining({ index: 2, input: 'texts.parquet:3' }),
  ]);
});

test('SIGTERM ends it once the chunks under way are done, and --resume goes on; SIGKILL leaves no process', async () => {
  const values = Array.from({ length: 240 }, (_, i) => i);
  const [inputs, out] = [await inputFiles('many', values), join(folder, 'signals')];
  const start = (...args: string[]) => {
    const given = [
      doubling(),
      '--inputs',
      inputs,
      '--no-attention',
      '--out',
      out,
      '--chunk-size',
      '4',
      '--workers',
      '1',
    ];
    const child = spawn(process.execPath, [MAIN, 'bulk', ...given, ...args]);
    let log = '';
    child.stderr.on('data', (chunk) => (log += chunk));
    const over = () => child.exitCode !== null;
    return { child, over, ended: new Promise((resolve) => child.on('close', (...end) => resolve([...end, log]))) };
  };
  const begun = async (count: number, { over }: { over: () => boolean }): Promise<void> => {
    const there = () => {
      try {
        return readdirSync(join(out, 'chunks')).length;
      } catch {
        return 0;
      }
    };
    while (there() < count && !over()) await wait(5);
  };
  const first = start();
  await begun(2, first);
  first.child.kill('SIGTERM');
  expect(await first.ended).toEqual([143, null, expect.stringMatching(/--resume goes on/)]);
  const kept = readdirSync(join(out, 'chunks')).length;
  expect(kept).toBeGreaterThan(1);
  expect(readdirSync(join(out, '.scratch'))).toEqual([]);
  if (kept < 60) {
    expect(run('status', '--out', out).stdout).toMatch(new RegExp(`^running.*\n${kept * 4} of 240 inputs done`));
    const second = start('--resume');
    await begun(kept + 2, second);
    const workers = workersOf(second.child.pid);
    second.child.kill('SIGKILL');
    expect(await second.ended).toEqual([null, 'SIGKILL', '']);
    const isThere = (pid: number) =>
      spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).stdout.trim();
    while (workers.some((pid) => /^[^Z]/.test(isThere(pid)))) await wait(20);
  }
  expect(await start('--resume').ended).toEqual([0, null, '']);
  expectEachOnce(await resultsOf(out), 240);
});

// The system's own word that a disk is full, where one may be mounted.
const disk = mkdtempSync(join(tmpdir(), 'disk-'));
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'tmpfs', disk]).status === 0;
afterAll(() => {
  if (mounted) spawnSync('umount', [disk]);
  rmdirSync(disk);
});

(mounted ? test : test.skip)(
  'a disk that is full ends it with a line that says so, and it goes on when there is room',
  async () => {
    const inputs = await inputFiles(
      'for-a-disk',
      Array.from({ length: 40 }, (_, i) => i),
    );
    const out = join(disk, 'results');
    const given = [
      doubling(),
      '--inputs',
      inputs,
      '--no-attention',
      '--out',
      out,
      '--chunk-size',
      '1',
      '--workers',
      '1',
    ];
    const { status, stderr } = run(...given);
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/^error: Expected room .*--resume \[ERR_NO_SPACE\]\n$/),
    ]);
    expect(spawnSync('mount', ['-o', 'remount,size=16m', disk]).status).toBe(0);
    expect(run(...given, '--resume').status).toBe(0);
    expectEachOnce(await resultsOf(out), 40);
  },
);

test('what can not be run ends the command with a line that says why', async () => {
  const lines = join(folder, 'lines.txt');
  writeFileSync(lines, 'the cat\n');
  const texts = ['--text', lines, '--tokenizer', TOKENIZER];
  const [path, out] = [join(folder, 'x'), join(folder, 'nowhere')];
  for (const [args, message] of [
    [['none.pt', ...texts, '--out', path], /model.*none\.pt/],
    [[lines, ...texts, '--out', path, '--workers', '1'], /^Expected a /],
    [[TEXT_MODEL, '--out', path], /inputs or text.*neither/],
    [[TEXT_MODEL, '--inputs', 'no-such-*', '--out', path], /no-such-\*/],
    [[TEXT_MODEL, '--text', lines, '--out', path], /tokenizer/],
    [[TEXT_MODEL, ...texts, '--out', `${path}-layers`, '--layers', 'nothing', '--workers', '1'], /'nothing'/],
    [[TEXT_MODEL, ...texts, '--out', path, '--queue', 'redis://127.0.0.1:1'], /Redis/],
    [['work', '--out', out], /nowhere.*manifest/],
  ] as const) {
    const command = createProgram().parseAsync(['node', 'libtorch-attention', 'bulk', ...args]);
    await expect(command).rejects.toThrow(message);
  }
  expect(readdirSync(folder)).not.toContain('nowhere');
  const { status, stderr } = run('work', '--out', out);
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^error: Expected a run .*\[ERR_INVALID_ARGUMENT\]\n$/)]);
  expect(run(TEXT_MODEL, ...texts)).toMatchObject({ status: 1, stderr: expect.stringMatching(/--out/) });
});

// Many more runs: npm run test:kills.
test('random kills lose nothing and double nothing', () => {
  const engine = hasRedis ? 'both' : 'embedded';
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [KILLS, '--runs', '1', '--engine', engine, '--inputs', '300', '--seed', String(Date.now() % 1000)],
    { encoding: 'utf8', timeout: 170_000 },
  );
  const right = (name: string) => `${name} 1: right.*\\n`;
  const expected = new RegExp(`^${right('embedded')}${hasRedis ? right('queue') : ''}`);
  expect([status, stdout, stderr]).toEqual([0, expect.stringMatching(expected), '']);
}, 180_000);
