import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { zipSync } from 'fflate';
import { parseNpz, readNpz } from '../../lib/formats/npz';

const FIXTURES = join(__dirname, '../fixtures/formats');
const iota = Float32Array.from({ length: 24 }, (_, i) => i);

describe('readNpz', () => {
  test.each(['stored.npz', 'deflated.npz'])('reads %s as numpy wrote it', async (file) => {
    const { entries } = await readNpz(join(FIXTURES, file));
    expect(entries).toEqual([
      { name: 'float32', dtype: 'float32', shape: [2, 3, 4], data: iota },
      { name: 'fortran', dtype: 'float32', shape: [2, 3, 4], data: iota },
      { name: 'float64', dtype: 'float64', shape: [2], data: Float64Array.of(0.1, 1e300) },
      { name: 'float16', dtype: 'float16', shape: [4], data: Uint16Array.of(0x3c00, 0xc100, 0x7bff, 1) },
      { name: 'int64', dtype: 'int64', shape: [1, 2], data: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n) },
      { name: 'int32', dtype: 'int32', shape: [2], data: Int32Array.of(-(2 ** 31), 7) },
      { name: 'int16', dtype: 'int16', shape: [2], data: Int16Array.of(-(2 ** 15), 7) },
      { name: 'int8', dtype: 'int8', shape: [3], data: Int8Array.of(-128, 127, 5) },
      { name: 'uint8', dtype: 'uint8', shape: [3], data: Uint8Array.of(0, 255, 5) },
      { name: 'bool', dtype: 'bool', shape: [3], data: Uint8Array.of(1, 0, 1) },
      { name: 'big_endian', dtype: 'float64', shape: [2], data: Float64Array.of(1.5, -2.25) },
      { name: 'big_endian_fortran', dtype: 'int32', shape: [2, 2], data: Int32Array.of(1, 2, 3, 4) },
      { name: 'scalar', dtype: 'float32', shape: [], data: Float32Array.of(42) },
      { name: 'empty', dtype: 'float32', shape: [0, 3], data: new Float32Array(0) },
    ]);
  });

  test('names the dtype that tensors here lack', async () => {
    await expect(readNpz(join(FIXTURES, 'texts.npz'))).rejects.toThrow(/array 'z'.*'<U4'; convert it with astype/);
  });
});

describe('parseNpz', () => {
  function npy(header: string, data = 4): Uint8Array {
    const bytes = Buffer.alloc(10 + header.length + data);
    bytes.write('\x93NUMPY\x01\x00', 'latin1');
    bytes.writeUInt16LE(header.length, 8);
    bytes.write(header, 10);
    return bytes;
  }

  const HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
  test.each([
    ['what is no zip', Buffer.from('no zip at all, but more than 22 bytes'), /zip archive of .npy files/],
    ['a truncated zip', readFileSync(join(FIXTURES, 'stored.npz')).subarray(0, 900), /zip archive of .npy files/],
    ['a zip of something else', zipSync({ 'a.txt': Buffer.from('x') }), /'a.txt' in it/],
    ['what is no .npy file', zipSync({ 'a.npy': Buffer.from('something else') }), /begin with '\\x93NUMPY'/],
    ['a header beyond the end', zipSync({ 'a.npy': npy(HEADER).subarray(0, 30) }), /header of 57 bytes .* 20 bytes/],
    ['too few elements', zipSync({ 'a.npy': npy(HEADER, 3) }), /4 bytes of float32 \[1\] but received 3 bytes/],
    ['too many elements', zipSync({ 'a.npy': npy(HEADER, 8) }), /4 bytes of float32 \[1\] but received 8 bytes/],
    ['a header without a shape', zipSync({ 'a.npy': npy("{'descr': '<f4', 'fortran_order': False}") }), /shape/],
    ['Python objects', zipSync({ 'a.npy': npy(HEADER.replace('<f4', '|O')) }), /'\|O'/],
    ['structures', zipSync({ 'a.npy': npy(HEADER.replace("'<f4'", "[('x', '<f4')]")) }), /\[\('x', '<f4'\)\]/],
  ])('refuses %s', async (_what, bytes, message) => {
    const received = parseNpz(bytes);
    await expect(received).rejects.toThrow(message);
    await expect(received).rejects.toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
  });

  test('reads the wide header of version 2', async () => {
    const one = npy(HEADER);
    const two = Buffer.concat([one.subarray(0, 10), Buffer.alloc(2), one.subarray(10)]);
    two[6] = 2;
    expect((await parseNpz(zipSync({ 'a.npy': two }))).entries).toEqual([
      { name: 'a', dtype: 'float32', shape: [1], data: Float32Array.of(0) },
    ]);
  });
});
