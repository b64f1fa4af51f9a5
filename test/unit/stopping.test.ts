import { join } from 'node:path';
import { prelude, runScript } from './built-process';

jest.setTimeout(150_000);

// What never ends by itself, and has to. Each in a process of its own.
const ENDLESS = [
  'bare',
  'nested',
  'multiplied',
  'huge',
  'operators',
  'modules',
  'attending',
  'called',
  'forked',
  'interface',
];

describe('signal and timeLimit', () => {
  test.each([
    ['a signal', '{ signal: AbortSignal.timeout(30) }', 'TimeoutError'],
    ['a time limit', '{ timeLimit: 30 }', 'ERR_TIME_LIMIT'],
  ])(
    '%s ends every loop, in runs, captures and runs with hooks, and nothing stays at work',
    async (_, options, code) => {
      const { code: ended, output } = await runScript(`
    const failed = [];
    for (const name of ${JSON.stringify(ENDLESS)}) {
      const model = await loops(name);
      const input = () => f32(4, 4);
      const tries = {
        forward: () => model.forward([input()], ${options}),
        grad: () => model.forward([input()], { grad: true, ...${options} }),
        capture: () => model.captureAttention([input()], ${options}),
        sites: () => model.attentionSites([input()], ${options}),
        stream: async () => { for await (const each of model.captureAttentionStream([input()], ${options})) each.weights.dispose(); },
        hooked: () => { model.registerForwardHook('', () => {}); return model.forward([input()], ${options}); },
      };
      for (const [what, call] of Object.entries(tries)) {
        const got = await failure(call());
        if (got !== '${code}') failed.push(name + ' ' + what + ': ' + got);
        await model.settled();
      }
    }
    console.log(JSON.stringify(failed));
  `);
      expect({ output, ended }).toEqual({ output: '[]', ended: 0 });
    },
  );

  test('an attention that was on its way to an aborted stream keeps nobody who waits for the model', async () => {
    const { code, output } = await runScript(`
    const model = await loops('attending');
    const stop = new AbortController();
    const stream = model.captureAttentionStream([f32(4, 4)], { signal: stop.signal });
    const attentions = stream[Symbol.asyncIterator]();
    await attentions.next();
    const next = attentions.next();
    // The model goes on, and its next attention waits for the event loop, which is busy until the abort.
    for (let i = 0; i < 10; ++i) await undefined;
    for (const until = Date.now() + 300; Date.now() < until; );
    stop.abort();
    console.log(await failure(next));
    await model.settled();
    console.log('settled');
  `);
    expect({ code, output }).toEqual({ code: 0, output: 'AbortError\nsettled' });
  });

  test('loops of programs that are frozen and fused stop as well', async () => {
    const { code, output } = await runScript(`
    const failed = [];
    for (const name of ['bare', 'multiplied', 'called', 'modules', 'interface']) {
      const model = await ScriptModule.load(${JSON.stringify(`${__dirname}/../fixtures/loops/`)} + name + '.pt', { optimize: true, fuse: true });
      for (let i = 0; i < 3; ++i) failed.push(await failure(model.forward([f32(4, 4)], { timeLimit: 20 })));
    }
    console.log([...new Set(failed)].join());
  `);
    expect({ code, output }).toEqual({ code: 0, output: 'ERR_TIME_LIMIT' });
  });

  test('gradients are stopped too: in the forward, and in the backward pass', async () => {
    const { code, output } = await runScript(`
    const once = await loops('attending_once');
    console.log(await failure(once.captureAttention([f32(1, 2, 4, 4)], { gradientOf: (output) => output.sum(), timeLimit: 30 })));
    const row = await loops('row');
    const signal = new AbortController();
    const x = f32(64, 64);
    const late = row.forward([x], { grad: true, timeLimit: 60000 });
    await late;
    console.log('through');
  `);
    expect({ code, output }).toEqual({ code: 0, output: 'ERR_TIME_LIMIT\nthrough' });
  });

  test('a backward pass stops: in a hook that never settles, between operators, and before it begins', async () => {
    const { code, output } = await runScript(`
    const layer = new nn.TransformerEncoderLayer({ dModel: 16, nhead: 2 }).eval();
    const x = f32(2, 5, 16);
    const recorded = async () => (await layer.forward(x, { grad: true })).sum();
    const handle = layer.registerFullBackwardHook('linear1', () => new Promise(() => {}));
    const stop = new AbortController();
    const aborted = failure((await recorded()).backward(undefined, { signal: stop.signal }));
    setTimeout(() => stop.abort(), 20);
    console.log(await aborted);
    console.log(await failure((await recorded()).backward(undefined, { timeLimit: 20 })));
    console.log(await failure((await recorded()).backward(undefined, { signal: AbortSignal.abort() })));
    handle.remove();
    console.log(await failure((await recorded()).backward(undefined, { timeLimit: 0 })));
    console.log(await failure((await recorded()).backward(undefined, { memoryLimit: 1 })));
    console.log(await failure((await recorded()).backward(Tensor.from(2), { timeLimit: 60000, signal: new AbortController().signal })));
    console.log(await failure((await recorded()).backward(undefined, { timelimit: 1 })));
    await layer.settled();
  `);
    expect({ code, output: output.split('\n') }).toEqual({
      code: 0,
      output: [
        'AbortError',
        'ERR_TIME_LIMIT',
        'AbortError',
        'ERR_TIME_LIMIT',
        'ERR_MEMORY_LIMIT',
        'nothing',
        'ERR_INVALID_ARGUMENT',
      ],
    });
  });

  test('loops that end give the same bits with limits and without', async () => {
    const { code, output } = await runScript(`
    const model = await loops('counted');
    const input = f32(4, 4);
    const bits = async (options) => Buffer.from((await model.forward([input, 20], options)).toTypedArray().buffer).toString('hex');
    const plain = await bits();
    const all = [];
    for (const options of [{ timeLimit: 1e9 }, { memoryLimit: 1e9 }, { signal: new AbortController().signal }, { grad: true }, {}]) {
      for (let i = 0; i < 3; ++i) all.push(await bits(options));
    }
    console.log(all.every((each) => each === plain));
  `);
    expect({ code, output }).toEqual({ code: 0, output: 'true' });
  });

  test('time counts from the start of execution, not from the call', async () => {
    const { code, output } = await runScript(`
    setConcurrency(1);
    const endless = await loops('bare');
    const model = await loops('counted');
    await model.forward([f32(4, 4), 1]);
    const first = failure(endless.forward([f32(4, 4)], { timeLimit: 1500 }));
    const second = failure(model.forward([f32(4, 4), 1], { timeLimit: 1000 }));
    console.log(await first, await second);
  `);
    expect({ code, output }).toEqual({ code: 0, output: 'ERR_TIME_LIMIT nothing' });
  });

  test('a run that was aborted in a long operator leaves its place to others', async () => {
    const { code, output } = await runScript(`
    setConcurrency(1);
    const row = await loops('row');
    const x = Tensor.zeros([1700, 1700]);
    const controllers = Array.from({ length: 12 }, () => new AbortController());
    const runs = controllers.map(({ signal }) => failure(row.forward([x], { signal })));
    await wait(100);
    for (const controller of controllers) controller.abort();
    console.log(new Set(await Promise.all(runs)).size);
    const model = await loops('counted');
    console.log(await failure(model.forward([f32(4, 4), 1])));
    await row.settled();
  `);
    expect({ code, output }).toEqual({ code: 0, output: '1\nnothing' });
  });
});

describe('memoryLimit', () => {
  test('a run holds no more memory than its limit, and says so; model and process go on', async () => {
    const { code, output } = await runScript(`
    const limit = 1 << 20;
    for (const name of ['growing', 'doubling']) {
      const model = await loops(name);
      for (const call of ['forward', 'captureAttention', 'attentionSites']) {
        console.log(await failure(model[call]([f32(4, 4)], { memoryLimit: limit })));
      }
    }
    const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer({ dModel: 16, nhead: 2, dropout: 0, batchFirst: true }), 2).eval();
    const input = f32(4, 50, 16);
    console.log(await failure(encoder.forward(input, { memoryLimit: 1000 })));
    console.log(await failure(encoder.captureAttention([input], { memoryLimit: 4 * 50 * 16 * 4 * 10 })));
    console.log(await failure(encoder.forward(input, { memoryLimit: 1e8 })));
    const { error } = await encoder.forward(input, { memoryLimit: 10 }).then(() => ({}), (error) => ({ error }));
    console.log(error.message);
  `);
    expect(code).toBe(0);
    const lines = output.split('\n');
    expect(lines.slice(0, 8)).toEqual(Array(8).fill('ERR_MEMORY_LIMIT'));
    expect(lines[8]).toBe('nothing');
    expect(lines[9]).toMatch(
      /^Expected at most 10 bytes of tensors at once \(memoryLimit\) but the run asked for \d+ more/,
    );
  });
});

describe('limits', () => {
  test('limits that are none are refused by name', async () => {
    const { output } = await runScript(`
    const model = await loops('counted');
    for (const options of [{ timeLimit: -1 }, { timeLimit: '5' }, { timeLimit: NaN }, { memoryLimit: 1.5 }, { memoryLimit: -1 }]) {
      console.log((await model.forward([f32(4, 4), 1], options).catch((error) => error)).message);
    }
    console.log(await failure(model.forward([f32(4, 4), 1], { timeLimit: Infinity, memoryLimit: Infinity })));
    console.log(await failure(model.forward([f32(4, 4), 1], { timeLimit: 0 })));
  `);
    expect(output.split('\n')).toEqual([
      'Expected a number of milliseconds of at least 0 for timeLimit but received -1 of type number',
      "Expected a number of milliseconds of at least 0 for timeLimit but received '5' of type string",
      'Expected a number of milliseconds of at least 0 for timeLimit but received NaN of type number',
      'Expected an integer of at least 0 for memoryLimit but received 1.5 of type number',
      'Expected an integer of at least 0 for memoryLimit but received -1 of type number',
      'nothing',
      'ERR_TIME_LIMIT',
    ]);
  });
});

describe('ScriptModule.load', () => {
  test('a load is stopped by its signal and its time limit, and another begins at once', async () => {
    const { code, output } = await runScript(`
    const path = ${JSON.stringify(`${__dirname}/../fixtures/loops/counted.pt`)};
    console.log(await failure(ScriptModule.load(path, { timeLimit: 0 })));
    const reason = new Error('enough');
    console.log(await failure(ScriptModule.load(path, { signal: AbortSignal.abort(reason) })));
    console.log(await failure(ScriptModule.load(path, { timeLimit: 60000, signal: new AbortController().signal })));
    console.log(await failure(ScriptModule.load(path, { timeLimit: -1 })));
  `);
    expect({ code, output }).toEqual({ code: 0, output: 'ERR_TIME_LIMIT\nError\nnothing\nERR_INVALID_ARGUMENT' });
  });
});

describe('code that an archive runs while it is loaded', () => {
  test('is stopped in its loops, and the process ends', async () => {
    const { code, signal, output } = await runScript(`
    const path = ${JSON.stringify(`${__dirname}/../fixtures/loops/restoring.pt`)};
    console.log(await failure(ScriptModule.load(path, { timeLimit: 50 })));
    console.log(await failure(ScriptModule.load(path, { signal: AbortSignal.timeout(50) })));
    console.log(await failure(loops('counted')));
  `);
    expect({ code, signal, output }).toEqual({
      code: 0,
      signal: null,
      output: 'ERR_TIME_LIMIT\nTimeoutError\nnothing',
    });
  });
});

describe('settled', () => {
  test('settled: resolves when what was aborted, queued or forked is over, and lent memory can be used again', async () => {
    const { code, output } = await runScript(`
    setConcurrency(1);
    const model = await loops('operators');
    await model.settled(); // nothing is going on
    const order = [];
    const memory = new Float32Array(new SharedArrayBuffer(64));
    const lent = Tensor.from(memory, { shape: [4, 4], copy: false });
    const runs = [1, 2, 3].map(() => failure(model.forward([lent], { signal: AbortSignal.timeout(50) })).then(() => order.push('rejected')));
    const settled = model.settled().then(() => order.push('settled'));
    await Promise.all([...runs, settled]);
    console.log(order.join(' '));
    const alone = await loops('forked_alone');
    await alone.forward([f32(4, 4)], { timeLimit: 4000 });
    const started = Date.now();
    await alone.settled();
    console.log(Date.now() - started > 50);
    model.dispose();
    await model.settled();
    const hooked = await loops('counted');
    let inside;
    hooked.registerForwardHook('step', async () => { inside ??= await failure(hooked.settled()); });
    await hooked.forward([f32(4, 4), 1]);
    console.log(inside);
    let over = false;
    hooked.registerForwardHook('step', async () => { await wait(300); over = true; });
    await failure(hooked.forward([f32(4, 4), 1], { signal: AbortSignal.timeout(100) }));
    await hooked.settled();
    console.log(over);
    const norm = new nn.LayerNorm(4);
    await norm.forward(f32(4, 4)).then(() => norm.settled());
    console.log('end');
  `);
    expect(code).toBe(0);
    expect(output.split('\n')).toEqual(['rejected rejected rejected settled', 'true', 'ERR_MODEL_RUN', 'true', 'end']);
  });
});

describe('registerForwardHook', () => {
  test('what a hook throws is kept no longer than its run, however that ends', async () => {
    const { code, output } = await runScript(
      `
    const model = await loops('counted');
    const settle = async () => { for (let i = 0; i < 6; i++) { gc(); await wait(10); } };
    let left = 0;
    const registry = new FinalizationRegistry(() => --left);
    let act = () => {};
    const thrown = () => { const error = new Error('x'.repeat(1000)); ++left; registry.register(error); return error; };
    model.registerForwardHook('step', () => act());
    const round = async () => {
      const controller = new AbortController();
      act = () => { controller.abort(new Error('stop')); throw thrown(); };
      await failure(model.forward([f32(4, 4), 1], { signal: controller.signal }));
      act = async () => { controller.abort(); await null; throw thrown(); };
      await failure(model.forward([f32(4, 4), 1], { signal: controller.signal }));
      const later = new AbortController();
      act = async () => { later.abort(); await wait(1); throw thrown(); };
      await failure(model.forward([f32(4, 4), 1], { signal: later.signal }));
      act = () => { throw thrown(); };
      await failure(model.forward([f32(4, 4), 1]));
    };
    for (let i = 0; i < 50; ++i) await round();
    act = () => {};
    await model.settled();
    await settle();
    console.log(left < 10 ? 'none' : left);
    const error = await (async () => { act = () => { throw new RangeError('mine'); }; })().then(() => model.forward([f32(4, 4), 1])).catch((error) => error);
    console.log(error.code, error.cause instanceof RangeError, error.message);
  `,
      { flags: ['--expose-gc'] },
    );
    expect(code).toBe(0);
    expect(output.split('\n')).toEqual(['none', "ERR_HOOK_FAILED true The forward hook on 'step' failed: mine"]);
  });
});

describe('process.exit', () => {
  test('the process exits at once while loops go round, with lent memory too, and by itself when they were stopped', async () => {
    const going = (end: string) => `
    const model = await loops('bare');
    const lent = Tensor.from(new Float32Array(16), { shape: [4, 4], copy: false });
    const controller = new AbortController();
    failure(model.forward([lent], { signal: controller.signal }));
    failure(model.forward([lent]));
    await wait(50);
    ${end}`;
    for (const [end, expected] of [
      ['process.exit(7)', 7],
      ['setTimeout(() => { throw new Error("uncaught"); })', 1],
    ] as const) {
      const { code, signal } = await runScript(going(end));
      expect({ end, code, signal }).toEqual({ end, code: expected, signal: null });
    }
    const stopped = await runScript(`
    const model = await loops('bare');
    const controller = new AbortController();
    const run = failure(model.forward([f32(4, 4)], { signal: controller.signal }));
    await wait(50);
    controller.abort();
    console.log(await run);
  `);
    expect(stopped).toMatchObject({ code: 0, output: 'AbortError' });
  });
});

describe('worker.terminate', () => {
  test('a worker that is terminated takes its runs along: endless, queued, on memory of its own and on shared memory', async () => {
    const { code, output } = await runScript(`
    const { Worker } = require('node:worker_threads');
    setConcurrency(2);
    const body = ${JSON.stringify(prelude)} + \`
      const { parentPort, workerData } = require('node:worker_threads');
      (async () => {
        const [name, kind] = workerData;
        const model = await loops(name);
        const memory = kind === 'shared' ? new Float32Array(new SharedArrayBuffer(64)) : new Float32Array(16);
        const input = kind === 'copied' ? f32(4, 4) : Tensor.from(memory, { shape: [4, 4], copy: false });
        for (let i = 0; i < 4; i++) failure(model.forward([input]));
        failure(model.captureAttention([input]));
        setTimeout(() => parentPort.postMessage('running'), 50);
      })();\`;
    const ended = [];
    for (const name of ['bare', 'operators', 'forked', 'forked_alone', 'interface']) {
      for (const kind of ['copied', 'taken', 'shared']) {
        const worker = new Worker(body, { eval: true, workerData: [name, kind] });
        await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
        const started = Date.now();
        await worker.terminate();
        ended.push(Date.now() - started < 20000);
      }
    }
    console.log(ended.every(Boolean), ended.length);
    const model = await loops('counted');
    console.log(await failure(model.forward([f32(4, 4), 1])));
    const last = new Worker(body, { eval: true, workerData: ['bare', 'shared'] });
    await new Promise((resolve) => last.once('message', resolve));
    process.exit(5);
  `);
    expect({ code, output }).toEqual({ code: 5, output: 'true 15\nnothing' });
  });
});

describe('releaseMemory', () => {
  test('what memory waits for the next results is given back, and results go on', async () => {
    const { code, output } = await runScript(
      `
    const held = () => Math.round(process.memoryUsage().rss / 2 ** 20);
    const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer({ dModel: 16, nhead: 1, dropout: 0, batchFirst: true }), 2).eval(); // one head: no fused layer
    const input = f32(16, 900, 16);
    const round = async () => { for (const { weights } of (await encoder.captureAttention([input])).attentions) weights.dispose(); };
    await round();
    await round();
    const before = held();
    releaseMemory();
    console.log(before - held() > 60);
    await round();
    console.log('on');
  `,
      { flags: ['--expose-gc'] },
    );
    expect({ code, output }).toEqual({ code: 0, output: 'true\non' });
  });
});

describe('ScriptModule#forward', () => {
  test('where the system starts no thread, a call is refused with a code, and the next ones are not', async () => {
    const { code, output } = await runScript(`
    const { execFileSync } = require('node:child_process');
    const { readFileSync } = require('node:fs');
    f32(2);
    const bytes = readFileSync(${JSON.stringify(join(__dirname, '..', 'fixtures', 'loops', 'counted.pt'))}); // a path would need libuv's threads first
    const limit = (bytes) => execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + bytes + ':unlimited']);
    const size = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
    limit(size + (1 << 20)); // a thread's stack takes more
    const refused = failure(ScriptModule.load(bytes));
    await new Promise(setImmediate); // it has asked for a thread then
    limit('unlimited');
    console.log(await refused);
    const model = await loops('counted');
    console.log(await failure(model.forward([f32(4, 4), 1])));
  `);
    expect({ code, output }).toEqual({ code: 0, output: 'ERR_MODEL_RUN\nnothing' });
  });
});
