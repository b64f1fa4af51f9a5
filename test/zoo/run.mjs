// Runs every entry of a manifest (scripts/make_fixtures.py, scripts/make_zoo.py) through the built package.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string' }, all: { type: 'boolean' }, json: { type: 'boolean' } },
});
const [folder] = positionals;
if (!folder) {
  console.error('usage: node test/zoo/run.mjs FOLDER [--only REGEX] [--all] [--json]');
  process.exit(2);
}
const { ScriptModule, Tensor, setNumThreads } = await import('../../dist/index.js');
setNumThreads(1);

const DTYPES = { F64: 'float64', F32: 'float32', F16: 'float16', BF16: 'bfloat16', I64: 'int64', I32: 'int32', I16: 'int16', I8: 'int8', U8: 'uint8', BOOL: 'bool' };
const ARRAYS = { F64: Float64Array, F32: Float32Array, F16: Uint16Array, BF16: Uint16Array, I64: BigInt64Array, I32: Int32Array, I16: Int16Array, I8: Int8Array, U8: Uint8Array, BOOL: Uint8Array };

/** name → { dtype, shape, data }. */
function readSafetensors(path) {
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [begin, end] = entry.data_offsets;
    const copy = new Uint8Array(bytes.subarray(8 + length + begin, 8 + length + end)).buffer;
    tensors[name] = { dtype: entry.dtype, shape: entry.shape, data: new ARRAYS[entry.dtype](copy) };
  }
  return tensors;
}

function build(described, tensors) {
  if (Array.isArray(described)) return described.map((item) => build(item, tensors));
  if (described === null || typeof described !== 'object') return described;
  if ('$tensor' in described) {
    const { dtype, shape, data } = tensors[described.$tensor];
    return Tensor.from(data, { shape, dtype: DTYPES[dtype] });
  }
  return Object.fromEntries(Object.entries(described).map(([key, item]) => [key, build(item, tensors)]));
}

function halfToNumber(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const word = new Uint32Array(1);
const asFloat = new Float32Array(word.buffer);
function numbers(dtype, data) {
  if (dtype === 'float16') return Float64Array.from(data, halfToNumber);
  if (dtype === 'bfloat16')
    return Float64Array.from(data, (bits) => {
      word[0] = bits << 16;
      return asFloat[0];
    });
  return Float64Array.from(data, Number);
}

function difference(a, b) {
  if (a.length !== b.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < a.length; i++) {
    if (a[i] === b[i] || (Number.isNaN(a[i]) && Number.isNaN(b[i]))) continue;
    const d = Math.abs(a[i] - b[i]);
    if (!(d <= worst)) worst = Number.isNaN(d) ? Infinity : d;
  }
  return worst;
}

/** Largest difference of a value from the described one; a string where the structure differs. */
function compareValue(value, described, tensors, path = 'output') {
  if (Array.isArray(described)) {
    if (!Array.isArray(value) || value.length !== described.length) return `${path}: expected an array of ${described.length}`;
    return described.reduce((worst, item, i) => worse(worst, compareValue(value[i], item, tensors, `${path}[${i}]`)), 0);
  }
  if (described !== null && typeof described === 'object') {
    if ('$tensor' in described) {
      const { dtype, shape, data } = tensors[described.$tensor];
      if (!(value instanceof Tensor)) return `${path}: expected a tensor, got ${value === null ? 'null' : typeof value}`;
      if (value.shape.join() !== shape.join()) return `${path}: shape [${value.shape}], expected [${shape}]`;
      if (value.dtype !== DTYPES[dtype]) return `${path}: ${value.dtype}, expected ${DTYPES[dtype]}`;
      return difference(numbers(value.dtype, value.toTypedArray()), numbers(value.dtype, data));
    }
    return Object.entries(described).reduce((worst, [key, item]) => worse(worst, compareValue(value?.[key], item, tensors, `${path}.${key}`)), 0);
  }
  return value === described ? 0 : `${path}: ${String(value)}, expected ${String(described)}`;
}

function worse(a, b) {
  if (typeof a === 'string') return a;
  return typeof b === 'string' ? b : Math.max(a, b);
}

function sameBits(a, b) {
  if (a instanceof Tensor) {
    const [x, y] = [a.toTypedArray(), b.toTypedArray()];
    return Buffer.compare(Buffer.from(x.buffer, x.byteOffset, x.byteLength), Buffer.from(y.buffer, y.byteOffset, y.byteLength)) === 0;
  }
  if (Array.isArray(a)) return a.length === b.length && a.every((item, i) => sameBits(item, b[i]));
  if (a !== null && typeof a === 'object') return Object.keys(a).every((key) => sameBits(a[key], b[key]));
  return Object.is(a, b);
}

/** What is wrong with the attentions of one entry, and the largest difference. */
function compareAttentions(found, entry, tensors) {
  const problems = [];
  let worst = 0;
  const expected = [...entry.attentions.keys()];
  const describe = (list) => list.map(({ name, shape, weights }) => `${name || "''"}[${shape ?? weights.shape}]`).join(' ');
  if (found.length !== expected.length) {
    problems.push(`${found.length} attentions, expected ${expected.length}: got ${describe(found)}; expected ${describe(entry.attentions)}`);
  }
  const rest = new Set(found.keys());
  for (const index of expected) {
    const want = entry.attentions[index];
    const reference = tensors[`attention.${index}`];
    const candidates = entry.unordered ? [...rest].filter((i) => found[i].name === want.name) : [index];
    const i = candidates.find((candidate) => rest.has(candidate));
    if (i === undefined) continue;
    rest.delete(i);
    const { name, operator, weights } = found[i];
    if (name !== want.name) problems.push(`#${index} name '${name}', expected '${want.name}'`);
    if (want.operator && operator !== want.operator) problems.push(`#${index} operator ${operator}, expected ${want.operator}`);
    if (weights.shape.join() !== want.shape.join()) problems.push(`#${index} shape [${weights.shape}], expected [${want.shape}]`);
    const d = difference(weights.toTypedArray(), reference.data);
    worst = Math.max(worst, d);
    if (d > entry.tolerance) problems.push(`#${index} weights differ by ${d.toExponential(1)}`);
  }
  return { problems, worst };
}

function compareUnseen(found, { unseen }) {
  if (unseen === undefined || found.length === unseen) return [];
  return [`${found.length} things unseen, expected ${unseen}: ${found.map(({ name, reason }) => `${name || "''"} (${reason})`).join('; ')}`];
}

async function check(entry) {
  const tensors = readSafetensors(join(folder, entry.data));
  const inputs = () => build(entry.inputs, tensors);
  const path = join(folder, entry.file);
  const method = entry.method ?? 'forward';
  const problems = [];
  let worst = 0;
  const model = await ScriptModule.load(path);
  try {
    if (entry.throws) {
      const error = await model.forward(inputs(), { method }).then(() => null, (e) => e);
      if (!error) problems.push('did not fail');
      else if (error.code !== 'ERR_MODEL_RUN') problems.push(`code ${error.code}`);
      else if (!error.message.includes(entry.throws)) problems.push(`message ${error.message.slice(0, 200)}`);
      return { problems, worst, out: 0 };
    }
    // A stateful module's first call is the one that is compared; the other way of calling gets a copy of its own.
    const output = await model.forward(inputs(), { method });
    let out = compareValue(output, entry.output, tensors);
    if (typeof out === 'string') {
      problems.push(out);
      out = Infinity;
    } else if (out > (entry.outputTolerance ?? 1e-4)) problems.push(`output differs from Python's by ${out.toExponential(1)}`);
    if (method !== 'forward' && entry.attentions.length === 0) return { problems, worst, out };
    const second = entry.calls ? await ScriptModule.load(path) : model;
    try {
      if (!entry.calls) {
        // Profiling runs of the JIT may give other bits than later ones: compare runs of one stage.
        await model.forward(inputs(), { method });
      }
      const steady = entry.calls ? output : await model.forward(inputs(), { method });
      const captured = await second.captureAttention(inputs(), { method });
      if (!sameBits(steady, captured.output)) problems.push("captureAttention's output has other bits than forward's");
      const result = compareAttentions(captured.attentions, entry, tensors);
      problems.push(...result.problems, ...compareUnseen(captured.unseen, entry));
      worst = result.worst;
    } catch (error) {
      if (error.code !== 'ERR_NO_ATTENTION' || entry.attentions.length > 0) throw error;
      problems.push(...compareUnseen(error.unseen, entry));
    } finally {
      if (second !== model) second.dispose();
    }
    return { problems, worst, out };
  } finally {
    model.dispose();
  }
}

const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
const only = flags.only ? new RegExp(flags.only) : /(?:)/;
const results = [];
for (const entry of manifest.fixtures.filter(({ name }) => only.test(name))) {
  let result;
  try {
    result = await check(entry);
  } catch (error) {
    result = { problems: [`${error.code ?? error.name}: ${error.message.slice(0, 400)}`], worst: Infinity, out: Infinity };
  }
  results.push({ name: entry.name, stretch: Boolean(entry.stretch), attentions: entry.attentions.length, ...result });
  const failed = result.problems.length > 0;
  if (failed || flags.all) {
    const mark = failed ? (entry.stretch ? 'stretch' : 'FAIL') : 'ok';
    console.log(
      `${mark.padEnd(8)}${entry.name.padEnd(48)}${String(entry.attentions.length).padStart(3)}  weights ${result.worst.toExponential(1)}  output ${result.out.toExponential(1)}`,
    );
    for (const problem of result.problems) console.log(`          ${problem}`);
  }
}
for (const file of manifest.broken.filter((name) => only.test(name))) {
  const error = await ScriptModule.load(join(folder, file)).then(() => null, (e) => e);
  const ok = error?.code === 'ERR_MODEL_LOAD';
  results.push({ name: file, stretch: false, attentions: 0, problems: ok ? [] : [`${error?.code}`], worst: 0, out: 0 });
  if (!ok) console.log(`FAIL    ${file}: expected ERR_MODEL_LOAD but got ${error?.code ?? 'a model'}: ${error?.message ?? ''}`);
}

const passed = results.filter(({ problems }) => problems.length === 0);
const failed = results.filter(({ problems, stretch }) => problems.length > 0 && !stretch);
const largest = Math.max(0, ...passed.map(({ worst }) => worst));
console.log(
  `${passed.length} of ${results.length} pass, ${failed.length} fail, ${results.length - passed.length - failed.length} stretch cases fail; ` +
    `${passed.reduce((sum, { attentions }) => sum + attentions, 0)} attentions equal, largest difference ${largest.toExponential(1)}`,
);
if (flags.json) console.log(JSON.stringify(results));
process.exitCode = failed.length > 0 ? 1 : 0;
