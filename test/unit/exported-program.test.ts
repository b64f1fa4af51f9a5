import { readFileSync } from 'node:fs';
import type { Entry } from '../../lib/formats/entry';
import {
  type Attention,
  ExportedProgram,
  loadModel,
  nn,
  renderView,
  ScriptModule,
  setNumThreads,
  Tensor,
  type Value,
} from '../../lib/index';
import { collectOutput } from '../../lib/io/collect-output';
import type { ViewData } from '../../lib/view/view-data';
import { cases, expectBits, exportedCase, exportedTensors, inputsOfRun, programPath } from './exported-fixtures';
import { bits, build, difference, isRounded, numbers, tensorsIn } from './model-fixtures';

// Other numbers of threads add up in another order: this is the number that the fixtures were made with.
beforeAll(() => setNumThreads(2));

async function runOf(name: string, index = 0) {
  const tensors = await exportedTensors(name);
  const run = exportedCase(name).runs[index]!;
  return { ...inputsOfRun(run, tensors), run, tensors };
}

/** Rejects with the error of a call, or fails. */
async function failure(call: Promise<unknown>): Promise<{ code: string; message: string }> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Error);
  return error as { code: string; message: string };
}

describe('ExportedProgram.forward()', () => {
  describe.each(cases)('of $name', ({ name, runs }) => {
    it.each(runs.map((_, index) => index))('gives the bits that Python gives, in run %d', async (index) => {
      const { inputs, kwargs, run, tensors } = await runOf(name, index);
      using program = await ExportedProgram.load(programPath(name));
      const output = await program.forward(inputs, { kwargs });
      await expectBits(output, build(run.output, tensors));
      const state = program.stateDict();
      for (const [buffer, value] of Object.entries(
        (build(run.buffers ?? {}, tensors) ?? {}) as Record<string, Tensor>,
      )) {
        if (buffer in state) await expectBits({ [buffer]: state[buffer]! }, { [buffer]: value });
      }
    });
  });

  it('gives the same of bytes, and with every check on', async () => {
    for (const name of ['bert_sdpa', 'structures', 'symbols', 'counter_decomposed', 'llama', 'gpt2_cache']) {
      const { inputs, kwargs, run, tensors } = await runOf(name);
      using program = await ExportedProgram.load(readFileSync(programPath(name)), { untrusted: true });
      await expectBits(await program.forward(inputs, { kwargs }), build(run.output, tensors));
    }
  });

  it.each(cases)('gives the same but for rounding with optimize, run by run ($name)', async ({ name, runs }) => {
    const tensors = await exportedTensors(name);
    using plain = await ExportedProgram.load(programPath(name));
    using optimized = await ExportedProgram.load(programPath(name), { optimize: true });
    for (const run of [...runs, ...runs]) {
      const [one, two] = [inputsOfRun(run, tensors), inputsOfRun(run, tensors)];
      const expected = tensorsIn(await plain.forward(one.inputs, { kwargs: one.kwargs }));
      const output = tensorsIn(await optimized.forward(two.inputs, { kwargs: two.kwargs }));
      expect(output.map(({ shape, dtype }) => [shape, dtype])).toEqual(
        expected.map(({ shape, dtype }) => [shape, dtype]),
      );
      output.forEach((tensor, i) => {
        const wanted = expected[i] as Tensor;
        // A half type's bits are kept: its layers stay as they are.
        const same = tensor.dtype === 'float32' ? isRounded(tensor, wanted) : bits(tensor) === bits(wanted);
        expect({ run: run.inputs.length, i, same }).toEqual({ run: run.inputs.length, i, same: true });
      });
    }
    const [before, after] = [plain.stateDict(), optimized.stateDict()];
    for (const [key, value] of Object.entries(before)) expect(isRounded(after[key]!, value)).toBe(true);
  });

  it('records gradients, and captures and hooks all there is, with optimize', async () => {
    const { inputs, kwargs } = await runOf('bert_eager');
    using plain = await ExportedProgram.load(programPath('bert_eager'));
    using optimized = await ExportedProgram.load(programPath('bert_eager'), { optimize: true });
    await optimized.forward(inputs, { kwargs });
    const gradients = async (program: ExportedProgram) => {
      const output = await program.forward(inputs, { kwargs, grad: true });
      await tensorsIn(output)[0]!.sum().backward();
      return program.namedParameters().map(({ name, tensor }) => [name, tensor.grad && bits(tensor.grad)]);
    };
    expect(await gradients(optimized)).toEqual(await gradients(plain));
    const [own, files] = [
      await optimized.captureAttention(inputs, { kwargs }),
      await plain.captureAttention(inputs, { kwargs }),
    ];
    expect(own.attentions.map(({ name }) => name)).toEqual(files.attentions.map(({ name }) => name));
    own.attentions.forEach(({ weights }, i) => {
      expect(isRounded(weights, files.attentions[i]!.weights)).toBe(true);
    });
    expect(bits(own.output)).toEqual(bits(await optimized.forward(inputs, { kwargs })));
    const nodes: string[] = [];
    const handles = optimized.nodes().map(({ name }) => optimized.registerNodeHook(name, () => void nodes.push(name)));
    await optimized.forward(inputs, { kwargs });
    expect(new Set(nodes)).toEqual(new Set(optimized.nodes().map(({ name }) => name)));
    for (const handle of handles) handle.remove();
  });

  it('captures of decomposed programs what it did, with optimize', async () => {
    const { inputs } = await runOf('encoder_decomposed');
    using plain = await ExportedProgram.load(programPath('encoder_decomposed'));
    using optimized = await ExportedProgram.load(programPath('encoder_decomposed'), { optimize: true });
    const [own, files] = [await optimized.captureAttention(inputs), await plain.captureAttention(inputs)];
    const described = ({ attentions }: typeof own) =>
      attentions.map(({ name, operator, kind, weights }) => ({ name, operator, kind, shape: weights.shape }));
    expect(described(own)).toEqual(described(files));
    own.attentions.forEach(({ weights }, i) => {
      expect(isRounded(weights, files.attentions[i]!.weights)).toBe(true);
    });
    const [output, expected] = [tensorsIn(own.output)[0]!, tensorsIn(files.output)[0]!];
    expect(isRounded(output, expected)).toBe(true);
  });

  it('takes parameters by position or by name, whichever they were exported with', async () => {
    const { inputs, kwargs, run, tensors } = await runOf('bert_sdpa');
    using program = await ExportedProgram.load(programPath('bert_sdpa'));
    const expected = build(run.output, tensors);
    await expectBits(await program.forward([], { kwargs: { ...kwargs, input_ids: inputs[0]! } }), expected);
    await expectBits(await program.forward([...inputs, kwargs['attention_mask']!]), expected);
  });

  it('writes into its own input where the model does', async () => {
    const { inputs } = await runOf('counter');
    using program = await ExportedProgram.load(programPath('counter_decomposed'));
    const before = numbers(inputs[0] as Tensor).slice();
    await program.forward(inputs);
    expect([...numbers(inputs[0] as Tensor)]).toEqual([...before].map((value) => value * 2));
  });

  it('takes null for fields that had no value, and says what else they have', async () => {
    const { inputs } = await runOf('scored');
    const [{ scores }] = inputs as [{ scores: Tensor }];
    using program = await ExportedProgram.load(programPath('scored'));
    for (const given of [{ scores }, { scores, loss: null, hidden: undefined }]) {
      expect(await program.forward([given])).toMatchObject({ loss: null });
    }
    const { code, message } = await failure(program.forward([{ scores, loss: scores }]));
    expect([code, message]).toEqual([
      'ERR_INVALID_ARGUMENT',
      expect.stringMatching(
        /^Expected null, .*exported for, for input 'given'\.loss but received an instance of Tensor/,
      ),
    ]);
    expect((await failure(program.forward([{ scores, more: null }]))).message).toMatch(/received 'more' in it/);
  });

  it('says of vmap how to export it', async () => {
    const { code, message } = await failure(ExportedProgram.load(programPath('vmapped_as_is')));
    expect(code).toBe('ERR_UNSUPPORTED_FILE');
    expect(message).toMatch(/torch\.vmap.*run_decompositions\(\)/);
  });

  it('keeps what follows a loop of no round from its input', async () => {
    const { inputs } = await runOf('loops', 1); // its loop of no round is written to
    using program = await ExportedProgram.load(programPath('loops'));
    const before = bits(inputs[0]!);
    await program.forward(inputs);
    expect(bits(inputs[0]!)).toEqual(before);
  });

  it('runs several times at once with the same bits', async () => {
    const { inputs, kwargs } = await runOf('bert_eager');
    using program = await ExportedProgram.load(programPath('bert_eager'));
    const expected = bits(await program.forward(inputs, { kwargs }));
    const outputs = await Promise.all(Array.from({ length: 8 }, () => program.forward(inputs, { kwargs })));
    for (const output of outputs) expect(bits(output)).toEqual(expected);
  });

  it('stops where its signal or its time says so', async () => {
    const { inputs } = await runOf('branches');
    using program = await ExportedProgram.load(programPath('branches'));
    // A loop that no number of halvings ends.
    const endless = Tensor.from(new Float32Array(3 * 16).fill(Number.NEGATIVE_INFINITY), { shape: [3, 16] });
    expect((await failure(program.forward([endless], { timeLimit: 100 }))).code).toBe('ERR_TIME_LIMIT');
    const signal = AbortSignal.timeout(50);
    const aborted: unknown = await program.forward([endless], { signal }).catch((error: unknown) => error);
    expect(aborted).toBe(signal.reason);
    await program.settled();
    await program.forward(inputs);
  });

  describe('refuses inputs that the program was not exported for, by name:', () => {
    const ids = (shape: number[], dtype: 'int64' | 'int32' = 'int64') => Tensor.zeros(shape, { dtype });
    const wrong: [
      string,
      string,
      (given: { inputs: Value[]; kwargs: Record<string, Value> }) => [Value[], Record<string, Value>],
      RegExp,
    ][] = [
      ['a missing input', 'bert_sdpa', ({ kwargs }) => [[], kwargs], /input 'input_ids'.*received none/],
      ['one too many', 'encoder', ({ inputs }) => [[...inputs, null, null, null, null, inputs[0]!], {}], /at most \d/],
      ['an unknown name', 'encoder', ({ inputs }) => [inputs, { other: 1 }], /'other'/],
      ['an input given twice', 'encoder', ({ inputs }) => [inputs, { src: inputs[0]! }], /'src' once/],
      ['another type', 'bert_dynamic', () => [[ids([2, 5], 'int32')], {}], /int64 tensor.*'input_ids'.*int32/],
      ['another rank', 'bert_dynamic', () => [[ids([5])], {}], /\[s\d+, s\d+\].*'input_ids'.*\[5\]/],
      [
        'a size out of range',
        'bert_dynamic',
        () => [[ids([2, 17])], {}],
        /s\d+ from \d+ to 16.*dimension 1.*'input_ids'.*17/,
      ],
      ['another fixed size', 'encoder', () => [[Tensor.zeros([2, 6, 16])], {}], /size 5 in dimension 1/],
      [
        'sizes that contradict',
        'symbols',
        () => [[Tensor.zeros([2, 4, 3]), Tensor.zeros([2, 9, 3])], {}],
        /2\*s\d+.*9/,
      ],
      ['another constant', 'structures', ({ inputs, kwargs }) => [inputs, { ...kwargs, scale: 2 }], /1\.5/],
      [
        'a dictionary without a key',
        'structures',
        ({ inputs, kwargs }) => [[{ a: (inputs[0] as { a: Value }).a }, inputs[1]!], kwargs],
        /without 'b'/,
      ],
      [
        'another key',
        'structures',
        ({ inputs, kwargs }) => [[{ ...(inputs[0] as object), c: 1 }, inputs[1]!], kwargs],
        /'c' in it/,
      ],
      ['a tuple of another length', 'structures', ({ inputs, kwargs }) => [[inputs[0]!, [1]], kwargs], /array of 2/],
      ['no tensor', 'encoder', () => [[5], {}], /Tensor/],
    ];
    it.each(wrong)('%s', async (_, name, make, message) => {
      using program = await ExportedProgram.load(programPath(name));
      const [inputs, kwargs] = make(await runOf(name));
      const error = await failure(program.forward(inputs, { kwargs }));
      expect(error.code).toBe('ERR_INVALID_ARGUMENT');
      expect(error.message).toMatch(message);
    });
  });

  it.each(cases.filter(({ runs }) => runs[0]?.gradients).map(({ name }) => name))(
    'gives the gradients of parameters that Python gives, of %s',
    async (name) => {
      const { inputs, kwargs, run, tensors } = await runOf(name);
      using program = await ExportedProgram.load(programPath(name));
      const output = await program.forward(inputs, { kwargs, grad: true });
      const squares = tensorsIn(output)
        .filter(({ requiresGrad }) => requiresGrad)
        .map((each) => each.mul(each).sum());
      await squares.reduce((sum, each) => sum.add(each)).backward();
      const expected = build(run.gradients, tensors) as Record<string, Tensor>;
      const found = program.namedParameters().filter(({ tensor }) => tensor.grad !== null);
      expect(found.map(({ name: parameter }) => parameter).sort()).toEqual(Object.keys(expected).sort());
      // Sums of large terms that cancel are as exact as those terms, in Python as well.
      const largest = Math.max(...Object.values(expected).flatMap((each) => [...numbers(each).map(Math.abs)]), 1);
      for (const { name: parameter, tensor } of found) {
        expect(difference(tensor.grad!, expected[parameter]!)).toBeLessThanOrEqual(1e-5 * largest);
      }
    },
  );

  it('gives zeros to what only the other branch of a condition reads, as Python does', async () => {
    const { inputs } = await runOf('branches', 1); // its sum is negative
    using program = await ExportedProgram.load(programPath('branches'));
    const [chosen] = (await program.forward(inputs, { grad: true })) as [Tensor];
    await chosen.mul(chosen).sum().backward();
    const gradients = program.namedParameters().map(({ tensor }) => [...numbers(tensor.grad!)]);
    expect(gradients).toHaveLength(2);
    for (const gradient of gradients) expect(gradient.every((each) => each === 0)).toBe(true);
  });

  it('records gradients of parameters and inputs', async () => {
    const { inputs } = await runOf('encoder');
    using program = await ExportedProgram.load(programPath('encoder'));
    const output = (await program.forward(inputs, { grad: true })) as Tensor;
    await output.mul(output).sum().backward();
    for (const { name, tensor } of program.namedParameters()) {
      expect({ name, has: tensor.grad !== null }).toEqual({ name, has: true });
    }
    const plain = (await program.forward(inputs)) as Tensor;
    expect(plain.requiresGrad).toBe(false);
  });
});

describe('ExportedProgram.captureAttention()', () => {
  describe.each(cases.filter(({ attentions }) => attentions.length > 0))(
    'of $name',
    ({ name, attentions, tolerance }) => {
      it('gives the weights that Python computes, by the names of its modules, and the bits of forward', async () => {
        const { inputs, kwargs, run, tensors } = await runOf(name);
        using program = await ExportedProgram.load(programPath(name));
        const plain = bits(await program.forward(inputs, { kwargs }));
        const captured = await program.captureAttention(inputs, { kwargs });
        expect(bits(captured.output)).toEqual(plain);
        await expectBits(captured.output, build(run.output, tensors));
        expect(captured.attentions.map((each) => each.name)).toEqual(attentions.map((each) => each.name));
        for (const [i, each] of captured.attentions.entries()) {
          const expected = build({ $tensor: attentions[i]!.weights }, tensors) as Tensor;
          expect(difference(each.weights, expected)).toBeLessThanOrEqual(tolerance);
        }
      });
    },
  );

  it('names attention in a loop by the weights on its way, where the exporter left modules out', async () => {
    const { inputs } = await runOf('loops');
    using program = await ExportedProgram.load(programPath('loops'));
    const { attentions } = await program.captureAttention(inputs);
    expect(attentions.map(({ name }) => name)).toEqual(['attending', 'attending']); // two rounds
    expect(attentions.map(({ weights }) => weights.shape)).toEqual(Array(2).fill([2, 2, 5, 5]));
  });

  it('selects layers by name, tells sites, and streams', async () => {
    const { inputs, kwargs } = await runOf('bert_sdpa');
    using program = await ExportedProgram.load(programPath('bert_sdpa'));
    const layer = 'encoder.layer.1';
    const { attentions } = await program.captureAttention(inputs, { kwargs, layers: [layer], heads: [1] });
    expect(attentions.map(({ name, heads }) => [name, heads])).toEqual([[`${layer}.attention.self`, [1]]]);
    const sites = await program.attentionSites(inputs, { kwargs });
    expect(sites.map(({ shape }) => shape)).toEqual([
      [2, 2, 5, 5],
      [2, 2, 5, 5],
    ]);
    const names: string[] = [];
    for await (const { name } of program.captureAttentionStream(inputs, { kwargs })) names.push(name);
    expect(names).toEqual(sites.map(({ name }) => name));
    expect((await failure(program.captureAttention(inputs, { kwargs, layers: ['nowhere'] }))).code).toBe(
      'ERR_UNKNOWN_MODULE',
    );
  });

  it('captures many inputs, with keyword arguments of their own', async () => {
    const { inputs, kwargs } = await runOf('bert_sdpa');
    using program = await ExportedProgram.load(programPath('bert_sdpa'));
    const counts: number[] = [];
    for await (const result of program.captureMany([
      { inputs, kwargs },
      { inputs, kwargs },
    ])) {
      if ('error' in result) throw result.error;
      counts.push(result.attentions.length);
    }
    expect(counts).toEqual([2, 2]);
  });

  it('gives gradients by the weights that are those of the softmax written out', async () => {
    const gradients: Tensor[][] = [];
    for (const name of ['bert_sdpa', 'bert_eager']) {
      const { inputs, kwargs } = await runOf(name);
      using program = await ExportedProgram.load(programPath(name));
      const { attentions } = await program.captureAttention(inputs, {
        kwargs,
        gradientOf: (output) => (Object.values(output as Record<string, Tensor>)[0] as Tensor).sum(),
      });
      gradients.push(attentions.map(({ gradient }) => gradient!));
      for (const { gradient, weights } of attentions) expect(gradient!.shape).toEqual(weights.shape);
    }
    expect(gradients.every((each) => each.length === 2)).toBe(true);
  });

  it('follows a generation whose cache is an object, step by step', async () => {
    const { inputs, kwargs } = await runOf('gpt2_cache');
    using program = await ExportedProgram.load<[Tensor], { logits: Tensor; cache: Value }>(programPath('gpt2_cache'));
    const keys: number[] = [];
    const ids = inputs as [Tensor];
    for await (const step of program.captureGeneration({ inputs: ids, kwargs }, ({ cache }, index) =>
      index < 4 ? { inputs: ids, kwargs: { cache } } : undefined,
    )) {
      keys.push(step.keyLength);
      expect(step.attentions.map(({ name }) => name)).toEqual([
        'model.transformer.h.0.attn',
        'model.transformer.h.1.attn',
      ]);
    }
    expect(keys).toEqual([4, 5, 6, 7, 8]);
  });
});

describe('one model as TorchScript, as a program, and as a decomposed one', () => {
  const names = ['three_kinds', 'three_kinds_decomposed'];

  /** What a page says of attentions, without the numbers of their weights and which operators made them. */
  const pageOf = async (attentions: readonly Attention[]) => {
    const html = await renderView([{ attentions }]);
    const json = /<script type="application\/json" id="view-data">(.*?)<\/script>/s.exec(html)?.[1] ?? '{}';
    const { examples } = JSON.parse(json) as ViewData;
    return examples[0]!.attentions.map(({ stats, scale, operator, blocks, ...rest }) => ({
      ...rest,
      patterns: stats.length,
    }));
  };

  it('has the same weights and the same page', async () => {
    const { inputs } = await runOf('three_kinds');
    using script = await ScriptModule.load(programPath('three_kinds').replace(/pt2$/, 'pt'));
    const expected = await script.captureAttention(inputs);
    expect(expected.attentions).toHaveLength(3);
    const page = await pageOf(expected.attentions);
    for (const name of names) {
      using program = await ExportedProgram.load(programPath(name));
      const { attentions } = await program.captureAttention(inputs);
      expect(attentions.map((each) => each.name)).toEqual(expected.attentions.map((each) => each.name));
      for (const [i, { weights }] of attentions.entries()) {
        expect(difference(weights, expected.attentions[i]!.weights)).toBeLessThanOrEqual(1e-6);
      }
      expect(await pageOf(attentions)).toEqual(page);
    }
  });
});

describe('attention in a branch whose modules the exporter left out', () => {
  it('has the names that it has where they are written', async () => {
    const names: string[][] = [];
    for (const name of ['named_branches', 'named_branches_strict']) {
      const { inputs } = await runOf(name);
      using program = await ExportedProgram.load(programPath(name));
      const { attentions } = await program.captureAttention(inputs);
      names.push(attentions.map((attention) => attention.name));
    }
    expect(names).toEqual([
      ['blocks.0', 'blocks.1', 'blocks.2'],
      ['blocks.0', 'blocks.1', 'blocks.2'],
    ]);
  });
});

describe('ExportedProgram.signature()', () => {
  it('has inputs and outputs leaf by leaf, and the ranges of symbols', async () => {
    using program = await ExportedProgram.load(programPath('symbols'));
    const { inputs, outputs, symbols } = program.signature();
    const [[symbol, range]] = Object.entries(symbols) as [[string, { min: number; max: number }]];
    expect(range).toEqual({ min: 2, max: 16 });
    expect(inputs).toEqual([
      { name: 'x', dtype: 'float32', shape: [2, symbol, 3] },
      { name: 'doubled', dtype: 'float32', shape: [2, `2*${symbol}`, 3] },
    ]);
    expect(outputs.map(({ name, dtype }) => `${name}: ${dtype}`)).toEqual([
      'output.0: float32',
      'output.1: int',
      'output.2: int',
      'output.3: int',
      'output.4: float32',
    ]);
    using structures = await ExportedProgram.load(programPath('structures'));
    expect(structures.signature().inputs.map(({ name, dtype }) => [name, dtype])).toContainEqual(['scale', 'float']);
  });

  it.each(cases.map(({ name }) => name))('names outputs by their places, those of %s', async (name) => {
    const [run] = exportedCase(name).runs;
    using program = await ExportedProgram.load(programPath(name));
    const { inputs, kwargs } = inputsOfRun(run!, await exportedTensors(name));
    const entries: Entry[] = [];
    const others: Record<string, string> = {};
    collectOutput('output', await program.forward(inputs, { kwargs }), entries, others);
    const { outputs } = program.signature();
    const filled = outputs.filter(({ dtype }) => dtype !== 'NoneType');
    const numbers = Object.keys(others).filter((each) => others[each] !== 'null');
    expect(filled.map((each) => each.name).sort()).toEqual([...entries.map((each) => each.name), ...numbers].sort());
    const rank = new Map(entries.map((entry) => [entry.name, entry.shape.length]));
    for (const each of outputs) expect([each.name, rank.get(each.name) ?? 0]).toEqual([each.name, each.shape.length]);
  });
});

describe('an exported program', () => {
  it('has the modules, parameters and state that the model had', async () => {
    using program = await ExportedProgram.load(programPath('encoder'));
    expect(program.modules()[0]).toMatchObject({ name: '', type: 'TransformerEncoder', hookable: 'exact' });
    expect(program.modules()).toContainEqual({
      name: 'layers.1.self_attn',
      type: 'MultiheadAttention',
      hookable: 'single',
      hooks: ['pre', 'forward', 'backward'],
    });
    const names = program.namedParameters().map(({ name }) => name);
    expect(names).toContain('layers.0.self_attn.in_proj_weight');
    expect(Object.keys(program.stateDict()).sort()).toEqual([...names].sort());
    using counter = await ExportedProgram.load(programPath('counter'));
    expect(Object.keys(counter.stateDict())).toContain('norm.running_mean');
    expect(Object.keys(counter.stateDict())).not.toContain('scale');
  });

  it('lends its weights to modules of nn', async () => {
    const { inputs, run, tensors } = await runOf('encoder');
    const layer = new nn.TransformerEncoderLayer({ dModel: 16, nhead: 2, dimFeedforward: 32, batchFirst: true });
    const encoder = new nn.TransformerEncoder(layer, 2);
    await encoder.loadStateDict(programPath('encoder'));
    encoder.eval();
    const output = await encoder.forward(inputs[0] as Tensor);
    expect(difference(output, build(run.output, tensors) as Tensor)).toBeLessThan(1e-5);
  });

  it('runs in another type', async () => {
    const { inputs, run, tensors } = await runOf('with_cast');
    using program = await ExportedProgram.load(programPath('with_cast'), { dtype: 'bfloat16' });
    expect(program.signature().inputs[0]!.dtype).toBe('bfloat16');
    const output = (await program.forward([(inputs[0] as Tensor).to({ dtype: 'bfloat16' })])) as Tensor;
    expect(output.dtype).toBe('bfloat16');
    expect(difference(output, build(run.output, tensors) as Tensor)).toBeLessThan(2e-2);
  });

  it('is gone once it is disposed', async () => {
    const { inputs } = await runOf('encoder');
    const program = await ExportedProgram.load(programPath('encoder'));
    program.dispose();
    expect((await failure(program.forward(inputs))).code).toBe('ERR_DISPOSED');
  });
});

describe('loading a file of another kind', () => {
  it('says what it is', async () => {
    const onnx = Buffer.from('\x08\x08\x12\x07pytorch', 'latin1');
    for (const load of [ExportedProgram.load, ScriptModule.load]) {
      const { code, message } = await failure(load(new Uint8Array(onnx)));
      expect(code).toBe('ERR_UNSUPPORTED_FILE');
      expect(message).toMatch(/^Expected .* but received an ONNX model; export/);
    }
    const { code, message } = await failure(ScriptModule.load(programPath('encoder')));
    expect(code).toBe('ERR_MODEL_LOAD');
    expect(message).toMatch(/received a program exported by torch\.export.*ExportedProgram\.load/);
  });
});

describe('loadModel()', () => {
  it('tells exported programs and TorchScript apart', async () => {
    using program = await loadModel(programPath('encoder'));
    expect(program).toBeInstanceOf(ExportedProgram);
    using bytes = await loadModel(readFileSync(programPath('encoder')));
    expect(bytes).toBeInstanceOf(ExportedProgram);
    expect(program).not.toBeInstanceOf(ScriptModule);
  });
});
