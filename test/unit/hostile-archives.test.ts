import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nn, ScriptModule, Tensor } from '../../lib';
import {
  archiveOf,
  fixture,
  indented,
  modulePickle,
  ops,
  program,
  programRecords,
  type Records,
  recordsOf,
  withRecordOfZeros,
} from './archive-edits';
import { runScript } from './built-process';

const good = 'encoder_relu.pt';
const input = (): Tensor => Tensor.from(new Float32Array(4).fill(1), { shape: [4] });

async function refusal(source: string | Uint8Array, options: object = {}): Promise<{ code: string; message: string }> {
  try {
    (await ScriptModule.load(source, options)).dispose();
  } catch (error) {
    return error as { code: string; message: string };
  }
  return { code: 'none', message: '' };
}

async function loads(source: Uint8Array, options: object = {}): Promise<void> {
  (await ScriptModule.load(source, options)).dispose();
}

function edited(edit: (records: Records) => void, name = good): Uint8Array {
  const records = recordsOf(fixture(name));
  edit(records);
  return archiveOf(records);
}

describe('ScriptModule.load', () => {
  describe('what archives are edited from', () => {
    it('loads, rewritten, compressed, checked and untrusted', async () => {
      await loads(archiveOf(recordsOf(fixture(good))), { verify: true, untrusted: true });
      await loads(archiveOf(recordsOf(fixture(good)), 9));
      const model = await ScriptModule.load(program('return torch.add(x, x)'), { untrusted: true });
      expect([...((await model.forward([input()])) as Tensor).toTypedArray()]).toEqual([2, 2, 2, 2]);
    });
  });

  describe('a path that is no file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'lta-'));
    afterAll(() => rmSync(folder, { recursive: true }));

    it('is refused where it has a null character, or nothing', async () => {
      writeFileSync(join(folder, 'tiny.pt'), fixture(good));
      expect((await refusal(`${join(folder, 'tiny.pt')}\0x`)).code).toBe('ERR_INVALID_ARGUMENT');
      expect((await refusal('')).code).toBe('ERR_INVALID_ARGUMENT');
    });

    it('is refused at once: a pipe, a device, a folder, a socket, an empty file, none', async () => {
      const pipe = join(folder, 'pipe');
      execFileSync('mkfifo', [pipe]);
      const socket = join(folder, 'socket');
      const server = createServer().listen(socket);
      await new Promise((resolve) => server.once('listening', resolve));
      const empty = join(folder, 'empty');
      writeFileSync(empty, '');
      try {
        for (const path of [pipe, socket, empty, folder, '/dev/zero', '/dev/tty', join(folder, 'none')]) {
          expect({ path, code: (await refusal(path)).code }).toEqual({ path, code: 'ERR_MODEL_LOAD' });
        }
      } finally {
        server.close();
      }
    });
  });

  describe('memory of others', () => {
    const withTensor = (elements: number, offset: number, size: number[], stride: number[], bytes = 16): Uint8Array => {
      const records = programRecords(
        `class M(Module):
  __parameters__ = []
  __buffers__ = ["w", ]
  w : Tensor
  training : bool
  _is_full_backward_hook : Optional[bool]
  def forward(self: __torch__.M, x: Tensor) -> Tensor:
    return self.w
`,
        modulePickle('__torch__.M', { w: ops.tensor('0', elements, offset, size, stride) }),
      );
      records['data/0'] = new Uint8Array(bytes);
      return archiveOf(records);
    };

    it('is given by no tensor', async () => {
      await loads(withTensor(4, 0, [2, 2], [2, 1]));
      await loads(withTensor(4, 4, [0, 7], [7, 1]));
      await loads(withTensor(4, 1, [1000], [0]));
      for (const [what, archive] of Object.entries({
        storage: withTensor(5, 0, [4], [1]),
        'huge storage': withTensor(2 ** 62, 0, [4], [1]),
        'no record': withTensor(4, 0, [4], [1], 0),
        offset: withTensor(4, 1, [4], [1]),
        'negative offset': withTensor(4, -1, [4], [1]),
        size: withTensor(4, 0, [5], [1]),
        stride: withTensor(4, 0, [2, 2], [3, 1]),
        'negative stride': withTensor(4, 3, [2], [-1]),
        overflow: withTensor(4, 0, [2 ** 40, 2 ** 40], [2 ** 40, 2 ** 40]),
        'overflow to zero': withTensor(4, 0, [2 ** 32, 2 ** 32], [0, 0]),
        'other dimensions': withTensor(4, 0, [2, 2], [1]),
        'a tensor repeated beyond all memory': withTensor(4, 0, [2 ** 40], [0]),
      })) {
        expect({ what, code: (await refusal(archive)).code }).toEqual({ what, code: 'ERR_MODEL_LOAD' });
      }
    });

    it('is given by no object of another class than its place has', async () => {
      const code = (slot: string): string => `class M(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  inner : ${slot}
  def forward(self: __torch__.M, x: Tensor) -> Tensor:
    return x
class Large(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  a : int
  def f(self: __torch__.Large) -> int:
    return self.a
class Small(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  def f(self: __torch__.Small) -> int:
    return 1
`;
      const small = modulePickle('__torch__.Small').subarray(2, -1);
      const archive = (slot: string, value: Uint8Array): Uint8Array =>
        archiveOf(programRecords(code(slot), modulePickle('__torch__.M', { inner: value })));
      await loads(archive('__torch__.Small', small));
      const list = 'List[__torch__.Large]';
      const tagged = ops.call(
        ops.global('torch.jit._pickle', 'restore_type_tag'),
        ops.tuple(ops.list(small), ops.string(list)),
      );
      for (const [slot, value] of [
        ['__torch__.Large', small],
        ['Optional[__torch__.Large]', small],
        [list, tagged],
        [`Tuple[${list}, int]`, ops.tuple(tagged, ops.int(1))],
        ['int', ops.string('1')],
        ['List[int]', ops.list(ops.true)],
      ] as const) {
        expect({ slot, code: (await refusal(archive(slot, value))).code }).toEqual({ slot, code: 'ERR_MODEL_LOAD' });
      }
    });
  });

  describe('a pickle', () => {
    const pickled = (pickle: string): Uint8Array =>
      edited((records) => {
        records['data.pkl'] = Buffer.from(`\x80\x02${pickle}`, 'latin1');
      });

    it('is refused where libtorch would fail on it', async () => {
      for (const pickle of [
        '',
        '.',
        '0.',
        'N.',
        'Nr\xff\xff\xff\xff.',
        'X\xff\xff\xff\xffa.',
        'h\x00.',
        'e.',
        'a.',
        'u.',
        's.',
        't.',
        '(NNu.',
        '}(Nu.',
        '}(]Nu.',
        'K\x00)R.',
        'K\x00K\x00b.',
        '\x81.',
        'Q.',
        ')Q.',
        '(NtQ.',
        '\x8a\x09aaaaaaaaa.',
        'cos\nsystem\n(X\x02\x00\x00\x00lstR.',
        'c__main__\nTensorID\nK\x00R.',
        'ctorch._utils\n_rebuild_tensor_v2\n)R.',
        'ctorch._utils\n_rebuild_tensor_v2\nK\x00R.',
        ']q\x00h\x00a.',
        ']q\x00(h\x00e.',
        '(]q\x00h\x00\x85h\x00(K\x01et.',
        'c__torch__.No.Such\nClass\n)\x81}b.',
      ]) {
        expect({ pickle, code: (await refusal(pickled(pickle))).code }).toEqual({ pickle, code: 'ERR_MODEL_LOAD' });
      }
    });

    it('takes no memory beyond its limit, nor goes deeper', async () => {
      const started = performance.now();
      for (const pickle of [
        `${']'.repeat(300)}${'a'.repeat(299)}.`,
        `N${'\x85'.repeat(100_000)}.`,
        `)q\x00${'h\x00h\x00\x86q\x00'.repeat(60)}.`,
      ]) {
        expect((await refusal(pickled(pickle))).code).toBe('ERR_MODEL_LOAD');
        expect((await refusal(pickled(pickle), { untrusted: true })).code).toBe('ERR_UNTRUSTED');
      }
      const many = edited((records) => {
        records['data.pkl'] = Buffer.concat([Buffer.from([0x80, 2]), Buffer.alloc(4_000_000, ']'), Buffer.from('.')]);
      });
      expect((await refusal(many, { untrusted: true })).code).toBe('ERR_UNTRUSTED');
      expect(performance.now() - started).toBeLessThan(20_000);
    });
  });

  describe('a directory', () => {
    // Where the entries of an archive begin, and how many there are.
    const directory = (bytes: Buffer): { at: number; count: number } => {
      const end = bytes.lastIndexOf('PK\x05\x06', undefined, 'latin1');
      return { at: bytes.readUInt32LE(end + 16), count: bytes.readUInt16LE(end + 10) };
    };
    const patched = (patch: (bytes: Buffer, at: number) => void): Buffer => {
      const bytes = Buffer.from(archiveOf(recordsOf(fixture(good))));
      patch(bytes, directory(bytes).at);
      return bytes;
    };

    it('is refused where it contradicts the file', async () => {
      const cases: Record<string, Buffer> = {
        'offset of a record': patched((bytes, at) => bytes.writeUInt32LE(0x7fffffff, at + 42)),
        'another record': patched((bytes, at) => bytes.writeUInt32LE(bytes.readUInt32LE(at + 42) + 1, at + 42)),
        'stored size': patched((bytes, at) => bytes.writeUInt32LE(0x7fffffff, at + 20)),
        size: patched((bytes, at) => bytes.writeUInt32LE(0x7fffffff, at + 24)),
        'zip64 without one': patched((bytes, at) => bytes.writeUInt32LE(0xffffffff, at + 24)),
        method: patched((bytes, at) => bytes.writeUInt16LE(12, at + 10)),
        encrypted: patched((bytes, at) => bytes.writeUInt16LE(1, at + 8)),
        'length of a name': patched((bytes, at) => bytes.writeUInt16LE(0xffff, at + 28)),
        'a damaged entry': patched((bytes, at) => bytes.writeUInt32LE(0, at)),
        'local header': patched((bytes) => bytes.writeUInt32LE(0, 0)),
        'its own offset': patched((bytes) => bytes.writeUInt32LE(0x7fffffff, bytes.length - 6)),
        'count of records': patched((bytes) => bytes.writeUInt16LE(0xfffe, bytes.length - 12)),
        end: fixture(good).subarray(0, -30),
      };
      for (const [what, archive] of Object.entries(cases)) {
        expect({ what, code: (await refusal(archive)).code }).toEqual({ what, code: 'ERR_MODEL_LOAD' });
      }
    });

    it('has each record once, and none over another', async () => {
      const twice = edited((records) => {
        records['data/x'] = new Uint8Array(records['data/0'] as Uint8Array);
      });
      const bytes = Buffer.from(twice);
      for (let at = bytes.indexOf('m/data/x'); at >= 0; at = bytes.indexOf('m/data/x', at + 1))
        bytes.write('m/data/0', at);
      expect((await refusal(bytes)).message).toMatch(/two records 'm\/data\/0'/);
    });

    it('is refused with a record that becomes too large', async () => {
      const bomb = recordsOf(fixture(good));
      bomb['extra/zeros'] = new Uint8Array(64 * 1024 * 1024);
      const archive = archiveOf(bomb, 9);
      expect(archive.length).toBeLessThan(1024 * 1024);
      expect((await refusal(archive)).code).toBe('ERR_MODEL_LOAD');
      expect((await refusal(archive, { untrusted: true })).code).toBe('ERR_UNTRUSTED');
    });

    it('tells of flipped bytes of a weight where that is asked for', async () => {
      const archive = Buffer.from(archiveOf(recordsOf(fixture(good))));
      const at = archive.indexOf('m/data/0') + 'm/data/0'.length + 100;
      archive.writeUInt8(archive.readUInt8(at) ^ 1, at);
      await loads(archive);
      expect(await refusal(archive, { verify: true })).toMatchObject({
        code: 'ERR_MODEL_LOAD',
        message: expect.stringMatching(/'m\/data\/0' is corrupt/),
      });
      expect((await refusal(archive, { untrusted: true })).code).toBe('ERR_MODEL_LOAD');
    });

    it.each(['data/9999', 'constants/9999', 'extra/notes'])(
      'tells of flipped bytes of %s, which nothing reads, where that is asked for',
      async (name) => {
        for (const level of [0, 9] as const) {
          const records = recordsOf(fixture(good));
          records[name] = Buffer.alloc(1000, 'abcdefg');
          const archive = Buffer.from(archiveOf(records, level));
          await loads(archive, { verify: true });
          // The checksum in the directory, 16 bytes into its entry, whose name is 46 bytes into it.
          const checksum = archive.lastIndexOf(`m/${name}`) - 46 + 16;
          archive.writeUInt8(archive.readUInt8(checksum) ^ 1, checksum);
          await loads(archive);
          expect(await refusal(archive, { verify: true })).toMatchObject({
            code: 'ERR_MODEL_LOAD',
            message: expect.stringContaining(`'m/${name}' is corrupt`),
          });
        }
      },
    );

    it('tells of a record that is larger than any that is read whole', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'lta-'));
      const path = join(folder, 'large.pt');
      const size = 2 ** 30 + 5;
      const file = openSync(path, 'w');
      try {
        const { before, directory } = withRecordOfZeros(archiveOf(recordsOf(fixture(good))), 'm/extra/zeros', size);
        writeSync(file, before, 0, before.length, 0);
        writeSync(file, directory, 0, directory.length, before.length + size); // the rest is a hole
        await (await ScriptModule.load(path)).dispose();
        expect(await refusal(path, { verify: true })).toMatchObject({
          code: 'ERR_MODEL_LOAD',
          message: expect.stringContaining("'m/extra/zeros' is corrupt"),
        });
      } finally {
        closeSync(file);
        rmSync(folder, { recursive: true });
      }
    });
  });

  describe('code', () => {
    describe.each(['Any', 'list', 'Optional[Any]', 'Union[int, list]', 'Optional[Union[int, list]]'])(
      'a list that is declared as %s, on which the compiler of libtorch crashes',
      (type) => {
        it.each(['[x]', '[]', '[x, 1]', '[x] if bool(x) else [x]', '[i for i in [x]]'])('%s', async (list) => {
          const method = `  def made(self: __torch__.M, x: Tensor) -> ${type}:\n    return ${list}\n`;
          for (const archive of [
            program(`y = annotate(${type}, ${list})\nreturn x`),
            program(`y : ${type} = ${list}\nreturn x`),
            program(`if bool(x):\n  y = [annotate(${type}, ${list})]\nelse:\n  y = []\nreturn x`),
            program('return x', method),
          ]) {
            const { code, message } = await refusal(archive);
            expect([code, message]).toEqual([
              'ERR_MODEL_LOAD',
              expect.stringContaining(`declares a list as '${type}'`),
            ]);
          }
        });
      },
    );

    it('loads with lists of anything, and lists that are made before they are anything', async () => {
      await loads(program('y = annotate(List[Any], [x, 1])\nreturn x'));
      await loads(program('y = [x]\nz : Any = y\nreturn x'));
      await loads(program('y : Optional[List[Tensor]] = [x]\nreturn x'));
      await loads(program('y : Union[List[Tensor], int] = [x]\nreturn x'));
    });

    it('is refused where it is nested too deep for libtorch', async () => {
      const deep = 20_000;
      const blocks = Array.from({ length: 3000 }, (_, i) => `${'  '.repeat(i)}if bool(1):`).join('\n');
      const elifs = Array.from({ length: deep }, () => 'elif bool(x):\n  y = x').join('\n');
      const functions = Array.from(
        { length: deep },
        (_, i) => `def f${i}(x: Tensor) -> Tensor:\n  return __torch__.f${i + 1}(x)`,
      ).join('\n');
      const cases: Record<string, Uint8Array> = {
        brackets: program(`return ${'('.repeat(deep)}x${')'.repeat(deep)}`),
        'lists in a type': program(`y = annotate(${'List['.repeat(deep)}int${']'.repeat(deep)}, [])\nreturn x`),
        sums: program(`return ${'x + '.repeat(deep)}x`),
        powers: program(`return ${'x ** '.repeat(deep)}x`),
        signs: program(`return ${'-'.repeat(deep)}x`),
        negations: program(`y = ${'not '.repeat(deep)}x\nreturn x`),
        conditions: program(`return ${'x if True else '.repeat(deep)}x`),
        calls: program(`return x${'.abs()'.repeat(deep)}`),
        names: program(`return x${'.T'.repeat(deep)}`),
        subscripts: program(`return x${'[0]'.repeat(deep)}`),
        'an unfinished bracket': program(`return ${'['.repeat(deep)}`),
        blocks: program(`${blocks}\n${'  '.repeat(3000)}y = x\nreturn x`),
        elifs: program(`if bool(x):\n  y = x\n${elifs}\nreturn x`),
        'empty lines': program(`y = x${'\n'.repeat(deep * 10)}\nreturn x`),
        comments: program(`y = x\n${indented('# nothing\n'.repeat(deep * 5), 4)}\nreturn x`),
        functions: program('return __torch__.f0(x)', `${functions}\ndef f${deep}(x: Tensor) -> Tensor:\n  return x\n`),
      };
      for (const [what, archive] of Object.entries(cases)) {
        expect({ what, code: (await refusal(archive)).code }).toEqual({ what, code: 'ERR_MODEL_LOAD' });
        expect({ what, code: (await refusal(archive, { untrusted: true })).code }).toEqual({
          what,
          code: 'ERR_UNTRUSTED',
        });
      }
    });

    it('is refused where its calls become too many', async () => {
      const functions = Array.from(
        { length: 40 },
        (_, i) => `def f${i}(x: Tensor) -> Tensor:\n  y = __torch__.f${i + 1}(x)\n  return __torch__.f${i + 1}(y)\n`,
      ).join('');
      const archive = program(
        'return __torch__.f0(x)',
        `${functions}def f40(x: Tensor) -> Tensor:\n  return torch.abs(x)\n`,
      );
      expect((await refusal(archive)).code).toBe('ERR_MODEL_LOAD');
      expect((await refusal(archive, { untrusted: true })).code).toBe('ERR_UNTRUSTED');
    });

    it('is refused where types in types become too many', async () => {
      const classes = Array.from(
        { length: 40 },
        (_, i) =>
          `class C${i}:\n  a : ${i < 39 ? `__torch__.C${i + 1}` : 'int'}\n  b : ${i < 39 ? `__torch__.C${i + 1}` : 'int'}\n  def f(self: __torch__.C${i}) -> int:\n    return 1\n`,
      ).join('');
      const tuples = Array.from({ length: 60 }, (_, i) => `y${i + 1} = (y${i}, y${i})`).join('\n');
      const cases: Record<string, Uint8Array> = {
        classes: program('y = annotate(Optional[__torch__.C0], None)\nreturn x', classes),
        tuples: program(`y0 = (x, x)\n${tuples}\nreturn x`),
        lists: program(`y0 = (x, x)\n${tuples.replace(/\(/g, '([').replace(/\)/g, '],)')}\nreturn x`),
      };
      for (const [what, archive] of Object.entries(cases)) {
        expect({ what, code: (await refusal(archive)).code }).toEqual({ what, code: 'ERR_MODEL_LOAD' });
        expect({ what, code: (await refusal(archive, { untrusted: true })).code }).toEqual({
          what,
          code: 'ERR_UNTRUSTED',
        });
      }
    });

    it('may be as deep as a person writes it', async () => {
      const blocks = Array.from({ length: 60 }, (_, i) => `${'  '.repeat(i)}if True:`).join('\n');
      const archive = program(
        `${blocks}\n${'  '.repeat(60)}y = x\nreturn ${'torch.add(x, '.repeat(40)}x${')'.repeat(40)}`,
      );
      const model = await ScriptModule.load(archive);
      expect([...((await model.forward([input()])) as Tensor).toTypedArray()]).toEqual([41, 41, 41, 41]);
    });
  });
});

describe('ScriptModule.load of an untrusted archive', () => {
  describe('untrusted', () => {
    const folder = mkdtempSync(join(tmpdir(), 'lta-'));
    afterAll(() => rmSync(folder, { recursive: true }));

    const refused = async (what: string, archive: Uint8Array): Promise<void> => {
      expect({ what, code: (await refusal(archive, { untrusted: true })).code }).toEqual({
        what,
        code: 'ERR_UNTRUSTED',
      });
    };

    it('allows what lays tensors out anew within them', async () => {
      for (const statement of [
        'return torch.numpy_T(torch.reshape(x, [1, -1]))',
        'return torch.matrix_H(torch.reshape(x, [1, -1]))',
        'return torch.cdist(torch.reshape(x, [1, -1]), torch.reshape(x, [1, -1]))',
        'return torch.im2col(torch.reshape(x, [1, 1, 1, -1]), [1, 1], [1, 1], [0, 0], [1, 1])',
      ]) {
        await (await ScriptModule.load(program(statement), { untrusted: true })).forward([Tensor.from([1, 2])]);
      }
    });

    it('refuses what reaches outside of the program', async () => {
      for (const statement of [
        'torch.save(x, "f")',
        'y = torch.from_file("f", True, 4)',
        'y = ops.aten.from_file("f", True, 4)',
        'print(x)',
        'y = x.tofile("f")',
        'y = torch.tofile(x, "f")',
        'y = fork(__torch__.f, x)',
        'y = torch.set_(x, x)',
        'y = x.set_(x)',
        'y = torch.resize_(x, [1000000])',
        'y = torch.as_strided(x, [1000], [1])',
        'y = x.as_strided([1000], [1])',
        'y = torch.empty([1000])',
        'y = ops.quantized.linear(x, x)',
        'y = ops.mkldnn._linear_pointwise(x, x)',
        'y = ops.prim.Print(x)',
        'y = ops.lta.enter(x)',
        'y = __torch__.torch.classes.quantized.LinearPackedParamsBase(x)',
        'y = torch.nn.functional.relu(x)',
        'y = torch._foo(x)',
        'torch.manual_seed(1)',
      ]) {
        await refused(statement, program(`${statement}\nreturn x`));
      }
    });

    it('refuses it in code that is never run, and in every file', async () => {
      await refused('after a return', program('if False:\n  torch.save(x, "f")\nelse:\n  pass\nreturn x'));
      await refused(
        'a function',
        program('return x', 'def f(x: Tensor) -> Tensor:\n  torch.save(x, "f")\n  return x\n'),
      );
      const records = recordsOf(program('return x'));
      records['code/other.py'] = Buffer.from('def f(x: Tensor) -> Tensor:\n  torch.save(x, "f")\n  return x\n');
      await refused('a file of its own', archiveOf(records));
    });

    it('refuses a method that has an operator’s name where the operator is meant', async () => {
      await refused(
        'set_',
        program('y = x.set_(x)\nreturn x', '  def set_(self: __torch__.M, x: Tensor) -> Tensor:\n    return x\n'),
      );
    });

    it('refuses a custom class in a pickle', async () => {
      const records = recordsOf(program('return x'));
      records['constants.pkl'] = Buffer.from(
        '\x80\x02c__torch__.torch.classes.quantized\nLinearPackedParamsBase\n)\x81N\x62\x85.',
        'latin1',
      );
      await refused('constants', archiveOf(records));
    });

    const stateful = (statements: string): Uint8Array =>
      archiveOf(
        programRecords(
          `class M(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : Optional[bool]
  n : int
  def forward(self: __torch__.M, x: Tensor) -> Tensor:
    return torch.add(x, self.n)
  def __getstate__(self: __torch__.M) -> Tuple[int, bool]:
    return (self.n, self.training)
  def __setstate__(self: __torch__.M, state: Tuple[int, bool]) -> NoneType:
${indented(statements, 4)}
    return None
`,
          Buffer.concat([
            Buffer.from([0x80, 2]),
            ops.global('__torch__', 'M'),
            Buffer.from(')\x81', 'latin1'),
            ops.tuple(ops.int(7), ops.false),
            Buffer.from('b.'),
          ]),
        ),
      );

    it('refuses a state that is computed while it loads, not one that is moved', async () => {
      const moves = 'n, training, = state\nself.n = n\nself.training = training';
      const model = await ScriptModule.load(stateful(moves), { untrusted: true });
      expect([...((await model.forward([input()])) as Tensor).toTypedArray()]).toEqual([8, 8, 8, 8]);
      await refused('a loop', stateful(`${moves}\nt = True\nwhile t:\n  t = True`));
      await refused('memory', stateful(`${moves}\nself.n = torch.numel(torch.zeros([100000000000]))`));
      await refused('an operator', stateful(`${moves}\nself.n = torch.add(n, 1)`));
    });

    it('holds for archives that tensors are read from, of which nothing is executed', async () => {
      const path = join(folder, 'state.pt');
      const layer = new nn.LayerNorm(4);
      writeFileSync(path, stateful('n, training, = state\nself.n = torch.add(n, 1)\nself.training = training'));
      await expect(layer.loadStateDict(path, { strict: false })).rejects.toMatchObject({
        code: 'ERR_UNTRUSTED',
        message: expect.stringContaining('stateDict()'),
      });
      writeFileSync(path, stateful('n, training, = state\nself.n = n\nself.training = training'));
      expect((await layer.loadStateDict(path, { strict: false })).missingKeys).toEqual(['weight', 'bias']);
    });

    it('ends a run beyond the default memory, which the call may lift', async () => {
      const model = await ScriptModule.load(program('return torch.zeros([2000000000])'), { untrusted: true });
      for (const run of [() => model.forward([input()]), () => model.captureAttention([input()])]) {
        await expect(run()).rejects.toMatchObject({ code: 'ERR_MEMORY_LIMIT' });
      }
      await expect(model.forward([input()], { memoryLimit: 1000 })).rejects.toMatchObject({ code: 'ERR_MEMORY_LIMIT' });
      const loop = await ScriptModule.load(
        program('t = True\nn = 0\nwhile t:\n  n = torch.add(n, 1)\n  t = torch.gt(n, 0)\nreturn torch.add(x, n)'),
        { untrusted: true },
      );
      await expect(loop.forward([input()], { timeLimit: 100 })).rejects.toMatchObject({ code: 'ERR_TIME_LIMIT' });
    });

    it.each([
      ['a string', 's = "long enough"', 's = torch.add(s, s)', 'len(s)'],
      ['a list', 's = [1, 2, 3, 4]', '_ = torch.extend(s, s)', 'len(s)'],
    ])(
      'ends a run in which %s grows without end',
      async (_, start, grow, size) => {
        const path = join(folder, 'growing.pt');
        writeFileSync(
          path,
          program(`${start}\nt = True\nwhile t:\n  ${grow}\n  t = torch.ge(${size}, 0)\nreturn torch.add(x, ${size})`),
        );
        const { output } = await runScript(`
      const model = await ScriptModule.load(${JSON.stringify(path)}, { untrusted: true });
      console.log(await failure(model.forward([f32(4)], { memoryLimit: 1 << 20 })));
    `);
        expect(output).toBe('ERR_MEMORY_LIMIT');
      },
      120_000,
    );

    it.each([
      'torch.upsample_bilinear2d(t, [8, 8], False, None, None)',
      'torch.upsample_bilinear2d(t, [8, 8], False, 2.0, 2.0)',
      'torch.upsample_bilinear2d(t, None, False, [2.0, 2.0])',
      'torch.upsample_nearest2d(t, [8, 9], None, 2.3)',
      'torch._upsample_bicubic2d_aa(t, [2, 2], False, 0.5, 0.5)',
      'torch.reflection_pad2d(t, [1, 1, 2, 2])',
      'torch.replication_pad2d(t, [1, 1, 2, 2])',
    ])('may resize a picture: %s', async (call) => {
      const code = `t = torch.ones([1, 1, 4, 4])\ny = ${call}\nreturn torch.add(x, torch.numel(y))`;
      const model = await ScriptModule.load(program(code), { untrusted: true });
      const output = await model.forward([input()]);
      expect((output as Tensor).toTypedArray()[0]).toBeGreaterThan(4);
    });

    it('takes warnings out of a program', async () => {
      const model = await ScriptModule.load(program('torch.warn("told")\nreturn x'), { untrusted: true });
      await model.forward([input()]);
    });
  });
});

describe('ScriptModule#forward', () => {
  describe('an operator that would end the process', () => {
    it.each([
      'y = 5 % int(torch.sub(x, x)[0])',
      'y = int(torch.mul(x, -9223372036854775808)[0]) // -int(x[0])\ny = -9223372036854775808 // -int(x[0])',
      'y, z, = divmod(5, int(torch.sub(x, x)[0]))',
      'w = torch.ones([24, 8])\nb = torch.ones([24])\nq = torch.ones([1, 2, 8])\ny, z, = torch._native_multi_head_attention(q, q, q, 8, int(torch.sub(x, x)[0]), w, b, torch.ones([8, 8]), torch.ones([8]), None, False, True, None)\ny = torch.numel(y)',
      'y = torch.count("aaa", "", 0, 3)',
      'y = len([1] * 100000000000)',
      'y = len(torch.ljust("a", 100000000000, " "))',
      'y = annotate(List[int], [1])\n_ = torch.mul_(y, 100000000000)\ny = len(y)',
      // Numbers of no dtype, layout or memory format.
      ...[-1, -2, 99, 100, 255, 256, 2147483647, '-9223372036854775808'].flatMap((number) => [
        `y = torch.softmax(x, 0, ${number})`,
        `y = torch.to(x, ${number})`,
        `y = torch.zeros([1], dtype=${number})`,
        `y = torch.sum(x, dtype=${number})`,
        `y = torch.cumsum_(x, 0, dtype=${number})`,
        `y = torch.tensor(1, dtype=${number})`,
        `y = torch.promote_types(6, ${number})`,
        `y = torch.to(x, torch.dtype(torch.to(x, int(x[0]) * ${number})))`,
        `y = torch.contiguous(x, memory_format=${number})`,
        `y = torch.zeros_like(x, layout=${number})`,
      ]),
      'y = torch.linalg_matrix_power(torch.ones([2, 2]), -9223372036854775808)',
      'y = torch.random(x, 9223372036854775807, None)',
      'y = torch._weight_norm(torch.zeros([2, 3]), torch.ones([0]), 0)\ny = torch.numel(y)',
      'y = torch._weight_norm(torch.zeros([0, 3]), torch.ones([0, 1]), 0)\ny = torch.numel(y)',
      // Scales that contradict the sizes beside them.
      ...['1e-30', '1e-9', '-1.', '3.5'].flatMap((scale) => [
        `y = torch.numel(torch.upsample_bilinear2d(torch.ones([1, 1, 4, 33]), [16, 40], False, ${scale}, None))`,
        `y = torch.numel(torch.upsample_bicubic2d(torch.ones([1, 1, 4, 33]), [16, 40], True, None, ${scale}))`,
        `y = torch.numel(torch.upsample_nearest2d(torch.ones([2, 1, 33, 1], dtype=0), [3, 40], 0.1, ${scale}))`,
        `y = torch.numel(torch._upsample_nearest_exact1d(torch.ones([2, 1, 33]), [3], ${scale}))`,
        `y = torch.numel(torch._upsample_bilinear2d_aa(torch.ones([2, 2, 17, 3]), [16, 40], False, 1., ${scale}))`,
        `y = torch.numel(torch.upsample_trilinear3d(torch.ones([1, 1, 2, 2, 2]), [4, 4, 4], False, 2., 2., ${scale}))`,
      ]),
      // Transforms of dimensions that the input hasn't, or of more than it has.
      'y = torch.numel(torch._fft_c2r(torch.complex(torch.ones([31]), torch.ones([31])), [0], 2, 2147483648))',
      'y = torch.numel(torch._fft_c2r(torch.complex(torch.ones([31]), torch.ones([31])), [1], 2, 60))',
      'y = torch.numel(torch._fft_r2c(torch.ones([10, 22]), [2147483647], 0, False))',
      'y = torch.numel(torch._fft_r2c(torch.ones([10, 22]), [1, -1], 0, False))',
      'y = torch.numel(torch._fft_c2c(torch.complex(torch.ones([31]), torch.ones([31])), [-2], 0, True))',
      // Statistics and weights of other channels than the input's.
      'y, _, _ = torch.native_batch_norm(torch.ones([1, 25, 5]), None, None, torch.ones([0]), torch.ones([25]), False, 0.1, 0.1)\ny = torch.numel(y)',
      'y, _, _ = torch.native_batch_norm(torch.ones([1, 25, 5]), None, None, None, None, False, 0.1, 0.1)\ny = torch.numel(y)',
      'y, _, _ = torch._native_batch_norm_legit(torch.ones([5, 5, 5]), torch.tensor(1.), None, torch.ones([5]), torch.ones([5]), True, 0.1, 0.1)\ny = torch.numel(y)',
      'y, _, _ = torch._native_batch_norm_legit_no_training(torch.ones([5]), None, None, torch.ones([5]), torch.ones([5]), 0.1, 0.1)\ny = torch.numel(y)',
    ])('is an error of the run: %s', async (statement) => {
      const model = await ScriptModule.load(program(`${statement}\nreturn torch.add(x, y)`)).catch((error) => error);
      const error = 'code' in model ? model : await model.forward([input()]).catch((failure: unknown) => failure);
      expect(error.code).toMatch(/^ERR_MODEL_(RUN|LOAD)$/);
    });
  });

  describe('a value that is nested deep', () => {
    it('may be made and dropped within a run', async () => {
      const path = join(mkdtempSync(join(tmpdir(), 'lta-')), 'deep.pt');
      const code = `y = annotate(List[Any], [])
i = 0
t = torch.lt(i, 1000000)
while t:
  z = annotate(List[Any], [])
  _ = torch.append(z, y)
  y = z
  i = torch.add(i, 1)
  t = torch.lt(i, 1000000)
return torch.add(x, len(y))`;
      writeFileSync(path, program(code));
      const { output } = await runScript(`
      const model = await ScriptModule.load(${JSON.stringify(path)});
      const output = await model.forward([f32(1)]);
      console.log(output.toTypedArray()[0]);
      console.log(await failure(model.captureAttention([f32(1)])));
    `);
      rmSync(join(path, '..'), { recursive: true });
      expect(output).toBe('1\nERR_NO_ATTENTION');
    });
  });

  describe('a message that a model raises', () => {
    it('may be of any length', async () => {
      const archive = program(
        `if bool(torch.gt(torch.numel(x), 0)):\n  ops.prim.RaiseException("${'long '.repeat(100_000)}", "E")\nelse:\n  pass\nreturn x`,
      );
      const model = await ScriptModule.load(archive);
      const error = await model.forward([input()]).catch((failure) => failure);
      expect(error.code).toBe('ERR_MODEL_RUN');
      expect(error.message.length).toBeLessThan(10_000);
      expect(error.nativeStack.length).toBeGreaterThan(10_000);
    });
  });
});
