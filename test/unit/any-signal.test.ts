import { join } from 'node:path';
import { anySignal } from '../../lib/core/any-signal';
import { runScript } from './built-process';

describe('anySignal', () => {
  test('aborts with the first of the signals, and its reason', () => {
    const [one, other] = [new AbortController(), new AbortController()];
    const { signal } = anySignal([one.signal, undefined, other.signal]);
    expect(signal.aborted).toBe(false);
    const reason = new Error('enough');
    other.abort(reason);
    one.abort(new Error('too late'));
    expect(signal.aborted).toBe(true);
    expect(signal.reason).toBe(reason);
  });

  test('is aborted from the start where one of the signals is', () => {
    const reason = new Error('before');
    expect(anySignal([new AbortController().signal, AbortSignal.abort(reason)]).signal.reason).toBe(reason);
  });

  test('a released signal leaves no listener behind, and is not aborted any more', () => {
    const source = new AbortController();
    const added = jest.spyOn(source.signal, 'addEventListener');
    const removed = jest.spyOn(source.signal, 'removeEventListener');
    const { signal, release } = anySignal([source.signal]);
    release();
    expect(removed.mock.calls.map(([, listener]) => listener)).toEqual(
      added.mock.calls.map(([, listener]) => listener),
    );
    source.abort();
    expect(signal.aborted).toBe(false);
  });

  test('a timeout that nobody else refers to is not lost to the garbage collector', async () => {
    const { output } = await runScript(
      `
    const { anySignal } = require(${JSON.stringify(join(__dirname, '..', '..', 'dist', 'core', 'any-signal.js'))});
    const begin = () => {
      const { signal } = anySignal([AbortSignal.timeout(200), new AbortController().signal]);
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve(signal.reason.name)));
    };
    const aborted = begin();
    await wait(1);
    for (let i = 0; i < 5; ++i) { gc(); await wait(10); }
    console.log(await Promise.race([aborted, wait(5000).then(() => 'lost')]));
    process.exit();
  `,
      { flags: ['--expose-gc'] },
    );
    expect(output).toBe('TimeoutError');
  });
});
