import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Entry } from '../../lib/formats/entry';
import { readSafetensors, writeSafetensors } from '../../lib/formats/safetensors';
import { nn, ScriptModule, Tensor } from '../../lib/index';
import { FIXTURES, Fixture, numbers } from './nn-fixtures';

const SIZES = { dModel: 4, nhead: 2, dimFeedforward: 6 };
const PREFIX = 'model.transformer.encoder.layers.0.';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nn-state-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function expectLoaded(layer: nn.TransformerEncoderLayer): Promise<void> {
  const expected = (await Fixture.read('state')).state('');
  const own = layer.stateDict();
  expect(Object.keys(own).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, tensor] of Object.entries(own)) {
    expect([name, numbers(tensor)]).toEqual([name, numbers(expected[name] as Tensor)]);
  }
}

describe('nn.Module#save', () => {
  test('saves what it loads', async () => {
    const layer = new nn.TransformerEncoderLayer(SIZES);
    await layer.loadStateDict(join(FIXTURES, 'state.safetensors'));
    const path = join(folder, 'saved.safetensors');
    await layer.save(path);
    const other = new nn.TransformerEncoderLayer(SIZES);
    await other.loadStateDict(path);
    await expectLoaded(other);
  });

  test('says why it could not save', async () => {
    const layer = new nn.LayerNorm(4);
    await mkdir(join(folder, 'a folder'));
    for (const [path, reason] of [
      [join(folder, 'absent', 'saved.safetensors'), /^ENOENT: no such file or directory$/],
      [join(folder, 'a folder'), /^(EISDIR|ENOTEMPTY|EEXIST|EPERM): [^,']*$/],
    ] as const) {
      await expect(layer.save(path)).rejects.toMatchObject({
        name: 'TorchError',
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringContaining(`Expected a path that can be written but received '${path}': `),
        cause: { code: expect.any(String) },
      });
      const message = await layer.save(path).catch((error: Error) => error.message);
      expect(String(message).split(`'${path}': `)[1]).toMatch(reason);
    }
    expect((await readdir(folder)).filter((name) => name.endsWith('.part'))).toEqual([]);
  });
});

describe('ScriptModule#stateDict', () => {
  test('the state dictionary of an archive is the one that Python has', async () => {
    using module = await ScriptModule.load(join(FIXTURES, 'shared_script.pt'));
    const { entries } = await readSafetensors(join(FIXTURES, 'shared_script.safetensors'));
    const own = module.stateDict();
    expect(Object.keys(own).sort()).toEqual(entries.map(({ name }) => name).sort());
    for (const { name, data } of entries) expect(own[name]?.toTypedArray()).toEqual(data);
  });
});

describe('nn.Module#loadStateDict', () => {
  test.each<[string, string, string]>([
    ['a .safetensors file', 'state.safetensors', ''],
    ['what torch.save wrote', 'state.pth', ''],
    ['what torch.save wrote before PyTorch 1.6', 'legacy.pth', ''],
    ['transposed, shared and foreign storages of the same time', 'legacy_inside.pth', 'encoder.'],
    ['float64, converted', 'float64.pth', ''],
    ['a training checkpoint, below a prefix', 'training.pth', PREFIX],
    ['a dictionary beside a tensor', 'beside_tensor.pth', ''],
    ['a dictionary in a dictionary', 'nested_twice.pth', ''],
    ['a dictionary under any key, beside an optimizer', 'unusual_key.pth', ''],
    ['a TorchScript archive, below a prefix', 'script.pt', '0.'],
  ])('loads %s', async (_, file, prefix) => {
    const layer = new nn.TransformerEncoderLayer(SIZES);
    const result = await layer.loadStateDict(join(FIXTURES, file), { prefix });
    expect(result).toEqual({ missingKeys: [], unexpectedKeys: [] });
    await expectLoaded(layer);
  });

  test('loads a Map of tensors', async () => {
    const layer = new nn.TransformerEncoderLayer(SIZES);
    const state = (await Fixture.read('state')).state('');
    await layer.loadStateDict(new Map(Object.entries(state)));
    await expectLoaded(layer);
    await expect(layer.loadStateDict(new Map())).rejects.toThrow(/missing: self_attn/);
  });

  test('reports missing, unexpected and wrongly shaped names in one error, and changes nothing', async () => {
    const layer = new nn.TransformerEncoderLayer(SIZES);
    const before = numbers(layer.stateDict()['norm1.weight'] as Tensor).slice();
    const source = (await Fixture.read('state')).state('');
    const { 'linear1.bias': _, ...given } = source;
    const wrong = {
      ...given,
      'norm1.weight': Tensor.from([5, 5, 5, 5]),
      'linear2.weight': Tensor.from([1]),
      extra: Tensor.from([1]),
    };
    await expect(layer.loadStateDict(wrong)).rejects.toMatchObject({
      code: 'ERR_MODEL_LOAD',
      message: expect.stringMatching(
        /missing: linear1\.bias\n.*unexpected: extra\n.*linear2\.weight \(\[4, 6\], received \[1\]\)/,
      ),
    });
    expect(numbers(layer.stateDict()['norm1.weight'] as Tensor)).toEqual(before);
    await expect(layer.loadStateDict(wrong, { strict: false })).rejects.toMatchObject({
      message: expect.stringMatching(/linear2/),
    });
    const { 'linear2.weight': __, ...partial } = wrong;
    await expect(layer.loadStateDict(partial, { strict: false })).resolves.toEqual({
      missingKeys: ['linear1.bias', 'linear2.weight'],
      unexpectedKeys: ['extra'],
    });
  });

  test('says what is wrong with a source', async () => {
    const layer = new nn.TransformerEncoderLayer(SIZES);
    const text = join(folder, 'text.pt');
    await writeFile(text, 'no checkpoint');
    await expect(layer.loadStateDict(text)).rejects.toMatchObject({ code: 'ERR_MODEL_LOAD' });
    await expect(layer.loadStateDict(join(folder, 'absent.pt'))).rejects.toMatchObject({
      code: 'ERR_MODEL_LOAD',
      message: expect.stringMatching(/absent\.pt/),
    });
    for (const [source, received] of [
      [[], 'an Array of length 0'],
      [Uint8Array.of(1), 'an instance of Uint8Array'],
      [Tensor.from([1]), 'an instance of Tensor'],
      [layer, 'an instance of TransformerEncoderLayer'],
      [null, 'null'],
    ]) {
      await expect(layer.loadStateDict(source as never, { strict: false })).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: `Expected a path, or an object or a Map of tensors for source but received ${received}`,
      });
    }
    await expect(layer.loadStateDict(new Map([[1, Tensor.from([1])]]) as never)).rejects.toThrow(
      /string for a key of source/,
    );
    await expect(layer.loadStateDict({ a: 1 } as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await expect(layer.loadStateDict(join(FIXTURES, 'state.pth'), { prefix: 'absent.' })).rejects.toMatchObject({
      message: expect.stringMatching(/below 'absent\.'.*\n.*missing: self_attn\.in_proj_weight/),
    });
  });

  test('lists the dictionaries of tensors where several fit, or none', async () => {
    const layer = new nn.TransformerEncoderLayer(SIZES);
    await expect(layer.loadStateDict(join(FIXTURES, 'several.pth'))).rejects.toMatchObject({
      code: 'ERR_MODEL_LOAD',
      message: expect.stringMatching(
        /several that have the names of this module: teacher \(12 tensors: .*\), student \(12 tensors: /,
      ),
    });
    const unfit = layer.loadStateDict(join(FIXTURES, 'unusual_key.pth'), { prefix: 'absent.', strict: false });
    await expect(unfit).rejects.toMatchObject({
      message: expect.stringMatching(
        /none of the names of this module below 'absent\.': ema .*, optimizer\.state\.0 \(1/,
      ),
    });
  });

  describe('tensors of types that are not converted', () => {
    const load = (file: string, prefix: string, strict = true) =>
      new nn.LayerNorm(4).loadStateDict(join(FIXTURES, file), { prefix, strict });

    test.each(['foreign.pth', 'foreign.safetensors'])('do no harm outside the prefix: %s', async (file) => {
      await expect(load(file, 'norm.')).resolves.toEqual({ missingKeys: [], unexpectedKeys: [] });
    });

    test.each<[string, RegExp]>([
      ['foreign_bias.pth', /dtype that isn't converted: bias \(complex64\)/],
      ['foreign_bias.safetensors', /dtype that isn't converted: bias \(F8_E4M3\)/],
    ])('are named with their type where they are parameters: %s', async (file, message) => {
      for (const strict of [true, false]) {
        await expect(load(file, 'norm.', strict)).rejects.toMatchObject({
          code: 'ERR_MODEL_LOAD',
          message: expect.not.stringMatching(/missing/),
        });
        await expect(load(file, 'norm.', strict)).rejects.toThrow(message);
      }
    });

    test.each<[string, RegExp]>([
      ['foreign.pth', /uint16, float8_e4m3fn \(float8_e4m3fn\), sparse \(sparse_tensor\), complex64 \(complex64\)/],
      ['foreign.safetensors', /uint16, float8_e4m3fn \(F8_E4M3\)/],
    ])('are named with their type where they are unexpected: %s', async (file, message) => {
      await expect(load(file, 'other.')).rejects.toThrow(message);
      const { unexpectedKeys } = await load(file, 'other.', false);
      expect(unexpectedKeys).toContain('uint16');
    });
  });

  test.each(['pt', 'pth', 'safetensors'])(
    'a module with two names has both, and its buffers: shared_script.%s',
    async (kind) => {
      const file = join(FIXTURES, `shared_script.${kind}`);
      for (const prefix of ['norm.', 'alias.']) {
        const load = (strict: boolean) => new nn.LayerNorm(4).loadStateDict(file, { prefix, strict });
        await expect(load(true)).rejects.toThrow(/names\n {2}unexpected: scale$/);
        await expect(load(false)).resolves.toEqual({ missingKeys: [], unexpectedKeys: ['scale'] });
      }
    },
  );

  describe('the format before PyTorch 1.6', () => {
    async function loadChanged(change: (bytes: Buffer) => Uint8Array, file = 'legacy.pth'): Promise<unknown> {
      const path = join(folder, 'changed.pth');
      await writeFile(path, change(await readFile(join(FIXTURES, file))));
      return new nn.TransformerEncoderLayer(SIZES).loadStateDict(path);
    }

    test('half types are converted', async () => {
      const layer = new nn.TransformerEncoderLayer(SIZES);
      await layer.loadStateDict(join(FIXTURES, 'legacy_half.pth'));
      const expected = (await Fixture.read('state')).state('');
      for (const [name, tensor] of Object.entries(layer.stateDict())) {
        const half = (expected[name] as Tensor).to({ dtype: 'float16' }).to({ dtype: 'float32' });
        expect([name, numbers(tensor)]).toEqual([name, numbers(half)]);
      }
    });

    test('pickles longer than what is read at once are read on', async () => {
      // Behind the magic number, the version and the system stands what was saved: a long string put in its place first.
      const long = Buffer.alloc(3_000_000, 'x');
      const length = Buffer.alloc(4);
      length.writeUInt32LE(long.length);
      const string = Buffer.concat([Buffer.from('X'), length, long, Buffer.from('0')]); // and taken away again
      const put = (bytes: Buffer): Buffer => {
        const at = bytes.indexOf('ccollections\nOrderedDict');
        return Buffer.concat([bytes.subarray(0, at), string, bytes.subarray(at)]);
      };
      await expect(loadChanged(put)).resolves.toEqual({ missingKeys: [], unexpectedKeys: [] });
    });

    test.each<[string, (bytes: Buffer) => Uint8Array, RegExp]>([
      ['ends early', (bytes) => bytes.subarray(0, -10), /within its \d+ bytes but received one of \d+ bytes/],
      ['ends in its pickles', (bytes) => bytes.subarray(0, 900), /ends too early/],
      ['is a pickle of something else', () => Buffer.from('\x80\x02K\x01.', 'latin1'), /a pickle of something else/],
      [
        'has a negative size',
        (bytes) => {
          const copy = Buffer.from(bytes);
          copy.writeBigInt64LE(-5n, bytes.length - 8 - 4 * 4);
          return copy;
        },
        /bytes/,
      ],
    ])('a file that %s is refused', async (_, change, message) => {
      await expect(loadChanged(change)).rejects.toMatchObject({ code: 'ERR_MODEL_LOAD' });
      await expect(loadChanged(change)).rejects.toThrow(message);
    });

    test('a .safetensors file whose header is as long as a pickle begins is none', async () => {
      const norm = new nn.LayerNorm(4);
      const path = join(folder, 'long-header.safetensors');
      const entries = norm.namedParameters().map(({ name }): Entry => {
        return { name, dtype: 'float32', shape: [4], data: Float32Array.of(1, 2, 3, 4) };
      });
      await writeSafetensors(path, entries, { x: 'x'.repeat(496) });
      const start = await readFile(path);
      expect([...start.subarray(0, 2)]).toEqual([0x80, 2]);
      await norm.loadStateDict(path);
      expect([...numbers(norm.stateDict()['bias'] as Tensor)]).toEqual([1, 2, 3, 4]);
    });

    test('nothing in it is run', async () => {
      const call = Buffer.from('cposix\nsystem\n(U\x0etouch executedtR0');
      const put = (bytes: Buffer): Buffer => {
        const at = bytes.indexOf('ccollections\nOrderedDict');
        return Buffer.concat([bytes.subarray(0, at), call, bytes.subarray(at)]);
      };
      await expect(loadChanged(put)).resolves.toEqual({ missingKeys: [], unexpectedKeys: [] });
    });
  });
});
