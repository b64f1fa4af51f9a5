import { editJson } from './json-edits.mjs';
import {
  INTEGERS,
  integerOf,
  MEMO,
  operation,
  pushInteger,
  pushString,
  readOperations,
  STRINGS,
  stringOf,
  writeOperations,
} from './pickle.mjs';
import { readZip, writeZip } from './zip.mjs';

/**
 * Breaks a file in one to three places.
 *
 * @param kind 'zip' (TorchScript, torch.save, npz), 'legacy' (torch.save before zip), 'safetensors' or 'json'
 * @param donor another file of the kind, for splices
 * @returns the bytes, what was done, and the bytes that what is read from them may consist of; these are undefined where
 *   that isn't known, since changed code may compute and broken compression decompress to anything
 */
export function mutate(random, kind, bytes, donor) {
  const done = [];
  const contents = [bytes, donor];
  let result = bytes;
  if (random.chance(0.8)) {
    try {
      result = STRUCTURED[kind](random, result, done, contents);
    } catch (error) {
      // A file of the corpus that is broken already.
      if (done.length > 0) throw error;
    }
  }
  if (done.length === 0 || random.chance(0.1)) result = mutateBytes(random, result, donor, done);
  contents.push(result);
  const isKnown = kind !== 'json' && !done.some((each) => UNTELLING.test(each)) && !isCompressed(bytes);
  return { bytes: result, mutation: done.join(', '), contents: isKnown ? contents : undefined };
}

/** What is larger is changed as bytes only: a text's tokens and a document's values take many times its memory. */
const MOST_STRUCTURED = 2e6;
/** What a file, and the files of an archive together, may grow to, so that every case can be made. */
const MOST_BYTES = 1.5e8;
const UNTELLING = /^code|method|deflated/;
const STRUCTURED = { zip: mutateZip, legacy: mutateLegacy, safetensors: mutateSafetensors, json: mutateText };

/** Whether elements of an archive are compressed. */
function isCompressed(bytes) {
  try {
    return readZip(bytes).some(({ name, deflated }) => deflated && /\.npy$|data\/\d+$/.test(name));
  } catch {
    return false;
  }
}

/** Changes that know nothing of the format. */
function mutateBytes(random, bytes, donor, done) {
  const length = bytes.length;
  const [name, change] = random.pick([
    [
      'flips',
      () => {
        const copy = bytes.slice();
        for (let i = random.between(1, 8); i > 0 && length > 0; i--) copy[random.below(length)] ^= 1 << random.below(8);
        return copy;
      },
    ],
    [
      'bytes',
      () => {
        const copy = bytes.slice();
        const at = random.below(length + 1);
        copy.set(random.bytes(16).subarray(0, Math.min(length - at, random.between(1, 16))), at);
        return copy;
      },
    ],
    ['truncated', () => bytes.slice(0, random.below(length + 1))],
    ['beginning cut', () => bytes.slice(random.below(Math.min(length, 200) + 1))],
    [
      'splice',
      () =>
        Buffer.concat([bytes.subarray(0, random.below(length + 1)), donor.subarray(random.below(donor.length + 1))]),
    ],
    [
      'inserted',
      () => {
        const at = random.below(length + 1);
        return Buffer.concat([bytes.subarray(0, at), random.bytes(random.between(1, 64)), bytes.subarray(at)]);
      },
    ],
    [
      'removed',
      () => {
        const at = random.below(length + 1);
        return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.between(1, 64))]);
      },
    ],
    [
      'repeated',
      () => {
        const [from, to] = [random.below(length + 1), random.below(length + 1)].sort((a, b) => a - b);
        return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]);
      },
    ],
    [
      'number',
      () => {
        const copy = Buffer.from(bytes);
        if (length >= 8) copy.writeBigInt64LE(random.integer(length), random.below(length - 7));
        return copy;
      },
    ],
  ]);
  done.push(name);
  return new Uint8Array(change().subarray(0, MOST_BYTES));
}

function mutateZip(random, bytes, done, contents) {
  const files = readZip(bytes);
  contents.push(...files.map(({ data }) => data));
  for (let i = random.pick([1, 1, 1, 2, 3]); i > 0; i--) {
    random.pick([changeFiles, changeContent, changeContent, changeContent])(random, files, done, contents);
  }
  const zip = writeZip(files);
  contents.push(...files.map(({ data }) => data).filter((data) => data.length < 1e6));
  if (random.chance(0.2)) {
    const view = Buffer.from(zip.bytes.buffer, zip.bytes.byteOffset);
    for (let i = random.pick([1, 1, 2]); i > 0; i--) {
      const { name, at, size } = random.pick(zip.fields);
      done.push(`zip ${name}`);
      const value = random.integer(random.pick([zip.bytes.length, at]));
      if (size === 8) view.writeBigInt64LE(value, at);
      else if (size <= 4) view.writeUIntLE(Number(BigInt.asUintN(8 * size, value)), at, size);
      else view[at + random.below(size)] = random.below(256);
    }
  }
  return zip.bytes;
}

/** Changes to the list of an archive's files, and to what the archive says of them. */
function changeFiles(random, files, done) {
  const at = random.below(files.length);
  const file = files[at];
  const [name, change] = random.pick([
    ['dropped', () => files.splice(at, 1)],
    ['twice', () => files.splice(random.below(files.length), 0, { ...file, data: random.pick(files).data })],
    ['swapped', () => ([files[at].data, files[0].data] = [files[0].data, files[at].data])],
    ['renamed', () => (file.name = hostileName(random, file.name))],
    ['local name', () => (file.localName = hostileName(random, file.name))],
    ['deflated', () => (file.deflated = !file.deflated)],
    ['method', () => (file.method = random.pick([0, 1, 6, 8, 9, 12, 14, 93, 95, 99, 0xffff]))],
    ['crc', () => (file.crc = random.between(0, 0x7fffffff))],
    ['size', () => (file.size = Number(random.integer(file.data.length)))],
    ['compressed size', () => (file.compressedSize = Number(random.integer(file.data.length)))],
    ['zip64', () => Object.assign(file, { zip64: true, size: random.integer(file.data.length) })],
    ['empty', () => (file.data = new Uint8Array(0))],
    ['shorter', () => (file.data = file.data.slice(0, random.below(file.data.length + 1)))],
    ['longer', () => (file.data = Buffer.concat([file.data, random.bytes(random.between(1, 100))]))],
    ['bomb', () => Object.assign(file, { data: new Uint8Array(random.pick([1e6, 64e6])), deflated: true })],
    ['many', () => files.push(...copiesOf(file, files))],
  ]);
  done.push(`file ${name}`);
  change();
  if (files.length === 0) files.push(file);
}

/** So many copies of a file under other names as an archive may have. */
function copiesOf(file, files) {
  const left = MOST_BYTES - files.reduce((sum, { data }) => sum + data.length, 0);
  const length = Math.max(0, Math.min(2000, Math.floor(left / Math.max(1, file.data.length))));
  return Array.from({ length }, (_, i) => ({ ...file, name: `${file.name}${i}` }));
}

function hostileName(random, name) {
  return random.pick([
    '',
    '/',
    `../${name}`,
    `${name}\0`,
    `${name}/`,
    name.toUpperCase(),
    name.replaceAll('/', '\\'),
    'x'.repeat(random.pick([255, 65_000])),
    name.slice(0, -1),
    name.replace(/^[^/]+/, 'other'),
  ]);
}

/** Whether this can be read: an earlier change may have left no archive of it. */
function isZip(bytes) {
  try {
    readZip(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Changes to one file of an archive, by what is in it. */
function changeContent(random, files, done, contents) {
  const kinds = [
    ...[/\.json$/, /\.json$/, /\.pkl$/, /\.pkl$/, /\.py$/, /\.py$/],
    ...[/\.npy$/, /\.pt$/, /(?:data|constants)\/\d+$/, /./],
  ];
  const kind = random.pick(kinds);
  const fitting = files.filter(({ name }) => kind.test(name));
  if (fitting.length === 0) return;
  const file = random.pick(fitting);
  if (file.data.length > MOST_STRUCTURED) {
    done.push(`large ${file.name.split('/').at(-1)}`);
    file.data = mutateBytes(random, file.data, file.data, done);
  } else if (file.name.endsWith('.pkl')) {
    done.push(`pickle of ${file.name.split('/').at(-1)}`);
    file.data = changePickle(random, file.data, done);
  } else if (file.name.endsWith('.py')) {
    done.push('code');
    file.data = Buffer.from(changeCode(random, Buffer.from(file.data).toString(), done));
  } else if (file.name.endsWith('.json')) {
    done.push('code');
    file.data = changeJson(random, file.data, done);
  } else if (file.name.endsWith('.pt') && isZip(file.data)) {
    done.push('archive in it');
    file.data = mutateZip(random, file.data, done, contents);
  } else if (file.name.endsWith('.npy')) {
    done.push('npy');
    file.data = changeNpy(random, file.data);
  } else {
    done.push(`record ${file.name.split('/').at(-1)}`);
    file.data = mutateBytes(random, file.data, file.data, done);
  }
}

const SPLITS = /([A-Za-z_]\w*|\d+(?:\.\d+)?(?:e[+-]?\d+)?|"[^"\n]*"|[^\s\w])/;
/** Expressions that go deep, in TorchScript's Python. */
const deep = (random) => {
  const depth = random.pick([10, 300, 3000, 20_000]);
  return random.pick([
    () => `${'('.repeat(depth)}1${')'.repeat(depth)}`,
    () => `${'['.repeat(depth)}1${']'.repeat(depth)}`,
    () => `${'-'.repeat(depth)}1`,
    () => `${'not '.repeat(depth)}True`,
    () => Array(depth).fill('1').join('+'),
    () => `${'List['.repeat(depth)}int${']'.repeat(depth)}`,
    () => `x${'.a'.repeat(depth)}`,
    () => `x${'[0]'.repeat(depth)}`,
    () => `${'torch.neg('.repeat(depth)}1${')'.repeat(depth)}`,
  ])();
};
const STATEMENTS = [
  'return self',
  'x = self.forward(1)',
  'raise AssertionError("x" * 100)',
  'ops.prim.RaiseException("no", "builtins.ValueError")',
  'a = [[]]',
  'assert False',
  'pass',
  'global x',
  'lambda: 0',
];

function changeCode(random, text, done) {
  const lines = text.split('\n');
  if (random.chance(0.25)) {
    const at = random.below(lines.length);
    const indent = /^\s*/.exec(lines[at])[0];
    const [name, change] = random.pick([
      ['line dropped', () => lines.splice(at, 1)],
      ['line twice', () => lines.splice(at, 0, lines[random.below(lines.length)])],
      ['statement', () => lines.splice(at, 0, indent + random.pick(STATEMENTS))],
      ['indent', () => (lines[at] = ' '.repeat(random.pick([0, 1, 2, 4, 1000])) + lines[at].trim())],
      ['nesting', () => lines.splice(at, 1, ...nested(random.pick([5, 100, 1000]), indent, lines[at].trim()))],
    ]);
    done.push(name);
    change();
    return lines.join('\n');
  }
  const tokens = text.split(SPLITS);
  const at = 1 + 2 * random.below(Math.max(1, tokens.length >> 1));
  if (tokens[at] === undefined) return text;
  const isNumber = /^\d/.test(tokens[at]);
  const [name, change] = random.pick([
    ['token dropped', () => ''],
    ['token twice', () => `${tokens[at]} ${tokens[at]}`],
    ['token of another place', () => tokens[1 + 2 * random.below(tokens.length >> 1)] ?? ''],
    ['number', () => String(random.integer(isNumber ? Math.trunc(Number(tokens[at])) || 0 : 0))],
    ['deep', () => deep(random)],
  ]);
  done.push(name);
  tokens[at] = change();
  return tokens.join('');
}

function nested(depth, indent, line) {
  const lines = Array.from({ length: depth }, (_, i) => `${indent}${' '.repeat(i)}if True:`);
  return [...lines, `${indent}${' '.repeat(depth)}${line}`];
}

function changePickle(random, bytes, done) {
  let pickle;
  try {
    pickle = readOperations(bytes);
  } catch {
    return mutateBytes(random, bytes, bytes, done); // broken by a change before this one
  }
  changeOperations(random, pickle.operations, done);
  return Buffer.concat([writeOperations(pickle.operations), bytes.subarray(pickle.end)]);
}

const NAMES = [
  'torch._utils\n_rebuild_tensor_v2\n',
  'torch._utils\n_rebuild_parameter\n',
  'torch._utils\n_rebuild_qtensor\n',
  'torch._tensor\n_rebuild_from_type_v2\n',
  'torch.jit._pickle\nbuild_intlist\n',
  'torch.jit._pickle\nrestore_type_tag\n',
  'collections\nOrderedDict\n',
  'torch\nDoubleStorage\n',
  'torch\nComplexDoubleStorage\n',
  'torch\nBoolStorage\n',
  'torch\nQInt8Storage\n',
  'torch\ndevice\n',
  'torch.storage\nUntypedStorage\n',
  'os\nsystem\n',
  'builtins\neval\n',
  '\n\n',
];

function changeOperations(random, operations, done) {
  const places = (ops) => operations.flatMap(({ op }, at) => (ops.includes(op) ? [at] : []));
  const anywhere = () => random.below(operations.length);
  for (let i = random.pick([1, 1, 1, 2, 4]); i > 0; i--) {
    const integers = places(INTEGERS);
    const strings = places(STRINGS);
    const [name, change] = random.pick([
      [
        'integer',
        () => {
          if (integers.length === 0) return;
          const at = random.pick(integers);
          operations[at] = pushInteger(random.integer(integerOf(operations[at])));
        },
      ],
      [
        'integer',
        () => {
          if (integers.length > 0) operations[random.pick(integers)] = pushInteger(random.integer(1));
        },
      ],
      [
        'string',
        () => {
          if (strings.length === 0) return;
          const text = random.pick([
            stringOf(operations[random.pick(strings)]),
            '',
            'x'.repeat(random.pick([300, 70_000])),
            'cuda:99',
            'meta',
            'BIG',
            '0\0',
            '../0',
            '__proto__',
          ]);
          operations[random.pick(strings)] = pushString(text);
        },
      ],
      [
        'global',
        () => {
          const globals = places('c');
          if (globals.length === 0) return;
          const other = random.chance(0.3)
            ? operations[random.pick(globals)].argument
            : Buffer.from(random.pick(NAMES));
          operations[random.pick(globals)] = operation('c', other);
        },
      ],
      [
        'memo',
        () => {
          const memos = places(MEMO);
          if (memos.length > 0) operations[random.pick(memos)] = operation('h', [random.below(256)]);
        },
      ],
      [
        'constant',
        () => (operations[anywhere()] = operation(random.pick(['N', '\x88', '\x89', ')', ']', '}', 'R', 'Q', '.']))),
      ],
      ['operation dropped', () => operations.splice(anywhere(), random.between(1, 3))],
      ['operation twice', () => operations.splice(anywhere(), 0, operations[anywhere()])],
      [
        'operations swapped',
        () => {
          const [a, b] = [anywhere(), anywhere()];
          [operations[a], operations[b]] = [operations[b], operations[a]];
        },
      ],
      ['part repeated', () => operations.splice(anywhere(), 0, ...operations.slice(anywhere()).slice(0, 200))],
      ['nesting', () => operations.splice(anywhere(), 0, ...nesting(random))],
      ['self', () => operations.splice(anywhere(), 0, ...cycle(random))],
      ['long', () => operations.splice(anywhere(), 0, operation('\x8b', [0xff, 0xff, 0xff, random.below(256)]))],
    ]);
    done.push(name);
    change();
    if (operations.length === 0) operations.push(operation('.'));
  }
}

/** Lists in lists, tuples in tuples. */
function nesting(random) {
  const depth = random.pick([10, 1000, 50_000]);
  const [open, close] = random.pick([
    [']', 'a'],
    ['(', 't'],
    ['(', 'l'],
    [')', '\x85'],
  ]);
  const opened = Array(depth).fill(operation(open));
  return open === ')'
    ? [operation(open), ...Array(depth).fill(operation(close))]
    : [...opened, ...Array(depth - 1).fill(operation(close))];
}

/** A list or dictionary that contains itself. */
function cycle(random) {
  const slot = operation('q', [250]);
  const get = operation('h', [250]);
  return random.pick([
    [operation(']'), slot, get, operation('a')],
    [operation('}'), slot, pushString('x'), get, operation('s')],
    [operation(']'), slot, operation('('), ...Array(50).fill(get), operation('e')],
  ]);
}

/** torch.save before zip archives: five pickles, then the storages. */
function mutateLegacy(random, bytes, done) {
  const pickles = [];
  let end = 0;
  for (let i = 0; i < 5; i++) {
    const pickle = readOperations(bytes, end);
    pickles.push(pickle.operations);
    end = pickle.end;
  }
  let storages = bytes.subarray(end);
  if (random.chance(0.75)) {
    done.push('pickle');
    changeOperations(random, random.pick([pickles[3], pickles[3], ...pickles]), done);
  } else {
    done.push('storages');
    storages = storages.slice();
    if (random.chance(0.5) && storages.length >= 8)
      Buffer.from(storages.buffer).writeBigInt64LE(random.integer(storages.length));
    else storages = mutateBytes(random, storages, bytes, done);
  }
  return new Uint8Array(Buffer.concat([...pickles.map(writeOperations), storages]));
}

function mutateSafetensors(random, bytes, done) {
  const length = Number(Buffer.from(bytes.buffer, bytes.byteOffset).readBigUInt64LE());
  let header = Buffer.from(bytes.subarray(8, 8 + length)).toString();
  const elements = bytes.subarray(8 + length);
  if (random.chance(0.7)) {
    const parsed = JSON.parse(header);
    const names = Object.keys(parsed).filter((name) => name !== '__metadata__');
    const entry = parsed[random.pick(names)];
    const number = () => Number(random.integer(elements.length));
    const [name, change] = random.pick([
      ['offset', () => (entry.data_offsets[random.below(2)] = number())],
      [
        'offsets',
        () => (entry.data_offsets = random.pick([[], null, [0], [number(), number()], ['0', '4'], { 0: 0, 1: 4 }])),
      ],
      [
        'dtype',
        () =>
          (entry.dtype = random.pick(['F64', 'F16', 'U8', 'BOOL', 'I64', 'F8_E4M3', 'C64', '', '__proto__', 7, null])),
      ],
      ['size', () => (entry.shape[random.below(entry.shape.length + 1)] = number())],
      [
        'shape',
        () =>
          (entry.shape = random.pick([[], null, [-1], [1.5], ['2'], Array(1000).fill(1), [2 ** 40, 2 ** 40, 0], {}])),
      ],
      [
        'name',
        () => Object.assign(parsed, { [random.pick(['__proto__', '', '__metadata__', 'x'.repeat(70_000)])]: entry }),
      ],
      ['metadata', () => (parsed.__metadata__ = random.pick([null, [], { a: 1 }, 'x', { a: { b: 'c' } }]))],
    ]);
    done.push(`header ${name}`);
    change();
    header = JSON.stringify(parsed);
  } else {
    header = Buffer.from(mutateText(random, Buffer.from(header), done)).toString();
  }
  const size = Buffer.alloc(8);
  size.writeBigInt64LE(random.chance(0.1) ? random.integer(header.length) : BigInt(Buffer.byteLength(header)));
  return new Uint8Array(Buffer.concat([size, Buffer.from(header), elements]));
}

/** JSON and what is like it. */
function mutateText(random, bytes, done) {
  const tokens = Buffer.from(bytes).toString().split(SPLITS);
  const at = 1 + 2 * random.below(Math.max(1, tokens.length >> 1));
  const depth = random.pick([100, 5000, 100_000]);
  const [name, change] = random.pick([
    ['token dropped', () => ''],
    ['token twice', () => tokens[at] + tokens[at]],
    ['token of another place', () => tokens[1 + 2 * random.below(tokens.length >> 1)] ?? ''],
    ['number', () => String(random.integer(Math.trunc(Number(tokens[at])) || 0))],
    ['number', () => random.pick(['1e999', '-0', '1e-400', 'NaN', '0x10', '00', '1.', '9'.repeat(500)])],
    ['deep', () => '['.repeat(depth) + ']'.repeat(depth)],
    ['deep', () => '{"a":'.repeat(depth)],
    ['string', () => random.pick(['"\\ud800"', '"\\u0000"', '"__proto__"', '"\\x"', '"'])],
  ]);
  done.push(`text ${name}`);
  tokens[at] = change();
  return Buffer.from(tokens.join(''));
}

/** JSON: mostly into other JSON, since a text that is none shows nothing behind the parser. */
function changeJson(random, bytes, done) {
  if (random.chance(0.25)) return mutateText(random, bytes, done);
  try {
    return editJson(random, bytes, done);
  } catch {
    return mutateText(random, bytes, done); // broken by a change before this one
  }
}

function changeNpy(random, data) {
  const text = Buffer.from(data).toString('latin1');
  const changed = random.pick([
    () => text.replace(/\d+(?=[,)])/, String(random.integer(4))),
    () =>
      text.replace(
        /'descr': '[^']*'/,
        `'descr': '${random.pick(['<f8', '>f4', '|O', '<U3', '<c8', '|b1', '<V8', ''])}'`,
      ),
    () => text.replace('False', 'True'),
    () =>
      text.replace(
        /\(.*?\)/,
        random.pick(['()', '(1e3,)', `(${'1, '.repeat(70)})`, '(-1,)', '(99999999999, 99999999999, 0)']),
      ),
    () => text.slice(0, 8) + Buffer.from(random.bytes(2)).toString('latin1') + text.slice(10),
    () => text.slice(0, random.below(text.length + 1)),
  ])();
  return Buffer.from(changed, 'latin1');
}
