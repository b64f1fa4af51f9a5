import { AsyncLocalStorage } from 'node:async_hooks';
import { ScriptModule, Tensor } from '../../lib/index';
import { DIST, runScript } from './built-process';
import { fixture, ticks } from './hook-fixtures';
import { archiveOf } from './script-archive';

// Runs of a few microseconds, whose ends the event loop waits for rather than sleeping: what else it has to do comes to its
// turn, and nothing is lost or comes out of order.

jest.setTimeout(150_000);

const MODEL = fixture('hand_sdpa_script.pt');
const input = () =>
  Tensor.from(
    Float32Array.from({ length: 16 }, (_, i) => Math.sin(i)),
    { shape: [1, 1, 16] },
  );
const numbers = (tensor: Tensor) => [...(tensor.toTypedArray() as Float32Array)];

describe('a loop of short runs', () => {
  test('leaves the event loop to timers and immediates, and gives the same each time', async () => {
    const model = await ScriptModule.load<[Tensor], Tensor>(MODEL);
    const expected = numbers(await model.forward([input()]));
    let timers = 0;
    let immediates = 0;
    const timer = setInterval(() => timers++, 1);
    let going = true;
    const turn = () => {
      immediates++;
      if (going) setImmediate(turn);
    };
    setImmediate(turn);
    const began = Date.now();
    while (Date.now() - began < 300) expect(numbers(await model.forward([input()]))).toEqual(expected);
    going = false;
    clearInterval(timer);
    expect(timers).toBeGreaterThan(5);
    expect(immediates).toBeGreaterThan(5);
  });

  test('many at once end, each with its own result', async () => {
    const model = await ScriptModule.load<[Tensor], Tensor>(MODEL);
    for (let round = 0; round < 5; round++) {
      const inputs = Array.from({ length: 20 }, (_, i) =>
        Tensor.from(new Float32Array(16).fill(i + round), { shape: [1, 1, 16] }),
      );
      const together = await Promise.all(inputs.map((each) => model.forward([each])));
      for (const [i, each] of together.entries()) {
        expect(numbers(each)).toEqual(numbers(await model.forward([inputs[i] as Tensor])));
      }
    }
  });

  test('keeps the context of its caller', async () => {
    const model = await ScriptModule.load<[Tensor], Tensor>(MODEL);
    const storage = new AsyncLocalStorage<number>();
    const inside = (id: number) =>
      storage.run(id, async () => {
        for (let i = 0; i < 50; i++) {
          await model.forward([input()]);
          expect(storage.getStore()).toBe(id);
        }
      });
    await inside(1);
    await Promise.all([inside(2), inside(3)]);
  });

  test('calls hooks and gives what they make of it', async () => {
    const model = await ScriptModule.load<[Tensor], Tensor>(MODEL);
    for (let i = 0; i < 50; i++) await model.forward([input()]);
    let calls = 0;
    const handle = model.registerForwardHook('', () => {
      calls++;
      return Tensor.from([7]);
    });
    for (let i = 0; i < 50; i++) expect(numbers(await model.forward([input()]))).toEqual([7]);
    handle.remove();
    expect(calls).toBe(50);
  });

  test('captures give all attentions before they end', async () => {
    const model = await ScriptModule.load<[Tensor], Tensor>(MODEL);
    for (let i = 0; i < 100; i++) {
      const seen: number[] = [];
      await model.captureAttention([input()], {
        onAttention: async ({ index, weights }) => {
          if (i % 2) await ticks(0);
          seen.push(index);
          weights.dispose();
        },
      });
      expect(seen).toEqual([0, 1]);
    }
  });

  test('reports failures', async () => {
    const model = await ScriptModule.load<[Tensor], Tensor>(MODEL);
    for (let i = 0; i < 40; i++) {
      await model.forward([input()]);
      await expect(model.forward([Tensor.from([1])])).rejects.toMatchObject({ code: 'ERR_MODEL_RUN' });
    }
  });
});

describe('in a process of its own', () => {
  const encoded = (body: string) =>
    Buffer.from(archiveOf(`def forward(self: __torch__.M, x: Tensor) -> Tensor:\n${body}  return x`)).toString(
      'base64',
    );
  // Some ten microseconds a run, and some milliseconds.
  const SHORT = '  x = torch.softmax(x, -1)\n'.repeat(8);
  const LONG = '  for i in range(5000):\n    x = torch.softmax(x, -1)\n';
  const load = `
    const model = await ScriptModule.load(Buffer.from('${encoded(SHORT)}', 'base64'));
    const x = f32(16);
    const run = async (count) => { for (let i = 0; i < count; i++) await model.forward([x]); };
  `;

  test('the event loop waits for ends where runs are short, and not where they are long', async () => {
    const { code, output } = await runScript(`
      let waits = 0;
      const { setImmediate: immediate } = globalThis;
      globalThis.setImmediate = (...all) => { waits++; return immediate(...all); };
      ${load}
      await run(500);
      const short = waits;
      const long = await ScriptModule.load(Buffer.from('${encoded(LONG)}', 'base64'));
      for (let i = 0; i < 20; i++) await long.forward([x]);
      console.log(short > 0, waits === short);
    `);
    expect({ code, output }).toEqual({ code: 0, output: 'true true' });
  });

  test('an environment whose immediates never come still gets its results', async () => {
    const { code, output } = await runScript(`
      let waits = 0;
      globalThis.setImmediate = () => { waits++; };
      ${load}
      await run(500);
      console.log('done', waits);
    `);
    expect({ code, output }).toEqual({ code: 0, output: 'done 1' });
  });

  test('one whose immediates throw, or that has none, too', async () => {
    for (const immediate of ["() => { console.log('called'); throw new Error('no'); }", 'undefined']) {
      const { code, output } = await runScript(`
        globalThis.setImmediate = ${immediate};
        ${load}
        await run(500);
        console.log('done');
      `);
      expect({ code, output }).toEqual({ code: 0, output: immediate === 'undefined' ? 'done' : 'called\ndone' });
    }
  });

  test('workers that are terminated in such loops end', async () => {
    const { code, output } = await runScript(`
      const { Worker } = require('node:worker_threads');
      const source = \`
        const { ScriptModule, Tensor } = require(\${JSON.stringify(${JSON.stringify(DIST)})});
        (async () => {
          const model = await ScriptModule.load(${JSON.stringify(MODEL)});
          const x = Tensor.from(new Float32Array(16), { shape: [1, 1, 16] });
          for (let i = 0; ; i++) {
            await model.forward([x]);
            if (i === 100) require('node:worker_threads').parentPort.postMessage('going');
          }
        })();
      \`;
      ${load}
      for (let i = 0; i < 10; i++) {
        const worker = new Worker(source, { eval: true });
        await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject); });
        await wait(i);
        await worker.terminate();
        await model.forward([x]);
      }
      console.log('done');
    `);
    expect({ code, output }).toEqual({ code: 0, output: 'done' });
  });
});
