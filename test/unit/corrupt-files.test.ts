import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Zippable, zipSync } from 'fflate';
import { parseJson } from '../../lib/formats/json';
import { parseNpz } from '../../lib/formats/npz';
import { parseSafetensors } from '../../lib/formats/safetensors';
import { nn, ScriptModule } from '../../lib/index';
import { readInputs } from '../../lib/io/input-files';
import { TextTokenizer } from '../../lib/text/tokenizer';

const folder = mkdtempSync(join(tmpdir(), 'corrupt-'));
afterAll(() => rmSync(folder, { recursive: true }));

const norm = new nn.LayerNorm(4);
let files = 0;
async function loadBytes(bytes: Uint8Array, options?: { verify?: boolean }): Promise<unknown> {
  const path = join(folder, `${++files}.pt`);
  writeFileSync(path, bytes);
  return await norm.loadStateDict(path, { strict: false, ...options });
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function text(value: string): Buffer {
  return Buffer.concat([Buffer.from('X'), u32(Buffer.byteLength(value)), Buffer.from(value)]);
}

function integer(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(10);
  bytes.write('\x8a\x08', 'latin1');
  bytes.writeBigInt64LE(BigInt(value), 2);
  return bytes;
}

function tuple(...items: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from('('), ...items, Buffer.from('t')]);
}

interface Saved {
  offset?: number | bigint;
  shape?: (number | bigint)[];
  strides?: (number | bigint)[];
  count?: number | bigint;
  record?: Uint8Array;
}

/** What torch.save writes for `{ "weight": tensor }`, with whatever sizes. */
function saved({ offset = 0, shape = [4], strides = [1], count = 4, record = new Uint8Array(16) }: Saved): Zippable {
  const id = tuple(text('storage'), Buffer.from('ctorch\nFloatStorage\n'), text('0'), text('cpu'), integer(count));
  const args = tuple(
    Buffer.concat([id, Buffer.from('Q')]),
    integer(offset),
    tuple(...shape.map(integer)),
    tuple(...strides.map(integer)),
    Buffer.from('\x89', 'latin1'),
  );
  const tensor = Buffer.concat([Buffer.from('ctorch._utils\n_rebuild_tensor_v2\n'), args, Buffer.from('R')]);
  const pickle = Buffer.concat([Buffer.from('\x80\x02}', 'latin1'), text('weight'), tensor, Buffer.from('s.')]);
  return { 'a/version': Buffer.from('3\n'), 'a/data.pkl': pickle, 'a/data/0': record };
}

const stored = (content: Zippable): Uint8Array => zipSync(content, { level: 0 });

describe('loadStateDict', () => {
  test('a dictionary that torch.save wrote is read', async () => {
    await expect(loadBytes(stored(saved({})))).resolves.toMatchObject({ missingKeys: ['bias'] });
  });

  test.each<[string, Saved, RegExp]>([
    ['a storage larger than its record', { count: 256, shape: [256] }, /record of the 1024 bytes.*one of 16 bytes/],
    ['a record that is empty', { record: new Uint8Array(0) }, /record of the 16 bytes.*one of 0 bytes/],
    ['a tensor larger than its storage', { shape: [256] }, /at least 1024 bytes.*16 bytes/],
    ['one that begins behind its storage', { offset: 4 }, /at least 32 bytes/],
    ['one that begins ahead of it', { offset: -4 }, /dictionary of tensors/],
    ['strides that leave it', { shape: [2, 2], strides: [9, 1] }, /at least 44 bytes/],
    ['negative strides', { strides: [-1] }, /dictionary of tensors/],
    ['fewer strides than dimensions', { shape: [2, 2], strides: [1] }, /2 strides/],
    ['a size beyond 2⁵³', { shape: [2n ** 60n] }, /dictionary of tensors/],
    ['sizes whose product is beyond 2⁵³', { shape: [2 ** 31, 2 ** 31], strides: [2 ** 31, 1] }, /at least/],
    ['an element repeated without end', { shape: [2 ** 40], strides: [0] }, /repeat elements/],
    ['an element repeated beyond 2⁵³', { shape: [2 ** 40, 2 ** 40], strides: [0, 0] }, /repeat elements/],
    ['100 dimensions', { shape: Array(100).fill(1), strides: Array(100).fill(1) }, /dictionary of tensors/],
    ['a storage of negative length', { count: -4 }, /number of elements/],
  ])('a state dictionary with %s is refused', async (_, changes, message) => {
    const loading = loadBytes(stored(saved(changes)));
    await expect(loading).rejects.toMatchObject({ code: 'ERR_MODEL_LOAD', message: expect.stringMatching(message) });
  });

  test('flipped bytes of a record are seen where that is asked for', async () => {
    const bytes = stored(saved({ record: Buffer.from(Float32Array.of(1, 2, 3, 4).buffer) }));
    const at = Buffer.from(bytes).indexOf(Buffer.from(Float32Array.of(3).buffer));
    await expect(loadBytes(bytes, { verify: true })).resolves.toBeDefined();
    bytes[at] = 1;
    await expect(loadBytes(bytes)).resolves.toBeDefined();
    await expect(loadBytes(bytes, { verify: true })).rejects.toMatchObject({
      code: 'ERR_MODEL_LOAD',
      message: expect.stringMatching(/'a\/data\/0'.*CRC-32 0x[0-9a-f]{8} but received 0x/),
    });
  });

  describe('pickles', () => {
    const load = (pickle: string | Buffer): Promise<unknown> =>
      loadBytes(stored({ 'a/data.pkl': Buffer.isBuffer(pickle) ? pickle : Buffer.from(pickle, 'latin1') }));

    test.each<[string, string]>([
      ['nothing', ''],
      ['what ends early', '\x80\x02X\xff\xff\xff\xff'],
      ['100,000 lists in each other', `${'('.repeat(1e5)}${'t'.repeat(1e5)}.`],
      ['100,000 dictionaries in each other', `${'}K\x01'.repeat(1e5)}${'s'.repeat(1e5 - 1)}.`],
      ['lists that double a hundred times', `]${'2\x86'.repeat(100)}Q.`],
      ['a dictionary in itself', '}q\x00K\x01h\x00s.'],
      ['an integer of a million digits', `\x8b\x40\x42\x0f\x00${'\x7f'.repeat(1e6)}.`],
      ['a class named by lists', `]${'2\x86'.repeat(100)}]\x93.`],
      ['pairs that are none', '\x80\x02ccollections\nOrderedDict\n(]K\x01aK\x02atR.'],
      ['what is not on the stack', '0.'],
      ['an unknown opcode', '\xff.'],
    ])('of %s are refused in time', async (_, pickle) => {
      await expect(load(pickle)).rejects.toMatchObject({ code: 'ERR_MODEL_LOAD' });
    });

    test('that would take more memory than a file of that size may are refused', async () => {
      await expect(load(Buffer.alloc(4e6, '}'))).rejects.toThrow(/bytes of memory/);
    });

    test('of the format before PyTorch 1.6 with a storage of another length are refused', async () => {
      const start = Buffer.from('\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.', 'latin1');
      const id = tuple(
        text('storage'),
        Buffer.from('ctorch\nFloatStorage\n'),
        text('7'),
        text('cpu'),
        integer(4),
        Buffer.from('N'),
      );
      const args = tuple(Buffer.concat([id, Buffer.from('Q')]), integer(0), tuple(integer(4)), tuple(integer(1)));
      const tensor = Buffer.concat([Buffer.from('ctorch._utils\n_rebuild_tensor_v2\n'), args, Buffer.from('R')]);
      const pickle = Buffer.concat([Buffer.from('\x80\x02}', 'latin1'), text('weight'), tensor, Buffer.from('s.')]);
      const keys = Buffer.concat([Buffer.from('\x80\x02]', 'latin1'), text('7'), Buffer.from('a.')]);
      const withCount = (count: bigint): Buffer => {
        const length = Buffer.alloc(8);
        length.writeBigInt64LE(count);
        return Buffer.concat([start, pickle, keys, length, Buffer.alloc(16)]);
      };
      await expect(loadBytes(withCount(4n))).resolves.toMatchObject({ missingKeys: ['bias'] });
      for (const count of [2n, -1n, 2n ** 62n, -(2n ** 62n)]) {
        await expect(loadBytes(withCount(count))).rejects.toMatchObject({ code: 'ERR_MODEL_LOAD' });
      }
    });
  });
});

describe('loadStateDict and parseNpz', () => {
  describe('zip archives', () => {
    /** Puts a number at some bytes behind the first or last place of a signature. */
    const changed = (bytes: Uint8Array, signature: number, behind: number, value: Buffer): Uint8Array => {
      const copy = Buffer.from(bytes);
      value.copy(copy, copy.lastIndexOf(u32(signature)) + behind);
      return copy;
    };
    const good = stored(saved({}));
    const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];
    const end64 = Buffer.concat([
      u32(LOCAL),
      u32(0x07064b50),
      u32(0),
      Buffer.from('ffffffffffffffff', 'hex'),
      u32(1),
      u32(END),
      Buffer.alloc(18),
    ]);

    test.each<[string, Uint8Array]>([
      ['a directory beyond 2⁵³', end64],
      ['a directory beyond the end', changed(good, END, 16, u32(0x7fffffff))],
      ['more files than it has', changed(good, END, 10, Buffer.from([0xff, 0x7f]))],
      ['a file beyond the end', changed(good, CENTRAL, 42, u32(0x7fffffff))],
      ['a file of a size beyond the end', changed(changed(good, CENTRAL, 20, u32(2 ** 31)), CENTRAL, 24, u32(2 ** 31))],
      ['no name where the directory says', changed(good, CENTRAL, 28, Buffer.from([0xff, 0xff]))],
      ['another method', changed(good, CENTRAL, 10, Buffer.from([9, 0]))],
      ['an encrypted file', changed(good, CENTRAL, 8, Buffer.from([1, 0]))],
      ['no end', good.subarray(0, -10)],
    ])('with %s are refused', async (_, bytes) => {
      await expect(loadBytes(bytes)).rejects.toMatchObject({ code: 'ERR_MODEL_LOAD' });
      await expect(parseNpz(bytes)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    });

    test('that inflate to more than deflate can make of them are refused before anything is allocated', async () => {
      const bomb = changed(zipSync({ 'a.npy': new Uint8Array(1000) }), CENTRAL, 24, u32(2 ** 29));
      await expect(parseNpz(bomb)).rejects.toThrow(/can inflate to/);
    });

    test('that inflate to other sizes than they say are refused', async () => {
      for (const size of [1000, 3000]) {
        const wrong = changed(zipSync({ 'a.npy': new Uint8Array(2000) }), CENTRAL, 24, u32(size));
        await expect(parseNpz(wrong)).rejects.toThrow(new RegExp(`inflate to ${size} bytes`));
      }
    });

    test('whose files have other bytes than their checksums say are refused', async () => {
      const bytes = stored({ 'a.npy': Buffer.from('some bytes') });
      bytes[Buffer.from(bytes).indexOf('some')]! ^= 1;
      await expect(parseNpz(bytes)).rejects.toThrow(/CRC-32/);
    });
  });
});

describe('parseJson', () => {
  describe('JSON', () => {
    test.each<[string, string]>([
      ['nested a million deep', '['.repeat(1e6) + ']'.repeat(1e6)],
      ['a string of quotes that never ends', `["${'\\"'.repeat(1e6)}`],
      ['nothing but quotes', '"'.repeat(1e6 + 1)],
      ['an integer of a million digits', `[${'9'.repeat(1e6)}]`],
      ['sizes beyond 2⁵³', '[{"data": [1], "shape": [9007199254740993, 9007199254740993]}]'],
      ['100 dimensions', `[{"data": [1], "shape": [${Array(100).fill(1)}]}]`],
      ['a string where a number belongs', '["\\u0000number:1"]'],
      ['numbers that are none', '[--1]'],
    ])('with %s is refused in time', (_, json) => {
      expect(() => parseJson(json)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
      try {
        parseJson(json);
      } catch (error) {
        expect((error as Error).message.length).toBeLessThan(1000);
      }
    });
  });
});

describe('parseSafetensors', () => {
  describe('safetensors', () => {
    const bytesOf = (header: unknown, data = 8): Uint8Array => {
      const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(json.length));
      return Buffer.concat([length, json, Buffer.alloc(data)]);
    };
    const tensor = (shape: unknown, data_offsets: unknown): object => ({ dtype: 'F32', shape, data_offsets });

    test.each<[string, Uint8Array]>([
      ['a header longer than the file', Buffer.from('ffffffffffffff7f7b7d', 'hex')],
      ['overlapping tensors', bytesOf({ a: tensor([2], [0, 8]), b: tensor([1], [4, 8]) })],
      ['two tensors in one place', bytesOf({ a: tensor([2], [0, 8]), b: tensor([2], [0, 8]) })],
      ['sizes beyond 2⁵³', bytesOf({ a: tensor([2 ** 40, 2 ** 40], [0, 8]) })],
      ['sizes that are no numbers', bytesOf({ a: tensor([null], [0, 8]) })],
      [
        'offsets beyond 2⁵³',
        bytesOf(`{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 18446744073709551615]}}`),
      ],
      ['offsets the wrong way round', bytesOf({ a: tensor([2], [8, 0]) })],
      ['a header nested a million deep', bytesOf('['.repeat(1e6) + ']'.repeat(1e6))],
      ['a tensor nested a million deep', bytesOf(`{"a":${'['.repeat(1e6)}${']'.repeat(1e6)}}`)],
      ['100,000 sizes', bytesOf({ a: tensor(Array(1e5).fill(1), [0, 8]) })],
    ])('with %s are refused, in a line', async (_, bytes) => {
      const message = await parseSafetensors(bytes).then(
        () => 'nothing',
        ({ code, message: text }) => `${code} ${text}`,
      );
      expect(message).toMatch(/^ERR_INVALID_ARGUMENT /);
      expect(message.length).toBeLessThan(1000);
    });
  });
});

describe.each<[string, (path: string) => Promise<unknown>, string, string]>([
  ['ScriptModule.load', (path) => ScriptModule.load(path), '', 'ERR_MODEL_LOAD'],
  ['loadStateDict', (path) => norm.loadStateDict(path), '', 'ERR_MODEL_LOAD'],
  ['inputs in .safetensors', readInputs, '.safetensors', 'ERR_INVALID_ARGUMENT'],
  ['inputs in .npz', readInputs, '.npz', 'ERR_INVALID_ARGUMENT'],
  ['inputs in .json', readInputs, '.json', 'ERR_INVALID_ARGUMENT'],
  ['a tokenizer', (path) => TextTokenizer.load(path), '', 'ERR_INVALID_ARGUMENT'],
])('%s refuses at once', (name, read, extension, code) => {
  const place = (file: string): string => join(folder, `${name.replaceAll(/\W/g, '')}-${file}${extension}`);
  const refuses = async (path: string, message: RegExp, expected = code): Promise<void> => {
    await expect(read(path)).rejects.toMatchObject({ code: expected, message: expect.stringMatching(message) });
  };

  test('a directory', () => refuses(extension ? place('none') : folder, extension ? /ENOENT/ : /a directory/));

  test('a named pipe that nobody writes to', async () => {
    const path = place('pipe');
    execFileSync('mkfifo', [path]);
    await refuses(path, /a named pipe/);
  });

  test('a socket', async () => {
    const path = place('socket');
    const server = createServer().listen(path);
    await new Promise((resolve) => server.on('listening', resolve));
    await refuses(path, /a socket/);
    server.close();
  });

  test('an empty file', async () => {
    const path = place('empty');
    writeFileSync(path, '');
    await refuses(path, /an empty one/);
  });

  test('a path with a null character, and none', async () => {
    const path = place('file');
    writeFileSync(path, 'x');
    // No path of a file at all, whatever reads it.
    const invalid = name === 'ScriptModule.load' ? 'ERR_INVALID_ARGUMENT' : code;
    await refuses(`${path}\0${extension}`, /null character/, invalid);
    if (!extension) await refuses('', /empty string/, invalid);
  });

  if (!extension) test('a device', () => refuses('/dev/zero', /a device/));
});
