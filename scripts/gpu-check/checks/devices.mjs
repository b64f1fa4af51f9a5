import { fixture, inputsOf, load, modelCase, noise } from '../cases.mjs';
import {
  bits,
  check,
  close,
  closeValues,
  failure,
  numbers,
  onDevice,
  same,
  sameBits,
  sameWeights,
  tensorsIn,
  torch,
} from '../compare.mjs';

const { ScriptModule, Tensor } = torch;
const path = (name) => fixture('models', `${name}.pt`);

const encoder = 'encoder_relu';
const inputsFor = async (name, device) => (await inputsOf(modelCase(name), device)).inputs;
const forward = async (model, device, name = encoder) => model.forward(await inputsFor(name, device));

export const checks = [
  {
    name: 'devices() and versions name the device',
    async run({ device }) {
      check(torch.devices().includes('cpu'), `devices: ${torch.devices()}`);
      check(
        torch.devices().some((each) => each.startsWith(device)),
        `devices: ${torch.devices()}`,
      );
      if (device !== 'cpu') check(torch.versions.cuda !== null, 'versions.cuda is null');
    },
  },
  {
    name: 'tensors go there and back in every type with the same bits',
    async run({ device }) {
      for (const dtype of [
        'float32',
        'float64',
        'float16',
        'bfloat16',
        'int64',
        'int32',
        'int16',
        'int8',
        'uint8',
        'bool',
      ]) {
        const tensor = noise([3, 5, 7]).mul(9).to({ dtype });
        const there = tensor.to({ device });
        check(there.device.startsWith(device), `${dtype} is on ${there.device}`);
        sameBits(there.to({ device: 'cpu' }), tensor, dtype);
        const array = (data) => Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
        same(array(there.toTypedArray()), array(tensor.toTypedArray()), `${dtype}: toTypedArray`);
        same(array(await there.data()), array(tensor.toTypedArray()), `${dtype}: data`);
        same(
          array(await there.transpose(0, 2).data()),
          array(tensor.transpose(0, 2).toTypedArray()),
          `${dtype}: a view`,
        );
        same(array(await there.narrow(0, 0, 0).data()), '', `${dtype}: nothing`);
      }
    },
  },
  {
    name: 'operations on tensors, and their gradients',
    async run({ device }) {
      const [a, b] = [noise([4, 6]), noise([4, 6], { seed: 2 })];
      const operations = {
        select: (x) => x.select(0, 1),
        narrow: (x) => x.narrow(1, 2, 3),
        reshape: (x) => x.reshape([2, -1]),
        transpose: (x) => x.transpose(0, 1),
        sum: (x) => x.sum(),
        'sum of a dimension': (x) => x.sum(1),
        mean: (x) => x.mean(0),
        softmax: (x) => x.softmax(1),
        argmax: (x) => x.argmax(1),
        add: (x, y) => x.add(y),
        mul: (x, y) => x.mul(y).mul(3),
      };
      for (const [name, operation] of Object.entries(operations)) {
        const there = operation(a.to({ device }), b.to({ device }));
        check(there.device.startsWith(device), `${name} is on ${there.device}`);
        close(there, operation(a, b), 1e-5, name);
      }
      const gradient = async (where) => {
        const x = noise([4, 6]).to({ device: where });
        x.requiresGrad = true;
        await x
          .softmax(1)
          .mul(b.to({ device: where }))
          .sum()
          .backward();
        return x.grad;
      };
      const there = await gradient(device);
      check(there.device.startsWith(device), `the gradient is on ${there.device}`);
      close(there, await gradient('cpu'), 1e-5, 'gradient');
      const scalar = a.to({ device }).sum().item();
      check(Math.abs(scalar - a.sum().item()) < 1e-4, `item() is ${scalar}`);
      same(Tensor.zeros([2, 3], { device }).sum().item(), 0, 'zeros');
      same(Tensor.from([1, 2], { device }).device.startsWith(device), true, 'made on the device');
    },
  },
  {
    name: 'a model moves there and back: parameters and outputs are what they were',
    async run({ device }) {
      for (const name of [encoder, 'hand_sdpa_script', 'encoder_relu_frozen', 'encoder_nested', 'transformer']) {
        const model = await ScriptModule.load(path(name));
        const parameters = () => bits(model.namedParameters().map(({ tensor }) => tensor));
        for (let run = 0; run < 3; ++run) await forward(model, 'cpu', name);
        const [before, expected] = [parameters(), await forward(model, 'cpu', name)];
        const whole = await model.captureAttention(await inputsFor(name, 'cpu'));
        await model.to(device);
        check(
          model.namedParameters().every(({ tensor }) => tensor.device.startsWith(device)),
          `${name}: all moved`,
        );
        const there = await model.captureAttention(await inputsFor(name, device));
        closeValues(onDevice(there.output, 'cpu'), expected, `${name}: output there`, { allowed: 1e-3 });
        there.attentions.forEach(({ weights }, i) => {
          close(weights, whole.attentions[i].weights, 1e-4, `${name}: attention ${i} there`);
        });
        await model.to('cpu');
        check(parameters() === before, `${name}: expected the same parameters after the way back`);
        closeValues(await forward(model, 'cpu', name), expected, `${name}: output back`, { allowed: 1e-6 });
        model.dispose();
      }
    },
  },
  {
    name: 'a model is loaded onto the device, in another type and optimized too',
    async run({ device }) {
      const expected = await forward(await load(path(encoder), 'cpu'), 'cpu');
      for (const [options, allowed] of [
        [{}, 1e-3],
        [{ dtype: 'bfloat16' }, 0.1],
        [{ dtype: 'float16' }, 0.02],
        [{ optimize: true }, 1e-3],
      ]) {
        const model = await ScriptModule.load(path(encoder), { device, ...options });
        const inputs = (await inputsFor(encoder, device)).map((each) =>
          options.dtype && each instanceof Tensor && each.dtype === 'float32'
            ? each.to({ dtype: options.dtype })
            : each,
        );
        const { output, attentions } = await model.captureAttention(inputs);
        const what = `options ${JSON.stringify(options)}`;
        closeValues(
          tensorsIn(output).map((each) => each.to({ dtype: 'float32' })),
          expected,
          what,
          { allowed },
        );
        check(attentions.length > 0, `${what}: attentions`);
        model.dispose();
      }
    },
  },
  {
    name: 'two models at once, on two devices',
    async run({ device }) {
      const models = [
        [await load(path(encoder), device), device, encoder],
        [await load(path('hand_sdpa_script'), device), device, 'hand_sdpa_script'],
        [await load(path(encoder), 'cpu'), 'cpu', encoder],
        [await load(path('hand_matmul_script'), 'cpu'), 'cpu', 'hand_matmul_script'],
      ];
      const alone = [];
      for (const [model, where, name] of models) {
        for (let run = 0; run < 3; ++run) await forward(model, where, name);
        alone.push(bits(await forward(model, where, name)));
      }
      torch.setConcurrency(4);
      await Promise.all(
        models.flatMap(([model, where, name], i) =>
          Array.from({ length: 8 }, async (_, call) => {
            const inputs = await inputsFor(name, where);
            const output = call % 2 ? (await model.captureAttention(inputs)).output : await model.forward(inputs);
            check(bits(output) === alone[i], `call ${call} of model ${i}: expected the bits of a run alone`);
          }),
        ),
      );
    },
  },
  {
    name: 'several calls of one model at once, with different captures',
    async run({ device }) {
      const model = await load(path('encoder_relu_traced'), device);
      const inputs = await inputsFor('encoder_relu_traced', device);
      const capture = (options) => model.captureAttention(inputs, options);
      const options = [{}, { topK: 2 }, { averageHeads: true }, { device: 'same' }, { queries: [1] }, { heads: [1] }];
      await capture({});
      const alone = [];
      for (const each of options) alone.push((await capture(each)).attentions);
      torch.setConcurrency(4);
      const together = await Promise.all([...options, ...options, ...options].map(capture));
      together.forEach(({ attentions }, i) => {
        attentions.forEach(({ weights }, k) => {
          sameBits(weights, alone[i % options.length][k].weights, `capture ${i}, attention ${k}`);
        });
      });
    },
  },
  {
    name: 'pinned and shared memory as inputs: results of captures go in again',
    async run({ device }) {
      const model = await load(fixture('models', 'sdpa.pt'), device);
      const given = [noise([1, 2, 8, 8]), noise([1, 2, 8, 8], { seed: 2 }), noise([1, 2, 8, 8], { seed: 3 })];
      const first = await model.captureAttention(onDevice(given, device));
      const pinned = first.attentions[0].weights; // copied from the device into pinned memory
      const again = await model.captureAttention([pinned.to({ device }), ...onDevice(given, device).slice(1)]);
      const copy = Tensor.from(Float32Array.from(pinned.toTypedArray()), { shape: [...pinned.shape] });
      const other = await model.captureAttention([copy.to({ device }), ...onDevice(given, device).slice(1)]);
      sameBits(again.attentions[0].weights, other.attentions[0].weights, 'weights');
      const shared = new Float32Array(new SharedArrayBuffer(4 * 128));
      shared.set(given[0].toTypedArray());
      const lent = Tensor.from(shared, { shape: [1, 2, 8, 8], copy: false });
      const third = await model.captureAttention([lent.to({ device }), ...onDevice(given, device).slice(1)]);
      sameBits(third.attentions[0].weights, first.attentions[0].weights, 'shared memory');
      check(numbers(pinned).every(Number.isFinite), 'pinned memory that is still in use');
    },
  },
  {
    name: 'a capture that is cancelled rejects with the reason, and the next one is whole',
    async run({ device }) {
      const model = await load(path(encoder), device);
      const inputs = await inputsFor(encoder, device);
      const whole = await model.captureAttention(inputs);
      for (const when of ['before', 'at the first attention', 'in a hook']) {
        const controller = new AbortController();
        const reason = new Error(`stopped ${when}`);
        if (when === 'before') controller.abort(reason);
        const handle =
          when === 'in a hook' ? model.registerForwardPreHook('', () => controller.abort(reason)) : undefined;
        const onAttention = when === 'at the first attention' ? () => controller.abort(reason) : undefined;
        const options = { signal: controller.signal, ...(onAttention ? { onAttention } : {}) };
        const error = await failure(() => model.captureAttention(inputs, options), when);
        handle?.remove();
        check(error === reason, `${when}: expected the signal's reason but received ${error}`);
      }
      const after = await model.captureAttention(inputs);
      sameWeights(after.attentions, whole.attentions);
    },
  },
  {
    name: 'HookedModel records on the device',
    async run({ device }) {
      const records = {};
      for (const where of [device, 'cpu']) {
        const model = await load(path(encoder), where);
        const hooked = new torch.HookedModel(model);
        const module = model.modules().find(({ name }) => name.endsWith('layers.0')).name;
        hooked.setForwardHook('layer', module);
        await forward(model, where);
        records[where] = hooked.hooks.get('layer');
        hooked.delHook('layer');
      }
      const [there, here] = [records[device], records.cpu];
      check(
        tensorsIn(there.output).every((each) => each.device.startsWith(device)),
        'recorded where it was computed',
      );
      closeValues(onDevice(there.output, 'cpu'), here.output, 'record', { allowed: 1e-3 });
    },
  },
  {
    name: 'memory of a thousand captures is given back',
    async run({ device }) {
      const model = await load(path('hand_sdpa_script'), device);
      const inputs = await inputsFor('hand_sdpa_script', device);
      const run = async () => {
        const { output, attentions } = await model.captureAttention(inputs, { device: 'same' });
        for (const each of [...tensorsIn(output), ...attentions.map(({ weights }) => weights)]) each.dispose();
      };
      for (let i = 0; i < 200; ++i) await run();
      const before = process.memoryUsage.rss();
      for (let i = 0; i < 800; ++i) await run();
      const grown = process.memoryUsage.rss() - before;
      check(grown < 100e6, `resident memory grew by ${(grown / 1e6).toFixed(0)} MB`);
    },
  },
];
