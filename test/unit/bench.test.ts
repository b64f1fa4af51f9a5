import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

// The parts of the benchmark that need no model, each in a Node of its own, since they are ES modules. No test of times.
const BENCH = join(__dirname, '..', '..', 'bench');
const url = (name: string): string => JSON.stringify(pathToFileURL(join(BENCH, name)).href);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bench-test-'));
});
afterAll(() => rm(folder, { recursive: true }));

function node(...args: string[]): Promise<{ code: number | null; output: string; errors: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args);
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (errors += chunk));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output, errors }));
  });
}

/** What a script prints as JSON in its last line. */
async function evaluate(script: string): Promise<unknown> {
  const { code, output, errors } = await node('--input-type=module', '-e', script);
  expect({ code, errors }).toEqual({ code: 0, errors: '' });
  return JSON.parse(output.trim().split('\n').at(-1) as string);
}

describe('summary', () => {
  test('quartiles lie between values where they fall there', async () => {
    const result = await evaluate(`
    import { summary } from ${url('measure.mjs')};
    console.log(JSON.stringify([summary([4, 1, 3, 2]), summary([7])]));
  `);
    expect(result).toEqual([
      { median: 2.5, low: 1.75, high: 3.25, count: 4 },
      { median: 7, low: 7, high: 7, count: 1 },
    ]);
  });
});

describe('takeTurns', () => {
  test('ways take turns, each first equally often, and a failing one is left out but undone', async () => {
    const result = await evaluate(`
    import { takeTurns } from ${url('measure.mjs')};
    const order = [];
    let undone = 0;
    let calls = 0;
    const way = (name) => ({ name, run: async () => { order.push(name); return order.length; } });
    const fragile = {
      name: 'c',
      prepare: () => () => { undone++; },
      run: async () => { if (++calls > 2) throw new Error('broken'); return 1; },
    };
    const { times, failures } = await takeTurns([way('a'), way('b'), fragile], { turns: 4, warmUps: 1 });
    console.log(JSON.stringify({
      order: order.join(''), undone, calls, times: [...times.keys()], turns: times.get('a').length,
      failures: [...failures].map(([name, { message }]) => [name, message]),
    }));
  `);
    expect(result).toEqual({
      order: 'abab' + 'ba' + 'ab' + 'ab', // the warm-up, then turns that begin with a, b, c, a
      undone: 3,
      calls: 3,
      times: ['a', 'b'],
      turns: 4,
      failures: [['c', 'broken']],
    });
  });
});

describe('compare and Report', () => {
  test('ratios are those of the same turn; limits become goals, met or missed, in text and JSON', async () => {
    const path = join(folder, 'goals.json');
    const printed = await evaluate(`
    import { compare } from ${url('measure.mjs')};
    import { Report } from ${url('report.mjs')};
    const way = (name, times, more) => ({ name, run: async () => times.shift(), ...more });
    const ways = [
      way('forward', [10, 20, 40]),
      way('fast', [11, 22, 44], { limit: 1.2 }),
      way('slow', [30, 60, 120], { limit: 1.2, base: 'fast', bytes: () => 2 ** 20 }),
      { name: 'absent', run: async () => { throw new Error('not here\\nat all'); } },
    ];
    const lines = [];
    const report = new Report({ print: (line) => lines.push(line) });
    report.section('tests', 'of the report');
    report.versions({ node: 'x' });
    report.comparison('A model', await compare(ways, { turns: 3, warmUps: 0 }));
    report.leftOut('a peer', 'not installed');
    report.goal('calls', 900, 1000, { atLeast: true, unit: ' a second' });
    report.goals();
    report.write(${JSON.stringify(path)}, { threads: 2 });
    console.log(JSON.stringify(lines.join('\\n')));
  `);
    expect(printed).toContain('absent failed: not here');
    expect(printed).toMatch(/A model: slow × forward\s+3\.00\s+at most 1\.2\s+MISSED/);
    expect(printed).toMatch(/A model: fast × forward\s+1\.10\s+at most 1\.2\s+met/);
    expect(printed).toMatch(/calls\s+900\.00 a second\s+at least 1000 a second\s+MISSED/);
    const written = JSON.parse(readFileSync(path, 'utf8'));
    expect(written).toMatchObject({
      threads: 2,
      versions: { node: 'x' },
      leftOut: [{ section: 'tests', what: 'a peer', why: 'not installed' }],
    });
    const [table] = written.sections.tests;
    expect(table.rows[2]).toMatchObject({ ratio: { median: 3 }, base: 'fast', bytes: 2 ** 20 });
    expect(table.rows[2].ratioToBase.median).toBeCloseTo(30 / 11);
    expect(written.goals.map(({ met }: { met: boolean }) => met)).toEqual([true, false, false]);
  });
});

describe('Peer', () => {
  test('a peer is driven line by line, fails without ending, and says what it lacks', async () => {
    const serving = `
    import { serve } from ${url('peers/serve.mjs')};
    console.log('a library says hello');
    await serve({
      versions: { peer: '1' },
      load: async () => {},
      prepare: async (way, batch, tokens) => async () => { if (way === 'bad') throw new Error('bad way'); },
      output: async (way, batch, tokens) => [batch, tokens],
    });
  `;
    const result = await evaluate(`
    import { Missing, Peer } from ${url('peers/peer.mjs')};
    const start = (script) => Peer.start(process.execPath, ['--expose-gc', '--input-type=module', '-e', script]);
    const peer = await start(${JSON.stringify(serving)});
    await peer.load('good');
    const failure = await peer.run('bad', 1, 1).catch(({ message }) => message);
    const ms = await peer.run('good', 2, 3, 4);
    const memory = await peer.memory('good', 2, 3, 4);
    const output = await peer.output('good', 2, 3);
    peer.end();
    const lacking = "import { missing } from " + ${JSON.stringify(url('peers/serve.mjs'))} + "; missing('no such package');";
    const missing = await start(lacking).catch((error) => [error instanceof Missing, error.message]);
    const broken = await start("throw new Error('broken peer')").catch(({ message }) => message);
    console.log(JSON.stringify({
      versions: peer.versions, failure, ms: ms >= 0, memory: memory.peak > 0 && memory.after > 0, output, missing, broken,
    }));
  `);
    expect(result).toEqual({
      versions: { peer: '1' },
      failure: 'bad way',
      ms: true,
      memory: true,
      output: [2, 3],
      missing: [true, 'no such package'],
      broken: expect.stringContaining('the peer ended'),
    });
  });
});

describe('timing', () => {
  test('turns and seconds that are given win, also over those of --quick', async () => {
    const result = await evaluate(`
    import { timing } from ${url('timing.mjs')};
    console.log(JSON.stringify([
      timing({ quick: false }), timing({ quick: true }),
      timing({ quick: true, turns: '7' }), timing({ quick: true, seconds: '0.5' }),
    ]));
  `);
    expect(result).toEqual([
      { turns: 15, seconds: 30, warmUps: 3 },
      { turns: 2, seconds: 1, warmUps: 1 },
      { turns: 7, seconds: 30, warmUps: 1 },
      { turns: 2, seconds: 0.5, warmUps: 1 },
    ]);
  });
});

describe('bench/main.mjs', () => {
  test.each([
    ['--threads', '1.5', 'an integer from 1 to 1024'],
    ['--threads', '0', 'an integer from 1 to 1024'],
    ['--threads', '1025', 'an integer from 1 to 1024'],
    ['--threads', '', 'an integer from 1 to 1024'],
    ['--turns', '2.5', 'a positive integer'],
    ['--seconds', '-1', 'a positive number'],
  ])('the program refuses %s %s with its usage', async (name, value, expected) => {
    const { code, errors } = await node(join(BENCH, 'main.mjs'), `${name}=${value}`);
    expect(code).toBe(2);
    expect(errors).toContain(`Expected ${expected} for ${name} but received ${value}.`);
    expect(errors).toContain('npm run bench -- [options]');
    expect(errors).not.toMatch(/^ +at /m);
  });

  test('the program explains its options and refuses what it does not know', async () => {
    const help = await node(join(BENCH, 'main.mjs'), '--help');
    expect(help.code).toBe(0);
    for (const word of ['--quick', '--busy', '--threads', 'captures', 'peers', 'memory'])
      expect(help.output).toContain(word);
    const unknown = await node(join(BENCH, 'main.mjs'), 'nonsense');
    expect(unknown.code).toBe(2);
    expect(unknown.errors).toContain('Expected sections but received nonsense');
  });
});

describe('movements', () => {
  test('rows whose spreads no longer overlap have moved; what only one run has, and what makes it unfair, is said', async () => {
    const result = await evaluate(`
    import { describeMovements, movements } from ${url('baseline.mjs')};
    const row = (name, median, ratio) => ({
      name,
      ms: { median, low: median - 1, high: median + 1 },
      ...(ratio && { ratio: { median: ratio, low: ratio - 0.01, high: ratio + 0.01 } }),
    });
    const of = (rows, goals, more) => ({
      sections: { captures: [{ title: 'bert', rows }] }, goals, threads: 2, machine: { cpu: 'x' }, ...more,
    });
    const goal = (value) => ({ section: 'calls', what: 'a call', value, unit: ' µs' });
    const before = of([], [goal(35)]);
    before.sections = {
      captures: [{ title: 'bert', rows: [row('forward', 40, 1), row('all', 50, 1.2), row('one', 41, 1.01), row('gone', 1, 3)] }],
      hooks: [{ title: 'not run now', rows: [row('x', 1)] }],
    };
    const after = of([row('forward', 41, 1), row('all', 50, 1.3), row('one', 60, 1.015)], [goal(52)], { threads: 1 });
    const moved = movements(before, after);
    console.log(JSON.stringify([moved, describeMovements(moved)]));
  `);
    const [{ moved, alike, missing, differs }, lines] = result as [
      { moved: { what: string; change: number }[]; alike: number; missing: string[]; differs: string[] },
      string[],
    ];
    expect(moved.map(({ what }) => what)).toEqual(['calls · a call', 'captures · bert · all']);
    expect(moved[1]?.change).toBeCloseTo(1.3 / 1.2);
    expect({ alike, missing, differs }).toEqual({
      alike: 2,
      missing: ['captures · bert · gone'],
      differs: ['threads'],
    });
    expect(lines[0]).toContain('no fair comparison');
    expect(lines.at(-1)).toBe('2 moved, 2 alike');
  });

  test('a baseline that is none is refused ahead of all measuring', async () => {
    const { code, errors } = await node(
      join(BENCH, 'main.mjs'),
      '--quick',
      '--compare',
      join(folder, 'none.json'),
      'calls',
    );
    expect(code).toBe(2);
    expect(errors).toMatch(/^Expected results of the benchmark for --compare but .*none\.json can't be used: ENOENT/);
  });
});
