import { runInNewContext } from 'node:vm';
import { type DictionaryKey, HookedModel, ScriptObject, Tensor, type Value } from '../../lib/index';
import { scriptOf } from './script-archive';

const echo = () => scriptOf('def forward(self: __torch__.M, x: Any) -> Any:\n  return x');

class Options {
  scale = 2;
}

const foreign: [what: string, value: unknown, received: RegExp][] = [
  ['a Date', new Date(0), /an instance of Date$/],
  ['a RegExp', /x/, /an instance of RegExp$/],
  ['a Set', new Set([1]), /an instance of Set$/],
  ['a promise', Promise.resolve(1), /an instance of Promise$/],
  ['an instance of a class', new Options(), /an instance of Options$/],
  ['an instance of a class without a name', new (class {})(), /an object that is no plain one$/],
  ['a boxed number', Object(5), /an instance of Number$/],
  ['an error', new Error('x'), /an instance of Error$/],
  ['an ArrayBuffer', new ArrayBuffer(4), /an instance of ArrayBuffer$/],
  ['a URL', new URL('https://pytorch.org'), /an instance of URL$/],
  ['a Date of another realm', runInNewContext('new Date(0)'), /an instance of Date$/],
  ['an object with a prototype of its own', Object.create({ scale: 2 }), /an object that is no plain one$/],
  ['Math', Math, /an object that is no plain one$/],
  ['a function', () => 1, /a function$/],
  ['a symbol', Symbol('x'), /a symbol$/],
  ['a typed array', Float32Array.of(1), /a typed array \(make a Tensor of it with Tensor.from\)$/],
];

describe('ScriptModule#forward', () => {
  describe('a value that models have nothing for', () => {
    test.each(foreign)('%s is refused, and where it stands is said', async (_, value, received) => {
      using model = await echo();
      const refused = (where: RegExp) => ({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(new RegExp(`${where.source}.* but received ${received.source}`)),
      });
      const forward = (x: unknown) => model.forward([x as Value]);
      await expect(forward(value)).rejects.toMatchObject(refused(/ for input/));
      await expect(forward({ at: [1, { when: value }] })).rejects.toMatchObject(refused(/\.at\[1\]\.when/));
      await expect(forward(new Map([['when', value]]))).rejects.toMatchObject(refused(/\.when/));
    });

    test('a name that is no identifier is quoted', async () => {
      using model = await echo();
      await expect(model.forward([{ 'input ids': { 0: new Date(0) } } as unknown as Value])).rejects.toThrow(
        /for inputs\[0\]\['input ids'\]\['0'\] but received an instance of Date/,
      );
    });

    test('is refused of a hook as well', async () => {
      using model = await echo();
      model.registerForwardHook('', () => ({ when: new Date(0) }) as unknown as Value);
      await expect(model.forward([1])).rejects.toMatchObject({
        code: 'ERR_HOOK_FAILED',
        cause: expect.objectContaining({
          code: 'ERR_INVALID_ARGUMENT',
          message: expect.stringMatching(/for the hook's result\.when but received an instance of Date/),
        }),
      });
    });
  });

  test('plain objects and arrays of any realm, objects without a prototype and Maps are dictionaries and lists', async () => {
    using model = await echo();
    const bare = Object.assign(Object.create(null) as Record<string, Value>, { a: 1 });
    for (const given of [
      { a: 1 },
      bare,
      runInNewContext('({ a: 1 })'),
      new Map([['a', 1]]),
      runInNewContext('new Map([["a", 1]])'),
    ])
      expect(await model.forward([given])).toEqual({ a: 1 });
    expect(await model.forward([runInNewContext('[1, [2]]')])).toEqual([1, [2]]);
  });

  test('what JavaScript has no form for goes back as it came', async () => {
    using model = await scriptOf(
      `def forward(self: __torch__.M, x: complex) -> complex:
  return x
def make(self: __torch__.M) -> complex:
  return 1j`,
    );
    const complex = await model.forward([], { method: 'make' });
    expect(complex).toBeInstanceOf(ScriptObject);
    expect((complex as ScriptObject).type).toBe('complex');
    expect(await model.forward([complex])).toMatchObject({ type: 'complex' });
    await expect(model.forward([1])).rejects.toThrow(/a ScriptObject of this model's type complex/);
  });
});

/** Gives a dictionary of such keys back, and makes one. */
const dictionary = (type: string, made: string) =>
  scriptOf(
    `def forward(self: __torch__.M, x: Dict[${type}, int]) -> Dict[${type}, int]:
  return x
def make(self: __torch__.M) -> Dict[${type}, int]:
  return annotate(Dict[${type}, int], ${made})`,
  );

describe('dictionaries', () => {
  test.each<[type: string, made: string, expected: Value, given: Value[]]>([
    [
      'str',
      '{"b": 1, "1": 2}',
      { 1: 2, b: 1 },
      [
        { b: 1, 1: 2 },
        new Map<string | number, Value>([
          ['b', 1],
          [1, 2],
        ]),
      ],
    ],
    [
      'int',
      '{2: 1, -1: 3}',
      { 2: 1, '-1': 3 },
      [
        { 2: 1, '-1': 3 },
        new Map([
          [2, 1],
          [-1, 3],
        ]),
        new Map([
          [2n, 1],
          [-1n, 3],
        ]),
      ],
    ],
    [
      'float',
      '{1.: 2, 0.5: 1}',
      { 1: 2, 0.5: 1 },
      [
        { 1: 2, 0.5: 1 },
        new Map([
          [1, 2],
          [0.5, 1],
        ]),
      ],
    ],
    ['Device', '{torch.device("cpu"): 2}', { cpu: 2 }, [{ cpu: 2 }, new Map([['cpu', 2]])]],
    [
      'bool',
      '{True: 1, False: 2}',
      new Map([
        [true, 1],
        [false, 2],
      ]),
      [
        new Map([
          [true, 1],
          [false, 2],
        ]),
      ],
    ],
  ])('of %s keys are the same in both directions', async (type, made, expected, given) => {
    using model = await dictionary(type, made);
    expect(await model.forward([], { method: 'make' })).toEqual(expected);
    for (const each of given) expect(await model.forward([each])).toEqual(expected);
  });

  test('of tensors and complex numbers as keys are Maps of these, in order, also where some look alike', async () => {
    using tensors = await dictionary('Tensor', '{torch.ones([1]): 1, torch.ones([1]): 2}');
    const made = (await tensors.forward([], { method: 'make' })) as Map<Tensor, number>;
    expect([...made].map(([key, value]) => [key.toArray(), value])).toEqual([
      [[1], 1],
      [[1], 2],
    ]);
    const again = (await tensors.forward([new Map([[Tensor.from([5]), 7]])])) as Map<Tensor, number>;
    expect([...again].map(([key, value]) => [key.toArray(), value])).toEqual([[[5], 7]]);
    expect(await tensors.forward([made])).toHaveProperty('size', 2);

    using complex = await dictionary('complex', '{1j: 1}');
    const numbers = (await complex.forward([], { method: 'make' })) as Map<ScriptObject, number>;
    expect([...numbers.keys()].map(({ type }) => type)).toEqual(['complex']);
    expect(await complex.forward([numbers])).toHaveProperty('size', 1);
  });

  test('that are empty are Maps or objects all the same', async () => {
    using flags = await dictionary('bool', '{}');
    expect(await flags.forward([{}])).toEqual(new Map());
    expect(await flags.forward([new Map()])).toEqual(new Map());
    using names = await dictionary('str', '{}');
    expect(await names.forward([new Map()])).toEqual({});
  });

  test.each<[type: string, given: unknown, message: RegExp]>([
    ['bool', { true: 1 }, /a Map with keys of type bool, which objects don't have, for input 0 \('x'\) of forward/],
    ['bool', new Map([['true', 1]]), /a Map with keys of type bool, which objects don't have/],
    [
      'bool',
      new Map<unknown, Value>([
        [true, 1],
        ['no', 2],
      ]),
      /a boolean for the key of input 0 \('x'\) of forward \(entry 1\) but received 'no'/,
    ],
    ['Tensor', new Map([[1, 1]]), /a Tensor for the key of input 0 \('x'\) of forward \(entry 0\)/],
    ['int', new Map([[0.5, 1]]), /a key of type int .* received 0.5/],
    ['int', new Map([[true, 1]]), /a key of type int/],
    ['int', new Map([[Tensor.from([1]), 1]]), /a key of type int/],
    ['int', new Map([[1, 'x']]), /an integer for input 0 \('x'\) of forward \(entry 0\)/],
    ['int', new Map([[{}, 1]]), /a string, number, bigint, boolean, Tensor or ScriptObject for a key of inputs\[0\]/],
    ['bool', new Map([[true, new Date(0)]]), /for inputs\[0\]\.true but received an instance of Date/],
  ])('of %s keys refuse others: %p', async (type, given, message) => {
    using model = await dictionary(type, '{}');
    await expect(model.forward([given as Value])).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
  });

  test('keep the type of their keys where the model takes anything', async () => {
    using model = await echo();
    const x = Tensor.from([1]);
    expect(await model.forward([new Map([[true, 1]])])).toEqual(new Map([[true, 1]]));
    expect(await model.forward([new Map([[7, [new Map([[false, 'a']])]]])])).toEqual({ 7: [new Map([[false, 'a']])] });
    expect([...((await model.forward([new Map([[x, 1]])])) as Map<Tensor, number>).keys()][0]?.toArray()).toEqual([1]);
    for (const mixed of [
      new Map<DictionaryKey, Value>([
        [1, 1],
        [true, 1],
      ]),
      new Map<DictionaryKey, Value>([
        [1, 1],
        ['a', 1],
      ]),
    ])
      await expect(model.forward([mixed])).rejects.toThrow(/keys of one type that dictionaries have/);
  });

  test('of such keys reach hooks and records, and may be returned by hooks', async () => {
    using model = await dictionary('bool', '{}');
    const hooked = new HookedModel(model);
    hooked.setForwardHook('record', '');
    model.registerForwardHook('', (_module, [given]) => {
      expect(given).toEqual(new Map([[true, 1]]));
      return new Map([[false, 2]]);
    });
    expect(await model.forward([new Map([[true, 1]])])).toEqual(new Map([[false, 2]]));
    expect(hooked.hooks.get('record')?.input).toEqual([new Map([[true, 1]])]);
  });

  test('nested too deep by Maps alone are an error', async () => {
    using model = await echo();
    let deep: Value = 1;
    for (let i = 0; i < 200; ++i) deep = new Map([[true, deep]]);
    await expect(model.forward([deep])).rejects.toThrow(/nested at most 128 deep/);
  });
});
