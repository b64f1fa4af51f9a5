// What programs may write and what they may not, checked by the compiler against dist/index.d.ts: nothing here is run.

import {
  type Attention,
  type CaptureOptions,
  type DType,
  ExportedProgram,
  type ForwardHook,
  HookedModel,
  type HookRecord,
  loadModel,
  type Model,
  nn,
  RemovableHandle,
  type RunOptions,
  ScriptModule,
  ScriptObject,
  Tensor,
  type Unseen,
  type Value,
} from 'libtorch-attention';

/** Compiles where the two types are the same. */
function same<A, B>(..._: [A] extends [B] ? ([B] extends [A] ? [] : ['another type']) : ['another type']): void {}

declare const x: Tensor;
type Pair = { logits: Tensor; caches: [Tensor, Tensor][] };

export function values(): void {
  const taken: Value[] = [
    x,
    1,
    1n,
    true,
    'a',
    null,
    undefined,
    [x, [x]],
    { a: x, b: [1] },
    new Map([['a', x]]),
    new Map([[1, [x]]]),
    Object.create(null) as Record<string, Tensor>,
  ];
  const object = {} as ScriptObject;
  taken.push(object);
  // @ts-expect-error: a Date is no value
  taken.push(new Date());
  // @ts-expect-error: also within others
  taken.push({ when: [new Date()] });
  // @ts-expect-error: a Set is no value
  taken.push(new Set([1]));
  // @ts-expect-error: a promise is no value
  taken.push(Promise.resolve(x));
  // @ts-expect-error: a typed array is no value
  taken.push(Float32Array.of(1));
  // @ts-expect-error: a function is no value
  taken.push(() => x);
  // @ts-expect-error: a symbol is no value
  taken.push(Symbol.iterator);
  // @ts-expect-error: keys of a Map have a text
  taken.push(new Map([[{}, 1]]));
}

export function constructors(): void {
  // @ts-expect-error: tensors are made by Tensor.from
  new Tensor();
  // @ts-expect-error: models are loaded
  new ScriptModule();
  // @ts-expect-error: handles are given by models
  new RemovableHandle();
  // @ts-expect-error: objects are given by models
  new ScriptObject();
  // @ts-expect-error: modules are of one of the classes
  new nn.Module();
  // @ts-expect-error: nothing internal is public
  Tensor.handle(x);
  // @ts-expect-error: nothing internal is public
  Tensor.of;
  // @ts-expect-error: nothing internal is public
  ({}) as ScriptModule['native'];
  // @ts-expect-error: nothing internal is public
  ({}) as nn.Transformer['hookOwner'];
}

export async function untyped(): Promise<void> {
  const model = await ScriptModule.load('model.pt');
  same<typeof model, ScriptModule>();
  const output = await model.forward([x, { a: 1 }, null], { grad: true });
  same<typeof output, Value>();
  const [logits] = (await model.forward([x])) as [Tensor, Tensor];
  logits.sum();
  const captured = await model.captureAttention([x], { gradientOf: (given) => (given as Tensor).sum() });
  same<typeof captured, { output: Value; attentions: Attention[]; unseen: Unseen[] }>();
  model.registerForwardHook('', (_module, input, given) => {
    same<typeof input, Value[]>();
    same<typeof given, Value>();
  });
  model.registerForwardHook('encoder', (_module, input, given) => {
    same<typeof input, Value[]>();
    return given;
  });
  model.registerForwardHook('encoder', async () => {});
  model.registerForwardPreHook('encoder', (_module, [first]) => [first, null]);
  model.registerFullBackwardHook('encoder', (_module, gradInput) => gradInput.map((each) => each?.mul(2) ?? null));
  for await (const { output: step } of model.captureGeneration([x], (given) => [given])) same<typeof step, Value>();
  const options: { method?: string } = {};
  await model.forward([x], options);
}

export async function typed(): Promise<void> {
  const model = await ScriptModule.load<[Tensor, Tensor], Pair>('model.pt');
  const output = await model.forward([x, x]);
  same<typeof output, Pair>();
  // @ts-expect-error: two inputs
  await model.forward([x]);
  // @ts-expect-error: two tensors
  await model.forward([x, 1]);
  // @ts-expect-error: parameters are floating-point numbers
  await ScriptModule.load('model.pt', { dtype: 'int8' });
  // @ts-expect-error: no Date can be declared either
  await ScriptModule.load<[Date], Tensor>('model.pt');
  // @ts-expect-error: nor given back
  await ScriptModule.load<[Tensor], Date>('model.pt');

  // Other methods take and give anything.
  const encoded = await model.forward([x], { method: 'encode' });
  same<typeof encoded, Value>();
  const same_ = await model.forward([x, x], { method: 'forward', grad: true });
  same<typeof same_, Pair>();
  await model.warmUp([x, x]);
  // @ts-expect-error: two inputs
  await model.warmUp([x]);

  const captured = await model.captureAttention([x, x], { layers: [0], gradientOf: ({ logits }) => logits.sum() });
  same<typeof captured.output, Pair>();
  // @ts-expect-error: two inputs
  await model.captureAttention([x]);
  // @ts-expect-error: the output has no such part
  await model.captureAttention([x, x], { gradientOf: ({ loss }) => loss });
  // @ts-expect-error: two inputs
  await model.attentionSites([x]);
  const stream = model.captureAttentionStream([x, x]);
  for await (const attention of stream) same<typeof attention, Attention>();
  same<Awaited<typeof stream.output>, Pair>();
  for await (const result of model.captureMany([[x, x], { inputs: [x, x], method: 'forward' }]))
    if ('output' in result) same<typeof result.output, Pair>();
  // @ts-expect-error: two inputs each
  model.captureMany([[x]]);
  for await (const step of model.captureGeneration([x, x], ({ logits }) => [logits, x], {
    gradientOf: (o) => o.logits,
  }))
    same<typeof step.output, Pair>();
  // @ts-expect-error: two inputs for the next step
  model.captureGeneration([x, x], ({ logits }) => [logits]);
}

export async function hooks(): Promise<void> {
  const model = await ScriptModule.load<[Tensor, Tensor], Pair>('model.pt');
  model.registerForwardPreHook('', (_module, input) => {
    same<typeof input, [Tensor, Tensor]>();
    return [input[1], input[0]];
  });
  // @ts-expect-error: both inputs are replaced
  model.registerForwardPreHook('', () => [x]);
  model.registerForwardHook('', (_module, input, output) => {
    same<typeof input, [Tensor, Tensor]>();
    same<typeof output, Pair>();
    return { ...output, logits: output.logits.mul(2) };
  });
  model.registerForwardHook('', async (_module, _input, { caches }) => console.log(caches.length));
  // @ts-expect-error: a Pair is replaced by a Pair
  model.registerForwardHook('', () => 5);

  // Of other modules a hook says what it gets.
  model.registerForwardHook('encoder', (_module, [first]: [Tensor], output: Tensor) => output.add(first));
  model.registerForwardHook<[Tensor], Tensor>('encoder', (_module, [first], output) => output.add(first));
  model.registerForwardPreHook<[Tensor]>('encoder', (_module, [first]) => first.mul(2));
  const silence: ForwardHook<[Tensor], Tensor> = (_module, _input, output) => output.mul(0);
  model.registerForwardHook('encoder', silence);
  // @ts-expect-error: a Date is no output
  model.registerForwardHook('encoder', () => new Date());
  const path: string = 'encoder';
  model.registerForwardHook(path, (_module, _input, output) => output);

  const hooked = new HookedModel(model);
  same<typeof hooked.model, typeof model>();
  hooked.setForwardHook('root', '', (_module, [first], output) => [[first], output.logits]);
  hooked.setForwardHook('inner', 'encoder', (_module, input: [Tensor], output: Tensor) => [input, output.sum()]);
  hooked.setForwardPreHook('before', '', (_module, [, second]) => [second]);
  hooked.setBackwardHook('gradients', 'encoder');
  same<typeof hooked.hooks, ReadonlyMap<string, HookRecord>>();
  // @ts-expect-error: hooks sit on models
  new HookedModel({ modules: () => [] });
}

/** What works with any model. */
async function names(model: Model): Promise<string[]> {
  model.registerForwardHook('', () => {});
  using _handle = model.registerForwardPreHook('encoder', (_module, input) => input);
  new HookedModel(model).setForwardHook('root', '');
  await model.captureAttention([x], { layers: [0] });
  for await (const attention of model.captureAttentionStream([x])) attention.weights.dispose();
  await model.settled();
  await model.to('cpu');
  same<ReturnType<typeof model.stateDict>, Record<string, Tensor>>();
  console.log(model.disposed, model.namedParameters()[0]?.tensor.shape);
  return model.modules().map(({ name }) => name);
}

export async function anyModel(): Promise<void> {
  await names(await ScriptModule.load('model.pt'));
  await names(await ScriptModule.load<[Tensor, Tensor], Pair>('model.pt'));
  const layer = new nn.TransformerEncoderLayer({ dModel: 8, nhead: 2 });
  await names(layer);
  await names(new nn.TransformerEncoder(layer, 2));
  await names(new nn.MultiheadAttention({ embedDim: 8, numHeads: 2 }));
  await names(new nn.Transformer());
  const modules: nn.Module[] = [layer, new nn.LayerNorm(8), new nn.MultiheadAttention({ embedDim: 8, numHeads: 2 })];
  // @ts-expect-error: a tensor is no model
  await names(x);
  console.log(modules.length);
}

export async function ofNn(): Promise<void> {
  const attention = new nn.MultiheadAttention({ embedDim: 8, numHeads: 2 });
  attention.registerForwardHook('', (_module, input, output) => {
    same<typeof input, Tensor[]>();
    same<typeof output, [Tensor, Tensor | null]>();
  });
  const layer = new nn.TransformerEncoderLayer({ dModel: 8, nhead: 2 });
  layer.registerForwardHook('', (_module, _input, output) => {
    same<typeof output, Tensor>();
  });
  const { output } = await attention.captureAttention([x, x, x], { needWeights: true, layers: [0] });
  same<typeof output, nn.AttentionOutput>();
  const options: RunOptions = { grad: true };
  await layer.forward(x, options);
}

export function tensors(): void {
  const shape: readonly number[] = x.shape;
  // @ts-expect-error: sizes can't be written
  x.shape[0] = 1;
  // @ts-expect-error: a shape can't be set
  x.shape = [1];
  const rows = Tensor.from([[1, 2]]).toArray() as number[][];
  const dtype: DType = x.dtype;
  // @ts-expect-error: no such type
  const other: DType = 'float8';
  // @ts-expect-error: no such option
  Tensor.from([1], { type: 'float32' });
  const options: CaptureOptions = { queries: { start: 0, end: 4 }, heads: [0], device: 'same' };
  // @ts-expect-error: weights end up on the CPU or where they were
  const wrong: CaptureOptions = { device: 'cuda' };
  console.log(shape, rows, dtype, other, options, wrong);
}

export function elementTypes(attention: Attention): void {
  same<typeof x, Tensor<DType>>();
  const floats = Tensor.from([[1, 2]]);
  same<typeof floats, Tensor<'float32'>>();
  const any: Tensor = floats;
  const value: Value = floats;
  floats.toTypedArray()[0] = 1;
  const array: Float32Array = floats.toTypedArray();
  same<ReturnType<typeof floats.item>, number>();
  // @ts-expect-error: these are floats
  floats.toTypedArray()[0] = 1n;

  const ids = Tensor.from([[1n]]);
  same<typeof ids, Tensor<'int64'>>();
  same<ReturnType<typeof ids.item>, bigint>();
  const first: bigint | undefined = ids.toTypedArray()[0];
  const flags = Tensor.from([true]);
  same<ReturnType<typeof flags.item>, boolean>();
  same<typeof flags, Tensor<'bool'>>();
  const numbers = [Tensor.from(2.5), Tensor.from(new Float32Array(1)), Tensor.from([]), Tensor.zeros([2])];
  same<typeof numbers, Tensor<'float32'>[]>();
  const doubles = Tensor.from(new Float64Array(1), { shape: [1, 1] });
  same<typeof doubles, Tensor<'float64'>>();
  const halves = Tensor.from([1, 2], { dtype: 'float16' });
  same<typeof halves, Tensor<'float16'>>();
  same<ReturnType<typeof halves.toTypedArray>, Uint16Array>();
  const unsigned = [Tensor.from(new Uint32Array(1)).dtype, Tensor.from(new BigUint64Array(1)).dtype] as const;
  same<typeof unsigned, readonly ['uint32', 'uint64']>();
  const complex = Tensor.from([[1, 2]], { dtype: 'complex64' });
  same<ReturnType<typeof complex.toTypedArray>, Float32Array>();
  same<ReturnType<typeof complex.item>, [real: number, imaginary: number]>();
  const complexSums = [complex.sum(), complex.mean(), complex.add(1)];
  same<typeof complexSums, Tensor<'complex64'>[]>();
  const numbers32 = x.dequantize();
  same<typeof numbers32, Tensor<'float32'>>();
  const cast = ids.to({ dtype: 'int32' });
  same<typeof cast, Tensor<'int32'>>();
  const moved = ids.to({ device: 'cpu' });
  same<typeof moved, Tensor<'int64'>>();
  const zeros = Tensor.zeros([1], { dtype: 'int64' });
  zeros.toTypedArray()[0] = 101n;

  const sums = [floats.sum(), floats.mean(0), floats.softmax(-1), floats.add(1), floats.mul(floats)];
  same<typeof sums, Tensor<'float32'>[]>();
  const counts = [ids.sum(), flags.sum(), floats.argmax(), cast.sum(0)];
  same<typeof counts, Tensor<'int64'>[]>();
  const promoted = ids.add(floats);
  same<typeof promoted, Tensor>();
  const mixed = ids.mul(0.5);
  same<typeof mixed, Tensor>();
  const either: Tensor | number = Math.random() < 0.5 ? 1 : x;
  same<ReturnType<typeof x.add>, Tensor>();
  x.add(either);

  // Of captures all that is floating-point can be read and written as numbers.
  attention.weights.toTypedArray()[0] = 0.5;
  const weight: number | undefined = attention.weights.toTypedArray()[0];
  const key: bigint | undefined = attention.keys?.toTypedArray()[0];
  const entropy: number | undefined = attention.statistics?.entropy?.item();
  console.log(any, value, array, first, weight, key, entropy, counts);
}

/** What loadModel gives may be of either kind: everything that both have can be called without asking which. */
export async function anyKind(): Promise<void> {
  const model = await loadModel<[Tensor], Pair>('model.pt2');
  same<ScriptModule<[Tensor], Pair> | ExportedProgram<[Tensor], Pair>, typeof model>();
  const output = await model.forward([x], { timeLimit: 1000, grad: true });
  same<Pair, typeof output>();
  const captured = await model.captureAttention([x], { layers: [-1], gradientOf: ({ logits }) => logits.sum() });
  same<Attention[], typeof captured.attentions>();
  same<Pair, typeof captured.output>();
  const { attentions: bare } = await model.captureAttention([x], { scores: true, weights: false });
  // @ts-expect-error: no weights were asked for
  bare[0]?.weights;
  const sites = await model.attentionSites([x], { signal: AbortSignal.timeout(1) });
  same<Unseen[], typeof sites.unseen>();
  for await (const { weights } of model.captureAttentionStream([x], { heads: [0] })) weights.dispose();
  // @ts-expect-error: no weights were asked for
  for await (const each of model.captureAttentionStream([x], { scores: true, weights: false })) each.weights;
  for await (const result of model.captureMany([[x]], { ahead: 2 })) {
    if (!('output' in result) || result.error) continue;
    same<Pair, typeof result.output>();
    result.attentions[0]?.weights.dispose();
  }
  for await (const result of model.captureMany([[x]], { weights: false, logSumExp: true })) {
    // @ts-expect-error: no weights were asked for
    if (!result.error) result.attentions[0]?.weights;
  }
  const { tensors } = await model.captureTensor({ operator: 'softmax' }, [x], { dtype: 'float32' });
  same<Tensor, (typeof tensors)[number]['tensor']>();
  for await (const step of model.captureGeneration([x], ({ logits }, count) => (count < 3 ? [logits] : null), {
    topK: 2,
  })) {
    step.attentions[0]?.weights.dispose();
  }
  for await (const step of model.captureGeneration([x], () => null, { weights: false })) {
    // @ts-expect-error: no weights were asked for
    step.attentions[0]?.weights;
  }
  model.registerForwardHook('encoder', (_module, [first]: [Tensor], result: Tensor) => result.add(first));
  model.registerForwardPreHook('encoder', (_module, [first]: [Tensor]) => first.mul(2));
  model.registerFullBackwardHook('encoder', (_module, gradInput) => gradInput);
  new HookedModel(model).setForwardHook('first', 'encoder');
  for (const { name, type } of model.modules()) console.log(name, type);
  if (model instanceof ExportedProgram) await model.captureAttention([x], { kwargs: { mask: x }, layers: [-1] });
  else await model.captureAttention([x], { method: 'encode' });
}
