import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  collectIndices,
  collectInputs,
  collectLayers,
  parseBytes,
  parseDuration,
  parsePatches,
} from '../../lib/cli/selection';
import { formatTable } from '../../lib/cli/table';
import type { Entry } from '../../lib/formats/entry';
import { readSafetensors, writeSafetensors } from '../../lib/formats/safetensors';
import { readInputs } from '../../lib/io/input-files';
import { arrangeInputs, describeOrder, type Parameter } from '../../lib/io/parameters';
import { buildTextInputs } from '../../lib/text/text-inputs';
import { TextTokenizer, withDecoderStart } from '../../lib/text/tokenizer';
import { refuseTooLarge } from '../../lib/view/page-budget';
import type { ViewData } from '../../lib/view/view-data';
import { program } from './archive-edits';

const ROOT = join(__dirname, '../..');
const FIXTURES = join(ROOT, 'test/fixtures/cli');
const MODEL = join(FIXTURES, 'text.pt');
const TOKENIZER = join(FIXTURES, 'tokenizer.json');
const folder = mkdtempSync(join(tmpdir(), 'cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, NO_COLOR: '1' };
  return spawnSync(process.execPath, [join(ROOT, 'dist/cli/main.js'), ...args], { encoding: 'utf8', env, cwd: folder });
}

function write(name: string, content: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

const parameter = (name: string, type = 'Tensor', optional = false): Parameter => ({ name, type, optional });

const entry = (name: string): Entry => ({ name, dtype: 'int64', shape: [1], data: BigInt64Array.of(1n) });
const [a, b] = [entry('a'), entry('b')] as const;

const ids = () => write('ids.json', { attention_mask: [[1, 1, 1, 0]], input_ids: [[2, 4, 5, 3]] });
const text = ['--tokenizer', TOKENIZER, '--text'] as const;
/** What `view` says of the inputs that it makes of a text. */
const GIVEN = 'inputs: input_ids: token ids, attention_mask: ones\n';

describe('collectLayers', () => {
  test('layers are names, regular expressions and positions, with commas or repeated', () => {
    const layers = collectLayers('/layer\\.[0,2]\\b/i,-2', collectLayers('encoder.layer.0,3'));
    expect(layers).toEqual(['encoder.layer.0', 3, /layer\.[0,2]\b/i, -2]);
    expect(() => collectLayers('/(/')).toThrow(/Invalid regular expression/);
    expect(() => collectLayers('')).toThrow(/Expected a module name/);
  });
});

describe('collectIndices', () => {
  test('indices are numbers and ranges', () => {
    expect(collectIndices('0:3', collectIndices('3,5'))).toEqual([3, 5, 0, 1, 2]);
    for (const wrong of ['x', '-1', '2:2', '1:', '', '1.5']) expect(() => collectIndices(wrong)).toThrow(/Expected/);
  });
});

describe('arrangeInputs', () => {
  test('go by name where all names match', () => {
    expect(arrangeInputs([a, b], [parameter('b'), parameter('a')])).toEqual([b, a]);
    const optional = parameter('mask', 'Optional[Tensor]', true);
    expect(arrangeInputs([b, a], [parameter('a'), optional, parameter('b'), optional])).toEqual([a, null, b]);
    expect(() => arrangeInputs([b], [parameter('a'), parameter('b')])).toThrow(
      /an input 'a' \(Tensor\) but received 'b' only/,
    );
  });
});

describe('describeOrder', () => {
  test('go in file order where a name differs, which is said', () => {
    const parameters = [parameter('b'), parameter('x')];
    expect(arrangeInputs([a, b], parameters)).toEqual([a, b]);
    expect(describeOrder([a, b], parameters)).toMatch(/forward\(b, x\) in file order: it has no parameter a/);
    expect(describeOrder([entry('0'), entry('arr_1')], parameters)).toBeUndefined();
  });
});

describe('readInputs', () => {
  test('are refused where they cannot be read', async () => {
    await expect(readInputs('x.txt')).rejects.toThrow(/\.safetensors, \.npz or \.json file but received x\.txt/);
    await expect(readInputs(join(folder, 'none.json'))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/readable file.*none\.json/),
    });
    await expect(readInputs(write('empty.json', {}))).rejects.toThrow(/at least one tensor/);
  });
});

describe('TextTokenizer', () => {
  test("are encoded as Hugging Face's own tokenizers do it, without a tokenizer_config.json", async () => {
    const tokenizer = await TextTokenizer.load(TOKENIZER);
    const expected = JSON.parse(readFileSync(join(FIXTURES, 'encoded.json'), 'utf8')) as {
      text: string;
      ids: number[];
      tokens: string[];
    }[];
    expect(expected).toHaveLength(2);
    for (const { text, ids, tokens } of expected) expect(tokenizer.encode(text)).toMatchObject({ ids, tokens });
  });

  test('come in pairs, whose segments the model is told', async () => {
    const definition = JSON.parse(readFileSync(TOKENIZER, 'utf8'));
    const [begin, first, end] = definition.post_processor.single;
    const of = (part: object, id: string) => JSON.parse(JSON.stringify(part).replace(/"A"/, `"${id}"`));
    const second = { Sequence: { ...of(first, 'B').Sequence, type_id: 1 } };
    const last = { SpecialToken: { ...end.SpecialToken, type_id: 1 } };
    definition.post_processor.pair = [begin, first, end, second, last];
    const tokenizer = await TextTokenizer.load(write('pairs.json', definition));
    const { typeIds, tokens } = tokenizer.encode('the cat', 'the dog sat');
    expect(tokens).toEqual(['[CLS]', 'the', 'cat', '[SEP]', 'the', 'dog', 'sat', '[SEP]']);
    expect(typeIds).toEqual([0, 0, 0, 0, 1, 1, 1, 1]);
  });

  test('need a tokenizer that is one', async () => {
    await expect(TextTokenizer.load(write('t.json', {}))).rejects.toThrow(/fast tokenizer but .*t\.json can't be used/);
    await expect(TextTokenizer.load(join(folder, 'missing.json'))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });
});

describe('buildTextInputs', () => {
  const text = { ids: [2, 4, 3], typeIds: [0, 0, 0], tokens: ['a', 'b', 'c'], sources: {} };
  const decoder = { ids: [7], typeIds: [0], tokens: ['x'], sources: {} };
  const values = ({ inputs }: { inputs: Entry[] }) =>
    inputs.map(({ name, data }) => `${name}=${Array.from(data as Iterable<unknown>).join('')}`);
  const built = (...parameters: Parameter[]) => values(buildTextInputs(parameters, text));
  const asks = (...parameters: Parameter[]) => expect(() => buildTextInputs(parameters, text));

  test('gives parameters what their names ask for', () => {
    expect(built(parameter('input_ids'), parameter('token_type_ids'), parameter('attention_mask'))).toEqual([
      'input_ids=243',
      'token_type_ids=000',
      'attention_mask=111',
    ]);
    expect(built(parameter('input_ids'), parameter('labels', 'Optional[Tensor]', true))).toEqual(['input_ids=243']);
    expect(values(buildTextInputs([parameter('input_ids'), parameter('decoder_input_ids')], text, decoder))).toEqual([
      'input_ids=243',
      'decoder_input_ids=7',
    ]);
  });

  test('goes by position where tracing made up the names, and says so', () => {
    expect(built(parameter('x'), parameter('argument_2'))).toEqual(['x=243', 'argument_2=111']);
    expect(built(parameter('argument_1'), parameter('argument_2'), parameter('argument_3'))).toEqual([
      'argument_1=243',
      'argument_2=111',
      'argument_3=000',
    ]);
    expect(built(parameter('position_ids'), parameter('x'))).toEqual(['position_ids=012', 'x=243']);
    expect(built(parameter('sequence'))).toEqual(['sequence=243']);
    const { given } = buildTextInputs([parameter('words'), parameter('argument_2'), parameter('positions')], text);
    expect(given).toEqual(['words: token ids (by position)', 'argument_2: ones (by position)', 'positions: positions']);
  });

  test.each([
    'segments',
    'token_types',
    'labels',
    'src_key_padding_mask',
    'head_mask',
    'global_attention_mask',
    'bias',
  ])('asks for a parameter that it knows nothing of: %s', (name) => {
    asks(parameter('input_ids'), parameter('attention_mask'), parameter(name)).toThrow(
      `also asks for '${name}' (Tensor), which a text says nothing about; say what it is: --input ${name}=zeros (or ones`,
    );
    const own = { ...entry(name), shape: [1, 3] };
    const { inputs, given } = buildTextInputs(
      [parameter('input_ids'), parameter(name)],
      text,
      undefined,
      new Map([[name, own]]),
    );
    expect([inputs[1], given]).toEqual([own, ['input_ids: token ids', `${name}: --input`]]);
  });

  test('asks for all that is missing at once, and for files where it is no tensor', () => {
    asks(parameter('input_ids'), parameter('a'), parameter('b')).toThrow(
      /'a' \(Tensor\), 'b' \(Tensor\), .* say what they are: --input a=zeros --input b=zeros/,
    );
    asks(parameter('input_ids'), parameter('past_key_values', 'List[Tensor]')).toThrow(
      /'past_key_values' \(List\[Tensor\]\), .*; give all inputs with --inputs$/,
    );
    asks(parameter('input_ids'), parameter('argument_2', 'int')).toThrow(/'argument_2' \(int\)/);
  });

  test("takes a decoder's text where there is a decoder, and only there", () => {
    asks(parameter('input_ids'), parameter('decoder_input_ids')).toThrow(/--decoder-text/);
    expect(() => buildTextInputs([parameter('input_ids'), parameter('attention_mask')], text, decoder)).toThrow(
      /a model with a decoder for --decoder-text but received one whose forward takes input_ids, attention_mask/,
    );
  });
});

describe('withDecoderStart', () => {
  test("are a decoder's behind its start, without their end", async () => {
    const tokenizer = await TextTokenizer.load(TOKENIZER);
    const encoded = tokenizer.encode('the cat');
    const { ids, tokens } = withDecoderStart(encoded, 0, '[PAD]');
    expect(tokens).toEqual(['[PAD]', '[CLS]', 'the', 'cat']);
    expect(ids).toEqual([0, ...encoded.ids.slice(0, -1)]);
  });
});

describe('collectInputs, parseBytes and parsePatches', () => {
  test('leave to --input what it names', () => {
    const given = collectInputs('segments=zeros', collectInputs('scale=0.5,2'));
    expect(given).toEqual([
      { name: 'scale', values: [0.5, 2] },
      { name: 'segments', values: 'zeros' },
    ]);
    for (const wrong of ['x', '=1', 'x=', 'x=a']) expect(() => collectInputs(wrong)).toThrow(/NAME=zeros/);
    expect(parseBytes('20MB')).toBe(20_000_000);
    expect(parseBytes('1.5 GiB')).toBe(1.5 * 2 ** 30);
    for (const wrong of ['', 'x', '0', '1TB', '-1MB']) expect(() => parseBytes(wrong)).toThrow(/a size like 20MB/);
    expect(parsePatches('14x16')).toEqual([14, 16]);
    expect(() => parsePatches('14')).toThrow(/like 14x14/);
  });
});

describe('formatTable', () => {
  test('tables align words left and numbers right', () => {
    expect(
      formatTable(
        ['name', 'n'],
        [
          ['東京', 1200],
          ['a', 3],
        ],
      ),
    ).toBe('name      n\n東京  1,200\na         3');
  });
});

describe('libtorch-attention', () => {
  test.each(['inspect', 'capture', 'view'])('%s --help has examples', (command) => {
    const { status, stdout } = run(command, '--help');
    expect(status).toBe(0);
    expect(stdout).toContain(`Examples:\n  libtorch-attention ${command} `);
  });

  test('knows its version', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    expect(run('--version').stdout).toBe(`${version}\n`);
  });

  test('an error is one line with its code, and with --verbose where it comes from', () => {
    const args = ['view', MODEL, '--tokenizer', join(folder, 'none.json'), '--text', 'x'];
    const { status, stderr } = run(...args);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^error: Expected .*none\.json.* \[ERR_INVALID_ARGUMENT\]\n$/);
    expect(run('--verbose', ...args).stderr).toMatch(/\n {4}at /);
  });

  test('a model that is none, and options that contradict each other', () => {
    expect(run('inspect', TOKENIZER).stderr).toMatch(/^error: .* \[ERR_UNSUPPORTED_FILE\]\n$/);
    expect(run('view', MODEL).stderr).toMatch(/either --text .* or --inputs but received neither \[ERR_INVALID/);
    expect(run('view', MODEL, '--text', 'x').stderr).toMatch(/Expected --tokenizer/);
    expect(run('capture', MODEL, '--inputs', ids()).stderr).toMatch(/required option '--out <file>'/);
    expect(run('capture', MODEL, '--out', 'x').stderr).toMatch(/either --text .* or --inputs but received neither/);
    expect(run('capture', MODEL, '--out', 'x', ...text, 'a', '--inputs', ids()).stderr).toMatch(/but received both/);
    expect(run('capture', MODEL, '--out', 'x', '--text', 'a').stderr).toMatch(/Expected --tokenizer/);
    expect(run('capture', MODEL, '--out', 'x', '--inputs', ids(), '--text-pair', 'a').stderr).toMatch(
      /--text with --text-pair/,
    );
    const { status, stderr } = run('capture', MODEL, '--inputs', 'x.json', '--out', 'y', '--heads', 'all');
    expect([status, stderr]).toEqual([1, expect.stringMatching(/Expected numbers like 3 .* but received 'all'/)]);
  });
});

describe('parseDuration', () => {
  test('times have a unit', () => {
    expect(['500ms', '30s', '1.5 min', '2h', '0s'].map(parseDuration)).toEqual([500, 30_000, 90_000, 7_200_000, 0]);
    for (const wrong of ['', '5', 's', '-1s', '5 days', '1e3s']) {
      expect(() => parseDuration(wrong)).toThrow(`a time like 500ms, 30s or 5min but received '${wrong}'`);
    }
  });
});

// One model for each thing that can be wrong with it, each tried by every command that loads one.
describe.each<[string, (model: string) => string[]]>([
  ['inspect', (model) => ['inspect', model, '--inputs', ids()]],
  ['capture', (model) => ['capture', model, '--inputs', ids(), '--out', 'options.safetensors']],
  ['view', (model) => ['view', model, ...text, 'the cat', '--out', 'options.html']],
  ['view --serve', (model) => ['view', model, '--tokenizer', TOKENIZER, '--serve']],
])('libtorch-attention %s', (name, command) => {
  const archive = (file: string, bytes: Uint8Array): string => {
    const path = join(folder, file);
    writeFileSync(path, bytes);
    return path;
  };
  const ended = (model: string, ...options: string[]) => {
    const { status, stderr } = run(...command(model), ...options);
    return [status, /\[(ERR_\w+)\]\n$/.exec(stderr)?.[1] ?? stderr];
  };

  test('--untrusted refuses a model that could do more than compute, ahead of anything that it does', () => {
    const path = join(folder, 'written');
    const model = archive('writes.pt', program(`torch.save(x, "${path}")\nreturn x`));
    expect(ended(model, '--untrusted')).toEqual([1, 'ERR_UNTRUSTED']);
    expect(existsSync(path)).toBe(false);
  });

  test('--verify refuses a model whose weights changed', () => {
    const bytes = readFileSync(MODEL);
    const at = bytes.indexOf('text/data/0') + 200;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    const model = archive('flipped.pt', bytes);
    expect(ended(model, '--verify')).toEqual([1, 'ERR_MODEL_LOAD']);
    if (name !== 'inspect') return;
    expect(ended(model, '--untrusted')).toEqual([1, 'ERR_MODEL_LOAD']);
    expect(ended(model)).toEqual([0, '']);
  });

  test('--time-limit ends what takes longer, and is a time', () => {
    expect(ended(MODEL, '--time-limit', '0ms')).toEqual([1, 'ERR_TIME_LIMIT']);
    if (name !== 'inspect') return;
    expect(run(...command(MODEL), '--time-limit', '5').stderr).toMatch(/a time like 500ms, .* received '5'/);
    expect(ended(MODEL, '--untrusted', '--time-limit', 'none', '--memory-limit', '1GB')).toEqual([0, '']);
  });

  if (name === 'view --serve') return;
  test('--memory-limit ends a run that holds more', () => {
    expect(ended(MODEL, '--memory-limit', '10B')).toEqual([1, 'ERR_MEMORY_LIMIT']);
  });
});

describe('libtorch-attention inspect', () => {
  test('inspect: modules, parameters, forward, attention', () => {
    const { stdout } = run('inspect', MODEL, '--inputs', ids());
    expect(stdout).toContain('text.pt: 1,092 parameters, all float32');
    expect(stdout).toContain('  attention_mask: Optional[Tensor] (optional)\n) -> Tensor');
    expect(stdout).toMatch(/\n {4}1 +SelfAttention +468\n {6}projections +Linear +468\n/);
    expect(stdout).toMatch(/\n1 +layers\.1 +scaled_dot_product_attention +\[1, 3, 4, 4\]\n/);
    const inspection = JSON.parse(run('inspect', MODEL, '--json').stdout) as Record<string, unknown>;
    expect(inspection).toMatchObject({ parameters: 1092, dtypes: { float32: 1092 }, forward: { returns: 'Tensor' } });
    expect(inspection.modules).toContainEqual({ name: 'layers.0', type: 'SelfAttention', parameters: 468 });
  });

  test.each([
    ['ChosenLogits', 0],
    ['SigmoidOfMadeMatrices', 1],
  ])('inspect of %s: everything but attentions, and what looks like one', (form, unseen) => {
    const x = Array.from({ length: 2 }, () => Array.from({ length: 6 }, () => new Array<number>(16).fill(0.5)));
    const model = join(ROOT, 'test/fixtures/forms', `${form}.pt`);
    const inputs = write(`${form}.json`, { x });
    const { status, stdout } = run('inspect', model, '--inputs', inputs);
    expect(status).toBe(0);
    expect(stdout).toMatch(/\n {2}attention +\w+ +[\d,]+\n/);
    expect(stdout).toContain('No attention was seen in this run.');
    expect(stdout.includes('not recorded: module')).toBe(unseen > 0);
    const inspection = JSON.parse(run('inspect', model, '--inputs', inputs, '--json').stdout) as Record<
      string,
      unknown
    >;
    expect(inspection).toMatchObject({ attentionSites: [], unseen: { length: unseen } });
  });
});

describe('libtorch-attention capture', () => {
  test('capture: attentions, output and metadata in one file', async () => {
    const out = join(folder, 'attention.safetensors');
    const { status, stdout, stderr } = run('capture', MODEL, '--inputs', ids(), '--out', out);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^layers\.0, head 0\n/);
    expect(stdout).toMatch(/[░▒▓█]{2}/);
    expect(stdout).toMatch(/2 attentions and the output are in /);
    const { entries, metadata } = await readSafetensors(out);
    expect(entries.map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual([
      ['output', 'float32', [1, 4, 12]],
      ['attentions.0', 'float32', [1, 3, 4, 4]],
      ['attentions.1', 'float32', [1, 3, 4, 4]],
    ]);
    expect(JSON.parse(metadata?.['attentions.1'] ?? '')).toEqual({
      name: 'layers.1',
      operator: 'scaled_dot_product_attention',
      path: [],
      kind: 'softmax',
      headsKnown: true,
      heads: [0, 1, 2],
      queries: [0, 1, 2, 3],
      shape: [1, 3, 4, 4],
    });
    const weights = entries[1]?.data as Float32Array;
    for (let row = 0; row < 12; row++) {
      const [first, second, third, padding] = weights.subarray(row * 4, row * 4 + 4) as unknown as number[];
      expect((first as number) + (second as number) + (third as number)).toBeCloseTo(1, 5);
      expect(padding).toBe(0);
    }
  });

  test('capture: a selection is that part of the whole', async () => {
    const [whole, part] = [join(folder, 'whole.safetensors'), join(folder, 'part.safetensors')];
    run('capture', MODEL, '--inputs', ids(), '--out', whole);
    const options = ['--layers', '-1', '--heads', '2', '--queries', '1:3', '--top-k', '2'];
    expect(run('capture', MODEL, '--inputs', ids(), '--out', part, ...options).stderr).toBe('');
    const all = (await readSafetensors(whole)).entries.find(({ name }) => name === 'attentions.1')
      ?.data as Float32Array;
    const { entries, metadata } = await readSafetensors(part);
    expect(JSON.parse(metadata?.['attentions.1'] ?? '')).toMatchObject({ heads: [2], queries: [1, 2] });
    expect(metadata).not.toHaveProperty('attentions.0');
    const weights = entries.find(({ name }) => name === 'attentions.1');
    const keys = entries.find(({ name }) => name === 'attentions.1.keys')?.data as BigInt64Array;
    expect(weights?.shape).toEqual([1, 1, 2, 2]);
    keys.forEach((key, i) => {
      const row = 2 * 4 + 1 + Math.floor(i / 2);
      expect(weights?.data[i]).toBeCloseTo(all[row * 4 + Number(key)] as number, 6);
    });
  });

  test('capture: scores, sums and no weights', async () => {
    const [whole, sums] = [join(folder, 'scores.safetensors'), join(folder, 'sums.safetensors')];
    const asked = ['--scores', '--log-sum-exp', '--statistics', 'received,entropy'];
    expect(run('capture', MODEL, '--inputs', ids(), '--out', whole, ...asked).stderr).toBe('');
    const result = run('capture', MODEL, '--inputs', ids(), '--out', sums, ...asked.slice(1), '--no-weights');
    expect([result.stderr, result.stdout]).toEqual(['', expect.stringMatching(/^attention +module/)]);
    const all = (await readSafetensors(whole)).entries;
    const some = (await readSafetensors(sums)).entries;
    const shapes = (entries: typeof all) =>
      Object.fromEntries(entries.filter(({ name }) => /\.1\b/.test(name)).map(({ name, shape }) => [name, shape]));
    const ofSums = {
      'attentions.1.logSumExp': [1, 3, 4],
      'attentions.1.received': [1, 3, 4],
      'attentions.1.entropy': [1, 3, 4],
    };
    expect(shapes(all)).toEqual({ 'attentions.1': [1, 3, 4, 4], 'attentions.1.scores': [1, 3, 4, 4], ...ofSums });
    expect(shapes(some)).toEqual(ofSums);
    const data = (entries: typeof all, name: string) =>
      entries.find((each) => each.name === name)?.data as Float32Array;
    const [weights, scores, logs] = ['attentions.1', 'attentions.1.scores', 'attentions.1.logSumExp'].map((name) =>
      data(all, name),
    ) as [Float32Array, Float32Array, Float32Array];
    weights.forEach((weight, i) => {
      expect(Math.exp((scores[i] as number) - (logs[Math.floor(i / 4)] as number))).toBeCloseTo(weight, 6);
    });
    for (const name of Object.keys(ofSums)) expect(data(some, name)).toEqual(data(all, name));
    expect(run('view', sums).stderr).toMatch(/captured without them \(--no-weights\) \[ERR_INVALID/);
    expect(run('capture', MODEL, '--inputs', ids(), '--out', sums, '--statistics', 'mean').stderr).toMatch(
      /received 'mean'/,
    );
    expect(run('capture', MODEL, '--inputs', ids(), '--out', sums, '--no-weights').stderr).toMatch(
      /beside weights: false/,
    );
  });

  test('capture: weights in fewer bytes, in one pass, which view reads', async () => {
    const whole = join(folder, 'float32.safetensors');
    run('capture', MODEL, '--inputs', ids(), '--out', whole);
    const read = async (path: string) => {
      const { entries, metadata } = await readSafetensors(path);
      const entry = entries.find(({ name }) => name === 'attentions.1');
      return { ...entry, scale: JSON.parse(metadata?.['attentions.1'] as string).scale };
    };
    const exact = (await read(whole)).data as Float32Array;
    for (const [dtype, type, scale] of [
      ['float16', 'float16', undefined],
      ['uint8-linear', 'uint8', 'linear'],
      ['uint8-log', 'uint8', 'log'],
    ]) {
      const out = join(folder, `${dtype}.safetensors`);
      const options = ['--dtype', dtype as string, '--no-exact'];
      expect(run('capture', MODEL, '--inputs', ids(), '--out', out, ...options).stderr).toBe('');
      expect(await read(out)).toMatchObject({ dtype: type, shape: [1, 3, 4, 4], scale });
      expect(run('view', out, '--out', join(folder, 'out.html'))).toMatchObject({ status: 0 });
    }
    const { data } = await read(join(folder, 'uint8-linear.safetensors'));
    exact.forEach((weight, i) => {
      expect(Math.abs(Number(data?.[i]) / 255 - weight)).toBeLessThan(1 / 509);
    });
    expect(run('capture', MODEL, '--inputs', ids(), '--out', whole, '--dtype', 'int8').stderr).toMatch(
      /Expected float32, same, float16, uint8-linear, uint8-log but received 'int8'/,
    );
  });

  test('capture: a text gives what its tokens give as inputs', async () => {
    const [one, two] = [join(folder, 'text.safetensors'), join(folder, 'tokens.safetensors')];
    const tokens = write('tokens.json', {
      input_ids: [(await TextTokenizer.load(TOKENIZER)).encode('the cat sat').ids],
      attention_mask: [[1, 1, 1, 1, 1]],
    });
    expect(run('capture', MODEL, ...text, 'the cat sat', '--out', one)).toMatchObject({ status: 0, stderr: GIVEN });
    expect(run('capture', MODEL, '--inputs', tokens, '--out', two)).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(one).equals(readFileSync(two))).toBe(true);
    const segments = ['capture', join(FIXTURES, 'segments.pt'), ...text, 'the cat', '--out', one];
    expect(run(...segments).stderr).toMatch(/--input segments=zeros/);
    expect(run(...segments, '--input', 'segments=zeros').status).toBe(0);
  });

  test('capture: every format of inputs gives the same', async () => {
    const path = join(folder, 'ids.safetensors');
    await writeSafetensors(path, [
      { name: 'attention_mask', dtype: 'int64', shape: [1, 4], data: BigInt64Array.of(1n, 1n, 1n, 0n) },
      { name: 'input_ids', dtype: 'int64', shape: [1, 4], data: BigInt64Array.of(2n, 4n, 5n, 3n) },
    ]);
    const [one, two] = [join(folder, 'one.safetensors'), join(folder, 'two.safetensors')];
    run('capture', MODEL, '--inputs', path, '--out', one);
    run('capture', MODEL, '--inputs', ids(), '--out', two);
    expect(readFileSync(one).equals(readFileSync(two))).toBe(true);
  });
});

describe('libtorch-attention view', () => {
  test('view: texts become one page', () => {
    const texts = ['--text', 'The cats sat on the mat.', '--text', 'dog ran </script>'];
    const { status, stdout, stderr } = run('view', MODEL, '--tokenizer', TOKENIZER, ...texts, '--out', 'page.html');
    expect([status, stderr]).toEqual([0, GIVEN]);
    expect(stdout).toMatch(/^page\.html: 4 attentions, \d+\.\d MB\n$/);
    const html = readFileSync(join(folder, 'page.html'), 'utf8');
    const [, json] = /<script type="application\/json" id="view-data">(.*?)<\/script>/s.exec(html) ?? [];
    const data = JSON.parse(json ?? '') as { examples: { title: string; tokens: string[][]; attentions: object[] }[] };
    expect(data.examples[0]).toMatchObject({
      title: 'The cats sat on the mat.',
      tokens: [['[CLS]', 'the', 'cat', '##s', 'sat', 'on', 'the', 'mat', '.', '[SEP]']],
    });
    expect(data.examples[1]?.attentions[1]).toMatchObject({
      name: 'layers.1',
      heads: [0, 1, 2],
      queryTokens: 0,
      keyTokens: 0,
    });
    expect(html.match(/<\/script/g)).toHaveLength(6);
  });

  test("view: inputs of one's own, with labels, with a tokenizer, or with positions", () => {
    const batch = write('batch.json', {
      input_ids: [
        [2, 4, 3],
        [2, 9, 3],
      ],
    });
    const tokensOf = (...args: string[]) => {
      const { stderr } = run('view', MODEL, '--inputs', batch, ...args);
      expect(stderr).toBe('');
      expect(existsSync(join(folder, 'attention.html'))).toBe(true);
      const [, json] =
        /id="view-data">(.*?)<\/script>/s.exec(readFileSync(join(folder, 'attention.html'), 'utf8')) ?? [];
      return (JSON.parse(json ?? '') as { examples: { tokens: string[][] }[] }).examples.map(({ tokens }) => tokens);
    };
    expect(tokensOf()).toEqual([[], []]);
    expect(tokensOf('--tokens', write('labels.json', ['a', 'b', 'c']))).toEqual([[['a', 'b', 'c']], [['a', 'b', 'c']]]);
    expect(tokensOf('--tokenizer', TOKENIZER)).toEqual([[['[CLS]', 'the', '[SEP]']], [['[CLS]', 'dog', '[SEP]']]]);
  });

  const pageData = (path = 'attention.html') => {
    const [, json] = /id="view-data">(.*?)<\/script>/s.exec(readFileSync(join(folder, path), 'utf8')) ?? [];
    return JSON.parse(json ?? '') as ViewData;
  };

  test('view: a capture is shown as it is: parts, means, the strongest keys', () => {
    const [whole, top] = [join(folder, 'v.safetensors'), join(folder, 'top.safetensors')];
    run('capture', MODEL, '--inputs', ids(), '--out', whole);
    const labels = write('four.json', ['a', 'b', 'c', 'd']);
    expect(run('view', whole, '--tokens', labels).stdout).toMatch(/^attention\.html: 2 attentions/);
    expect(pageData().examples[0]).toMatchObject({
      title: 'v.safetensors',
      tokens: [['a', 'b', 'c', 'd']],
      attentions: [{ label: 'layer 0', rows: 4, columns: 4 }, { label: 'layer 1' }],
    });
    const options = ['--layers', '1', '--heads', '2', '--queries', '1,3', '--top-k', '2'];
    run('capture', MODEL, '--inputs', ids(), '--out', top, ...options);
    expect(run('view', top).stderr).toBe('');
    expect(pageData().examples[0]?.attentions).toMatchObject([
      { heads: [2], queries: [1, 3], rows: 2, columns: 4, capturedTopK: 2 },
    ]);
    expect(run('view', top, '--heads', '0').stderr).toMatch(/no --heads with a capture/);
    expect(run('view', top, '--memory-limit', '1GB').stderr).toMatch(/no --memory-limit with a capture/);
    expect(run('view', whole, '--tokens', write('two.json', ['a', 'b'])).stderr).toMatch(
      /a token for each position of 'v\.safetensors', 4, but received 2/,
    );
    const none = write('none.safetensors', '');
    expect(run('view', none).stderr).toMatch(/^error: .*ERR_INVALID_ARGUMENT\]\n$/);
  });

  test('view: what is asked for is what is captured', () => {
    const { stderr } = run(
      'view',
      MODEL,
      ...text,
      'the cat sat',
      '--queries',
      '1:3',
      '--average-heads',
      '--layers',
      '-1',
    );
    expect(stderr).toBe(GIVEN);
    expect(pageData().examples[0]?.attentions).toMatchObject([{ averaged: true, queries: [1, 2], label: 'layer 1' }]);
    run('view', MODEL, ...text, 'the cat sat', '--top-k', '2', '--heads', '1');
    expect(pageData().examples[0]?.attentions[0]).toMatchObject({ capturedTopK: 2, heads: [1] });
    run('view', MODEL, ...text, 'the cat sat', '--rollout');
    expect(pageData().examples[0]?.attentions.map(({ label }) => label)).toEqual(['layer 0', 'layer 1', 'rollout']);
  });

  test('view: two texts, or two models, open as a comparison', () => {
    run('view', MODEL, ...text, 'the cat sat', '--text', 'the dog sat', '--compare');
    expect(pageData()).toMatchObject({ compare: true, examples: [{ title: 'the cat sat' }, { title: 'the dog sat' }] });
    const whole = join(folder, 'other.safetensors');
    run('capture', MODEL, '--inputs', ids(), '--out', whole);
    const { stderr } = run('view', MODEL, ...text, 'the cat', '--against', MODEL);
    expect(stderr).toBe(GIVEN.repeat(2));
    expect(pageData().examples.map(({ title }) => title)).toEqual(['text.pt: the cat', 'text.pt: the cat']);
    expect(run('view', MODEL, ...text, 'the cat', '--compare').stderr).toMatch(/at least two texts with --compare/);
  });

  test('view: what a text says nothing about is asked for, and can be said', () => {
    const segments = join(FIXTURES, 'segments.pt');
    const asked = run('view', segments, ...text, 'the cat');
    expect([asked.status, asked.stderr]).toEqual([
      1,
      expect.stringMatching(/'segments' .*--input segments=zeros.*\[ERR_I/),
    ]);
    const { status, stderr } = run('view', segments, ...text, 'the cat', '--input', 'segments=zeros');
    expect([status, stderr]).toEqual([0, 'inputs: input_ids: token ids, attention_mask: ones, segments: --input\n']);
  });

  test('view: a text that is too long is said to be so', () => {
    const model = join(FIXTURES, 'positions_script.pt');
    const { status, stderr } = run('view', model, ...text, 'the cat sat on the mat and the dog sat on the mat');
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/^error: Expected at most 8 tokens but received 1\d in/m),
    ]);
  });

  const nowhere = join('none', 'x');
  test.each([
    [['view', MODEL, ...text, 'x', '--out', nowhere]],
    [['view', MODEL, ...text, 'x', '--out', '.']],
    [['view', MODEL, ...text, 'x', '--layer', '0', '--head', '0', '--svg', nowhere]],
    [['view', MODEL, ...text, 'x', '--layer', '0', '--head', '0', '--svg', 'x.svg', '--png', nowhere]],
    [['view', MODEL, ...text, 'x', '--layer', '0', '--head', '0', '--query', '0', '--csv', nowhere]],
    [['view', MODEL, ...text, 'x', '--out', '']],
    [['capture', MODEL, '--inputs', 'none.json', '--out', nowhere]],
    [['capture', MODEL, '--inputs', 'none.json', '--out', join(TOKENIZER, 'x')]],
  ])('an output that cannot be written is an error ahead of the run: %j', (args) => {
    const { status, stderr } = run(...args);
    expect([status, stderr]).toEqual([1, expect.stringMatching(/^error: .*[pP]ath .* \[ERR_INVALID_ARGUMENT\]\n$/)]);
  });

  test('options that would be ignored are refused', () => {
    const model = join(FIXTURES, 'encoder_decoder.pt');
    const view = (...args: string[]) => run('view', MODEL, ...text, 'the cat', ...args).stderr;
    expect(view('--decoder-text', 'x')).toMatch(
      /a model with a decoder for --decoder-text .*input_ids, attention_mask/,
    );
    expect(run('view', model, ...text, 'the cat', '--decoder-text', 'dog').status).toBe(0);
    expect(view('--patches', '2x2')).toMatch(/Expected --image with --patches but received none \[ERR_INV/);
    expect(view('--port', '80')).toMatch(/Expected --serve with --port/);
    expect(view('--head', '0')).toMatch(/Expected --svg, --png or --csv with --head/);
    expect(view('--scale', 'root')).toMatch(/Expected --svg or --png with --scale/);
    expect(run('view', MODEL, '--inputs', ids(), '--text-pair', 'x').stderr).toMatch(
      /Expected --text with --text-pair/,
    );
  });

  test('view: unknown words keep what stood there', () => {
    run('view', MODEL, ...text, 'the zebra sat on the quagga.');
    const { tokens, sources } = pageData().examples[0] as ViewData['examples'][0];
    const unknown = (tokens[0] ?? []).flatMap((token, i) => (token === '[UNK]' ? [i] : []));
    expect(unknown.map((i) => sources?.[0]?.[i])).toEqual(['zebra', 'quagga']);
  });

  test('view: too large a page is refused', () => {
    const { stderr } = run('view', MODEL, ...text, 'the cat sat', '--max-size', '100kB');
    expect(stderr).toMatch(/beyond the \d+ bytes of the page's code but received 100000/);
    expect(run('view', MODEL, ...text, 'x', '--max-size', 'big').stderr).toMatch(/a size like 20MB .* received 'big'/);
    expect(() => refuseTooLarge([{ matrices: 1024, queries: 32_768 }], 2e7)).toThrow(
      /fit in 20 MB but received 1024 heads that take 84 MB; allow a larger page/,
    );
    expect(() => refuseTooLarge(new Array(12).fill({ matrices: 12, queries: 4096 }), 2e7)).not.toThrow();
  });

  test('view: a head as SVG, PNG and CSV', () => {
    const options = ['--layer', '-1', '--head', '2', '--query', '1'];
    const files = ['--svg', 'h.svg', '--png', 'h.png', '--csv', 'h.csv', '--pixel-ratio', '3'];
    const { stdout, stderr } = run('view', MODEL, ...text, 'the cat </text>', ...options, ...files);
    expect([stdout, stderr]).toEqual(['h.svg\nh.png\nh.csv\n', GIVEN]);
    const svg = readFileSync(join(folder, 'h.svg'), 'utf8');
    expect(svg).toMatch(/layers\.1, head 2 · scaled_dot_product_attention/);
    const [, width] = /width="(\d+)"/.exec(svg) ?? [];
    const png = readFileSync(join(folder, 'h.png'));
    expect(png.subarray(1, 4).toString()).toBe('PNG');
    expect(png.readUInt32BE(16)).toBe(3 * Number(width));
    const sum = readFileSync(join(folder, 'h.csv'), 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .reduce((total, line) => total + Number(line.split(',').at(-2)), 0);
    expect(sum).toBeCloseTo(1, 5);
    expect(run('view', MODEL, ...text, 'x', '--svg', 'x.svg').stderr).toMatch(/Expected --layer with --svg/);
    expect(run('view', MODEL, ...text, 'x', '--svg', 'x.svg', '--layer', '0', '--head', '7').stderr).toMatch(
      /one of the heads 0, 1, 2 for --head but received 7/,
    );
    const whole = join(folder, 'figure.safetensors');
    run('capture', MODEL, '--inputs', ids(), '--out', whole);
    const cells = (...more: string[]) => {
      const drawn = run('view', whole, '--svg', 'f.svg', '--layer', '/1$/', '--head', '0', ...more);
      expect([drawn.stdout, drawn.stderr]).toEqual(['f.svg\n', '']);
      const group = readFileSync(join(folder, 'f.svg'), 'utf8').match(/<g shape-rendering.*?<\/g>/s)?.[0];
      return group?.match(/<rect/g)?.length;
    };
    expect(cells()).toBe(9);
    // Padding that no query looks at is hatched, not white.
    expect(cells('--padding')).toBe(12);
  });
});
