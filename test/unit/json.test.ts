import { parseJson } from '../../lib/formats/json';

describe('parseJson', () => {
  test('infers dtypes from how numbers are written', () => {
    const text = `{ "input_ids": [[1, 2, 3]], "x": [[1.0, 2], [3e0, NaN]], "mask": [true, false], "scalar": -Infinity,
    "none": [[], []], "large": 9223372036854775807 }`;
    expect(parseJson(text).entries).toEqual([
      { name: 'input_ids', dtype: 'int64', shape: [1, 3], data: BigInt64Array.of(1n, 2n, 3n) },
      { name: 'x', dtype: 'float32', shape: [2, 2], data: Float32Array.of(1, 2, 3, Number.NaN) },
      { name: 'mask', dtype: 'bool', shape: [2], data: Uint8Array.of(1, 0) },
      { name: 'scalar', dtype: 'float32', shape: [], data: Float32Array.of(Number.NEGATIVE_INFINITY) },
      { name: 'none', dtype: 'float32', shape: [2, 0], data: new Float32Array(0) },
      { name: 'large', dtype: 'int64', shape: [], data: BigInt64Array.of(2n ** 63n - 1n) },
    ]);
  });

  test('takes dtype and shape where they are given', () => {
    const text = `{
    "mask": { "dtype": "bool", "shape": [1, 2], "data": [1, false] },
    "half": { "dtype": "float16", "data": [[1, -2.5]] },
    "brain": { "dtype": "bfloat16", "data": [1, -2.5] },
    "bytes": { "dtype": "uint8", "shape": [2, 1], "data": [[0, 255]] },
    "wide": { "dtype": "float64", "data": 1 } }`;
    expect(parseJson(text).entries).toEqual([
      { name: 'mask', dtype: 'bool', shape: [1, 2], data: Uint8Array.of(1, 0) },
      { name: 'half', dtype: 'float16', shape: [1, 2], data: Uint16Array.of(0x3c00, 0xc100) },
      { name: 'brain', dtype: 'bfloat16', shape: [2], data: Uint16Array.of(0x3f80, 0xc020) },
      { name: 'bytes', dtype: 'uint8', shape: [2, 1], data: Uint8Array.of(0, 255) },
      { name: 'wide', dtype: 'float64', shape: [], data: Float64Array.of(1) },
    ]);
  });

  test('an array holds positional tensors', () => {
    expect(parseJson('[[1, 2], 3.5]').entries).toEqual([
      { name: '0', dtype: 'int64', shape: [2], data: BigInt64Array.of(1n, 2n) },
      { name: '1', dtype: 'float32', shape: [], data: Float32Array.of(3.5) },
    ]);
  });

  test.each([
    ['what is no JSON', '{', /expected JSON/],
    ['a bare number', '3', /object of named tensors.* received 3/],
    ['ragged arrays', '{"a": [[1, 2], [3]]}', /tensor 'a'.*2 elements at depth 1.* received an Array of length 1/],
    ['arrays beside numbers', '{"a": [1, [2]]}', /single element at depth 1 but received an Array of length 1/],
    ['strings', '{"a": ["x", 1]}', /numbers or booleans but received "x"/],
    ['booleans beside numbers', '{"a": [true, 1]}', /either numbers or booleans/],
    ['an unknown dtype', '{"a": {"dtype": "int128", "data": [1]}}', /dtype of float32.* received "int128"/],
    ['an unknown key', '{"a": {"data": [1], "sahpe": [1]}}', /received sahpe/],
    ['missing data', '{"a": {"shape": [1]}}', /data, dtype and shape/],
    ['a shape that does not fit', '{"a": {"shape": [3], "data": [1]}}', /3 elements for shape \[3\] but received 1/],
    ['fractions as integers', '{"a": {"dtype": "int64", "data": [1.5]}}', /integers but received 1.5/],
    ['integers out of range', '{"a": {"dtype": "int8", "data": [128]}}', /fit int8 but received 128/],
    ['integers beyond int64', '{"a": 9223372036854775808}', /fit int64/],
    ['2 as a boolean', '{"a": {"dtype": "bool", "data": [2]}}', /true, false, 0 or 1 but received 2/],
  ])('refuses %s', (_what, text, message) => {
    expect(() => parseJson(text)).toThrow(message);
    expect(() => parseJson(text)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
  });
});
