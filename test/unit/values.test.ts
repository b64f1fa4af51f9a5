import { runInNewContext } from 'node:vm';
import { ScriptObject, type Value } from '../../lib/index';
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
