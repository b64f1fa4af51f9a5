import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TorchError } from '../../lib/core/errors';
import type { Entry } from '../../lib/formats/entry';
import { parseSafetensors, readSafetensors, writeSafetensors } from '../../lib/formats/safetensors';

const FIXTURES = join(__dirname, '../fixtures/formats');
const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
afterAll(() => rmSync(folder, { recursive: true }));

function bytesOf(header: unknown, data: number, length?: number): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = Buffer.alloc(8 + json.length + data);
  bytes.writeBigUInt64LE(BigInt(length ?? json.length), 0);
  json.copy(bytes, 8);
  return bytes;
}

async function messageOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(TorchError);
  expect(error).toHaveProperty('code', 'ERR_INVALID_ARGUMENT');
  return (error as TorchError).message;
}

describe('readSafetensors', () => {
  test('reads every dtype as safetensors itself wrote it', async () => {
    const { entries, metadata } = await readSafetensors(join(FIXTURES, 'every_dtype.safetensors'));
    expect(metadata).toEqual({ 'made by': 'safetensors', text: 'quotes " and é' });
    const byName = Object.fromEntries(entries.map((entry) => [entry.name, entry]));
    const at = (name: string) => ({ ...byName[name], name: undefined });
    expect(at('float32')).toEqual({
      dtype: 'float32',
      shape: [2, 3],
      data: Float32Array.of(1.5, -2.25, 3, 0.1, Number.POSITIVE_INFINITY, -0),
    });
    expect(at('float64')).toEqual({ dtype: 'float64', shape: [2], data: Float64Array.of(0.1, 1e300) });
    expect(at('float16')).toEqual({ dtype: 'float16', shape: [4], data: Uint16Array.of(0x3c00, 0xc100, 0x7bff, 1) });
    expect(at('bfloat16')).toEqual({ dtype: 'bfloat16', shape: [3], data: Uint16Array.of(0x3f80, 0xc020, 0x7f62) });
    expect(at('int64')).toEqual({
      dtype: 'int64',
      shape: [1, 2],
      data: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n),
    });
    expect(at('int32')).toEqual({ dtype: 'int32', shape: [2], data: Int32Array.of(-(2 ** 31), 7) });
    expect(at('int16')).toEqual({ dtype: 'int16', shape: [2], data: Int16Array.of(-(2 ** 15), 7) });
    expect(at('int8')).toEqual({ dtype: 'int8', shape: [3], data: Int8Array.of(-128, 127, 5) });
    expect(at('uint8')).toEqual({ dtype: 'uint8', shape: [3], data: Uint8Array.of(0, 255, 5) });
    expect(at('bool')).toEqual({ dtype: 'bool', shape: [3], data: Uint8Array.of(1, 0, 1) });
    expect(at('scalar')).toEqual({ dtype: 'float32', shape: [], data: Float32Array.of(42) });
    expect(at('empty')).toEqual({ dtype: 'float32', shape: [0, 3], data: new Float32Array(0) });
  });

  test('names the dtype that tensors here lack', async () => {
    expect(await messageOf(readSafetensors(join(FIXTURES, 'float8.safetensors')))).toMatch(/'t' .* F8_E5M2/);
  });
});

describe('parseSafetensors', () => {
  test('bytes in memory read like the file', async () => {
    const path = join(FIXTURES, 'every_dtype.safetensors');
    // At an odd offset, so that views on the buffer would be unaligned.
    const shifted = Buffer.concat([Buffer.alloc(3), readFileSync(path)]).subarray(3);
    expect(await parseSafetensors(shifted)).toEqual(await readSafetensors(path));
  });

  const f32 = (begin: number, end: number, shape = [1]) => ({ dtype: 'F32', shape, data_offsets: [begin, end] });
  test.each([
    ['an empty file', new Uint8Array(0), /at least 8 bytes but received 0/],
    ['a header beyond the end', bytesOf('{}', 0, 100), /header of 100 bytes .* ends after 10 bytes/],
    ['an absurd header length', bytesOf('{}', 0, 2 ** 50), /at most 100000000 bytes/],
    ['a header that is no JSON', bytesOf('{nope', 0), /header in JSON/],
    ['a header that is no object', bytesOf('[1]', 0), /JSON object but received an Array/],
    ['metadata with numbers', bytesOf({ __metadata__: { a: 1 } }, 0), /map strings to strings/],
    ['an entry without offsets', bytesOf({ a: { dtype: 'F32', shape: [] } }, 4), /data_offsets for tensor 'a'/],
    ['a negative size', bytesOf({ a: { ...f32(0, 4), shape: [-1] } }, 4), /dtype, shape and data_offsets/],
    ['a null entry', bytesOf({ a: null }, 0), /data_offsets for tensor 'a' but received null/],
    ['overlapping tensors', bytesOf({ a: f32(0, 8, [2]), b: f32(4, 8) }, 8), /'b' to begin at 8 .* \[4, 8\]/],
    ['a gap', bytesOf({ a: f32(4, 8) }, 8), /'a' to begin at 0/],
    ['a size that is not the shape’s', bytesOf({ a: f32(0, 4, [2]) }, 4), /8 bytes for tensor 'a'/],
    ['truncated data', bytesOf({ a: f32(0, 8, [2]) }, 5), /8 bytes of tensor data.* but received 5 bytes/],
    ['trailing data', bytesOf({ a: f32(0, 4) }, 5), /4 bytes of tensor data.* but received 5 bytes/],
    ['a dtype called like an Object member', bytesOf({ a: { ...f32(0, 4), dtype: 'constructor' } }, 4), /constructor/],
  ])('refuses %s', async (_what, bytes, message) => {
    expect(await messageOf(parseSafetensors(bytes))).toMatch(message);
  });
});

describe('writeSafetensors', () => {
  test('what is written reads back, aligned, larger elements first', async () => {
    const entries: Entry[] = [
      { name: 'mask', dtype: 'bool', shape: [3], data: Uint8Array.of(1, 0, 1) },
      { name: 'ids', dtype: 'int64', shape: [1, 2], data: BigInt64Array.of(1n, -2n) },
      { name: 'view', dtype: 'float32', shape: [2], data: new Float32Array([9, 1.5, 2.5, 9]).subarray(1, 3) },
      { name: 'none', dtype: 'float16', shape: [0], data: new Uint16Array(0) },
    ];
    const path = join(folder, 'written.safetensors');
    await writeSafetensors(path, entries, { key: 'vålue' });
    const read = await readSafetensors(path);
    expect(read.metadata).toEqual({ key: 'vålue' });
    expect(read.entries.map(({ name }) => name)).toEqual(['ids', 'view', 'none', 'mask']);
    for (const entry of entries) expect(read.entries).toContainEqual({ ...entry, data: entry.data.slice() });
    expect(readFileSync(path).readBigUInt64LE(0) % 8n).toBe(0n);
    expect(readdirSync(folder)).toEqual(['written.safetensors']);
  });

  test("safetensors' own Python reader takes what is written", async () => {
    try {
      execFileSync('python3', ['-c', 'import safetensors.numpy'], { stdio: 'ignore' });
    } catch {
      console.log('skipped: python3 has no safetensors');
      return;
    }
    const path = join(folder, 'for-python.safetensors');
    await writeSafetensors(path, [
      { name: 'b', dtype: 'bool', shape: [1], data: Uint8Array.of(1) },
      { name: 'f', dtype: 'float64', shape: [2, 1], data: Float64Array.of(0.5, 2) },
    ]);
    const script = `
from safetensors.numpy import load_file
import sys
print({name: (str(array.dtype), array.tolist()) for name, array in sorted(load_file(sys.argv[1]).items())})`;
    const printed = execFileSync('python3', ['-c', script, path], { encoding: 'utf8' });
    expect(printed.trim()).toBe("{'b': ('bool', [True]), 'f': ('float64', [[0.5], [2.0]])}");
  });

  test('refuses to write what does not fit, and leaves no file', async () => {
    const path = join(folder, 'bad.safetensors');
    const entry: Entry = { name: 'a', dtype: 'float32', shape: [2], data: Float32Array.of(1) };
    expect(await messageOf(writeSafetensors(path, [entry]))).toMatch(/2 elements of float32 for tensor 'a'/);
    const twice: Entry = { ...entry, shape: [1] };
    expect(await messageOf(writeSafetensors(path, [twice, twice]))).toMatch(/name of its own/);
    expect(readdirSync(folder)).not.toContain('bad.safetensors');
  });
});
