import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { load } from '../../lib/libtorch/load';
import { fixture, path } from './model-fixtures';

// What happens around a process: its end, its threads, its memory. Each in a process of its own, on the built package.
const DIST = join(__dirname, '..', '..', 'dist', 'index.js');
const MODEL = path(fixture('transformer').file);

const prelude = `
  const { ScriptModule, Tensor, HookedModel, setNumThreads } = require(${JSON.stringify(DIST)});
  const f32 = (...shape) => Tensor.from(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)), { shape });
  const MODEL = ${JSON.stringify(MODEL)};
  const width = (model) => model.namedParameters().find(({ name }) => name.endsWith('in_proj_weight')).tensor.shape[1];
`;

interface Ended {
  code: number | null;
  signal: string | null;
  output: string;
}

const run = (script: string, ...flags: string[]): Promise<Ended> => runIn({}, script, ...flags);

function runIn(environment: Record<string, string>, script: string, ...flags: string[]): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [
        ...flags,
        '-e',
        `${prelude}(async () => {${script}})().catch((error) => { console.error(error); process.exit(99); });`,
      ],
      { env: { ...process.env, ...environment } },
    );
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, output }));
  });
}

describe('the addon', () => {
  test('the event loop computes on its own thread: it starts no others', async () => {
    const { code, output } = await run(`
    const { readdirSync } = require('node:fs');
    const threads = () => readdirSync('/proc/self/task').length;
    const { nn } = require(${JSON.stringify(DIST)});
    f32(2);
    const before = threads();
    new nn.TransformerEncoder(new nn.TransformerEncoderLayer({ dModel: 512, nhead: 8 }), 2);
    console.log(threads() - before);
  `);
    expect({ code, output }).toEqual({ code: 0, output: '0\n' });
  });

  test('an idle addon does not keep the process alive', async () => {
    const started = Date.now();
    const { code } = await run(`
    const model = await ScriptModule.load(MODEL);
    const E = width(model);
    await model.captureAttention([f32(1, 3, E), f32(1, 2, E)]);
  `);
    expect(code).toBe(0);
    expect(Date.now() - started).toBeLessThan(30_000);
  });

  test('a second copy of the package in one process is refused, and the first goes on', async () => {
    const root = join(__dirname, '..', '..');
    const copy = mkdtempSync(join(tmpdir(), 'second-copy-'));
    try {
      const own = process.env['LIBTORCH_ATTENTION_BINARIES'];
      const binaries = join(copy, 'binaries');
      cpSync(load().binaries.directory, binaries, {
        recursive: true,
        filter: (file) => !/native_tests|libtorch_peer/.test(file),
      });
      cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
      cpSync(join(root, 'package.json'), join(copy, 'package.json'));
      symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
      const { code, output } = await run(`
      const { Worker } = require('node:worker_threads');
      const first = f32(2, 2);
      let error;
      process.env.LIBTORCH_ATTENTION_BINARIES = ${JSON.stringify(binaries)};
      try {
        require(${JSON.stringify(join(copy, 'dist', 'index.js'))}).Tensor.zeros([1]);
      } catch (thrown) {
        error = thrown;
      }
      ${own ? `process.env.LIBTORCH_ATTENTION_BINARIES = ${JSON.stringify(own)}` : 'delete process.env.LIBTORCH_ATTENTION_BINARIES'};
      console.log(error?.code, /another copy of libtorch-attention is loaded .*attention.node/.test(error?.message));
      const worker = new Worker(${JSON.stringify(`
        const { ScriptModule } = require(${JSON.stringify(DIST)});
        ScriptModule.load(${JSON.stringify(MODEL)}).then((model) => console.log(model.modules().length > 0));
      `)}, { eval: true });
      await new Promise((resolve) => worker.on('exit', resolve));
      const model = await ScriptModule.load(MODEL);
      const E = width(model);
      const { attentions } = await model.captureAttention([f32(2, 3, E), f32(2, 3, E)]);
      console.log(first.shape.join(), attentions.length > 0);
    `);
      expect({ code, output }).toEqual({ code: 0, output: 'ERR_ADDON_LOAD true\ntrue\n2,2 true\n' });
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  });
});

describe('process.exit', () => {
  test.each([0, 20, 300])('process.exit %d ms into a long run ends the process with its code', async (delay) => {
    const { code, signal, output } = await run(`
    const model = await ScriptModule.load(MODEL);
    const E = width(model);
    model.forward([f32(32, 600, E), f32(32, 600, E)]);
    setTimeout(() => process.exit(7), ${delay});
  `);
    expect({ code, signal, output }).toEqual({ code: 7, signal: null, output: expect.any(String) });
  });
});

describe('worker.terminate', () => {
  test('worker threads load the addon, run models, and may be terminated in the middle', async () => {
    const { code, output } = await run(`
    const { Worker } = require('node:worker_threads');
    const body = ${JSON.stringify(prelude)} + \`
      const { parentPort } = require('node:worker_threads');
      (async () => {
        const model = await ScriptModule.load(MODEL);
        const E = width(model);
        const { attentions } = await model.captureAttention([f32(1, 3, E), f32(1, 2, E)]);
        model.forward([f32(16, 400, E), f32(16, 400, E)]).catch(() => {});
        model.registerForwardHook('transformer.encoder.layers.0', () => new Promise(() => {}));
        model.forward([f32(1, 3, E), f32(1, 2, E)]).catch(() => {});
        parentPort.postMessage(attentions.length);
      })();\`;
    for (let i = 0; i < 4; i++) {
      const worker = new Worker(body, { eval: true });
      console.log(await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)));
      await new Promise((resolve) => setTimeout(resolve, i * 25));
      await worker.terminate();
    }
    const model = await ScriptModule.load(MODEL);
    const E = width(model);
    await model.forward([f32(1, 3, E), f32(1, 2, E)]);
    console.log('alive');
  `);
    expect(output.trim().split('\n')).toEqual(['5', '5', '5', '5', 'alive']);
    expect(code).toBe(0);
  });

  test('a worker that is terminated while a model reads memory that was taken over ends after that run', async () => {
    const { code, output } = await run(`
    const { Worker } = require('node:worker_threads');
    const body = ${JSON.stringify(prelude)} + \`
      const { parentPort, workerData } = require('node:worker_threads');
      (async () => {
        const model = await ScriptModule.load(MODEL);
        const E = width(model);
        const taken = (...shape) => Tensor.from(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5), { shape, copy: false });
        const wait = () => new Promise(() => {});
        if (workerData === 'waiting') model.registerForwardHook('transformer.encoder.layers.0', wait);
        const long = workerData === 'waiting' ? 5 : 400;
        for (let i = 0; i < 3; i++) model.forward([taken(16, long, E), taken(16, long, E)]).catch(() => {});
        setTimeout(() => parentPort.postMessage('running'), 50);
      })();\`;
    for (const workerData of ['busy', 'waiting', 'busy']) {
      const worker = new Worker(body, { eval: true, workerData });
      console.log(await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)));
      await worker.terminate();
    }
    const model = await ScriptModule.load(MODEL);
    const E = width(model);
    await model.forward([f32(1, 3, E), f32(1, 2, E)]);
    console.log('alive');
  `);
    expect(output.trim().split('\n')).toEqual(['running', 'running', 'running', 'alive']);
    expect(code).toBe(0);
  });
});

describe('ScriptModule#forward', () => {
  test('a long run delays neither timers nor fs', async () => {
    const { output } = await run(`
    const { monitorEventLoopDelay } = require('node:perf_hooks');
    const { stat } = require('node:fs/promises');
    setNumThreads(1);
    const model = await ScriptModule.load(MODEL);
    const E = width(model);
    const inputs = [f32(32, 600, E), f32(32, 600, E)];
    let running = true;
    const done = model.forward(inputs).then(() => (running = false));
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    let reads = 0;
    while (running) { await stat(MODEL); reads++; await new Promise((resolve) => setTimeout(resolve, 5)); }
    await done;
    console.log(JSON.stringify({ reads }));
  `);
    // A blocked event loop would have let no reading through until the end.
    expect(JSON.parse(output.trim().split('\n').at(-1) as string).reads).toBeGreaterThan(3);
  });

  test('models take no thread of libuv’s pool: with one thread in it, files are read while runs go on and wait', async () => {
    const { code, output } = await runIn(
      { UV_THREADPOOL_SIZE: '1' },
      `
    const { readFile } = require('node:fs/promises');
    setNumThreads(1);
    const model = await ScriptModule.load(MODEL);
    const E = width(model);
    const inputs = [f32(32, 600, E), f32(32, 600, E)];
    const ended = [];
    const runs = [1, 2, 3].map(() => model.forward(inputs).then(() => ended.push('run')));
    await new Promise((resolve) => setTimeout(resolve, 20)); // until the first is under way
    await readFile(MODEL).then(() => ended.push('read'));
    await Promise.all(runs);
    console.log(ended.join(' '));
  `,
    );
    expect(code).toBe(0);
    const order = output.trim().split('\n').at(-1)?.split(' ');
    expect(order).toHaveLength(4);
    // Behind them on one thread it would have been read last; one run may be over by then on a fast machine.
    expect(order?.indexOf('read')).toBeLessThan(2);
  });

  test('runs, captures, errors and hooks leave memory where it was', async () => {
    const { code, output } = await run(
      `
    setNumThreads(1);
    const model = await ScriptModule.load(MODEL);
    const E = width(model);
    const round = async (i) => {
      const inputs = [f32(2, 16, E), f32(2, 12, E)];
      await model.forward(inputs);
      await model.captureAttention(inputs, i % 3 ? {} : { heads: [0], averageHeads: true });
      await model.captureAttention(inputs, { maxBytes: 1 }).catch(() => {});
      await model.forward([inputs[0], 5]).catch(() => {});
      await model.forward([f32(2, 2, 3), f32(2, 2, 3)]).catch(() => {});
      const handle = model.registerForwardHook('transformer.encoder.layers.0', () => {});
      await model.forward(inputs);
      handle.remove();
    };
    const settle = async () => { for (let i = 0; i < 5; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); } };
    for (let i = 0; i < 150; i++) await round(i);
    await settle();
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 450; i++) await round(i);
    await settle();
    console.log((process.memoryUsage().rss - before) / 450);
  `,
      '--expose-gc',
    );
    expect(code).toBe(0);
    // A leaked tensor of a round would be some kilobytes, a leaked capture tens of them.
    expect(Number(output.trim().split('\n').at(-1))).toBeLessThan(20_000);
  });
});

describe('Tensor.from without a copy', () => {
  test('memory that was taken over is kept while anything uses it, given back afterwards, and never held twice', async () => {
    const { code, output } = await run(
      `
    const settle = async () => { for (let i = 0; i < 5; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); } };
    const held = () => Math.round(process.memoryUsage().rss / 2 ** 20);
    const size = 64 * 2 ** 20;
    Tensor.zeros([1]); // libtorch itself doesn't count
    await settle();
    const before = held();
    let tensor = Tensor.from(new Float32Array(size).fill(3), { copy: false });
    const once = held() - before;
    let part = tensor.narrow(0, size - 2, 2);
    tensor = undefined;
    await settle();
    const values = Array.from(part.toTypedArray());
    part = undefined;
    await settle();
    console.log(JSON.stringify({ once, values, after: held() - before }));
    for (let i = 0; i < 200; i++) Tensor.from(new Float32Array(2 ** 20).fill(i), { copy: false }).dispose();
    await settle();
    console.log(held() - before);
  `,
      '--expose-gc',
    );
    expect(code).toBe(0);
    const [first, last] = output.trim().split('\n') as [string, string];
    const { once, values, after } = JSON.parse(first);
    expect(values).toEqual([3, 3]);
    expect(once).toBeLessThan(256 + 100); // MB; a copy would make it 512
    expect(after).toBeLessThan(100);
    expect(Number(last)).toBeLessThan(200);
  });
});
