import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { HookedModel, nn, ScriptModule, setNumThreads, Tensor } from '../../dist/index.js';

const MODELS = fileURLToPath(new URL('../fixtures/models', import.meta.url));
const PACKAGE = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
const FILE = join(MODELS, 'two_of_a_class_script.pt');

const f32 = (...shape) => Tensor.from(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5), { shape });

async function prepared() {
  setNumThreads(1);
  const model = await ScriptModule.load(FILE);
  return { model, inputs: model.signature().parameters.map(() => f32(2, 3, 16)) };
}

async function refused(work) {
  try {
    await work();
  } catch {
    return;
  }
  throw new Error('a call that should fail did not');
}

/** What is done how many times. \`start\` resolves to what does it once. */
export const sections = {
  captures: {
    count: 20_000,
    async start() {
      const { model, inputs } = await prepared();
      return () => model.captureAttention(inputs);
    },
  },
  loads: {
    count: 2000,
    async start() {
      const { inputs } = await prepared();
      const bytes = new Uint8Array(readFileSync(FILE));
      return async (i) => {
        const model = await ScriptModule.load(i % 2 ? FILE : bytes);
        await model.forward(inputs);
        model.dispose();
      };
    },
  },
  failures: {
    count: 20_000,
    async start() {
      const { model, inputs } = await prepared();
      const broken = new Uint8Array(readFileSync(join(MODELS, 'broken_code.pt')));
      const aborted = AbortSignal.abort();
      const ways = [
        () => model.forward([f32(2, 3, 7)]),
        () => model.forward(['none']),
        () => model.forward(inputs, { signal: aborted }),
        () => model.captureAttention(inputs, { maxBytes: 1 }),
        () => model.captureAttention(inputs, { layers: ['none'] }),
        () =>
          model.captureAttention(inputs, {
            onAttention: () => {
              throw new Error('meant');
            },
          }),
        () => ScriptModule.load(broken),
        () => ScriptModule.load('/none'),
        () => new nn.MultiheadAttention({ embedDim: 3, numHeads: 2 }),
        () => Tensor.from([1, 2], { shape: [3] }),
      ];
      return (i) => refused(ways[i % ways.length]);
    },
  },
  hooks: {
    count: 5000,
    async start() {
      const { model, inputs } = await prepared();
      const names = model.modules().map(({ name }) => name);
      return async (i) => {
        const handle = model.registerForwardHook(names[i % names.length], (_module, _input, output) => output);
        const hooked = new HookedModel(model);
        hooked.setForwardHook('a', '');
        await model.forward(inputs);
        hooked.hooks.get('a')?.output;
        handle.remove();
        hooked.delHook('a');
        // A hook that throws, and one that aborts its own run.
        const controller = new AbortController();
        const failing = model.registerForwardHook('', () => {
          if (i % 2) controller.abort();
          throw new Error('meant');
        });
        await refused(() => model.forward(inputs, { signal: controller.signal }));
        failing.remove();
      };
    },
  },
  workers: {
    count: 300,
    async start() {
      const { model } = await prepared();
      const shapes = model.signature().parameters.length;
      const body = `
        const { ScriptModule, Tensor, setNumThreads } = require(${JSON.stringify(PACKAGE)});
        (async () => {
          const model = await ScriptModule.load(${JSON.stringify(FILE)});
          const inputs = Array.from({ length: ${shapes} }, () => Tensor.zeros([2, 3, 16]));
          await model.captureAttention(inputs);
          require('node:worker_threads').parentPort.postMessage('done');
        })();`;
      return async (i) => {
        const worker = new Worker(body, { eval: true });
        const over = new Promise((resolve) => worker.once('exit', resolve));
        await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
        if (i % 2) await worker.terminate();
        await over;
      };
    },
  },
};
