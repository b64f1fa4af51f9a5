import { HookedModel, ScriptModule, Tensor } from '../../lib/index';
import { fixture } from './hook-fixtures';

/** Runs one linear module after the other: a thousand and more boundaries. */
let looped: ScriptModule;
const x = () => Tensor.from(new Float32Array(160).fill(0.1), { shape: [2, 5, 16] });

beforeAll(async () => {
  looped = await ScriptModule.load(fixture('looped_script.pt'));
  for (let run = 0; run < 3; run++) await looped.forward([x(), 4]);
});

afterAll(() => looped.dispose());

describe('ScriptModule#forward with a signal', () => {
  test('a signal that is aborted already starts nothing', async () => {
    const hooked = new HookedModel(looped);
    const handle = hooked.setForwardPreHook('step', 'step');
    const reason = new Error('before');
    await expect(looped.forward([x(), 4], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(handle.calls).toBe(0);
    hooked.delHook('step');
  });

  test('an aborted signal stops a running model at the next module boundary', async () => {
    const hooked = new HookedModel(looped);
    const handle = hooked.setForwardPreHook('step', 'step');
    const times = 1_000_000;
    const controller = new AbortController();
    const run = looped.forward([x(), times], { signal: controller.signal });
    const rejected = run.catch((error) => error);
    while (handle.calls < 10) await new Promise((resolve) => setTimeout(resolve, 1));
    controller.abort();
    expect(await rejected).toBe(controller.signal.reason);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const stopped = handle.calls;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(handle.calls).toBe(stopped);
    expect(stopped).toBeLessThan(times / 2);
    hooked.delHook('step');
  });

  test('also without any hook: the next run does not wait for the rest of the stopped one', async () => {
    const controller = new AbortController();
    const stopped = looped.forward([x(), 100_000_000], { signal: controller.signal }).catch((error) => error);
    setTimeout(() => controller.abort(), 50);
    expect(await stopped).toBe(controller.signal.reason);
    await looped.forward([x(), 2]); // the rest would take a quarter of an hour and more
  });

  test('the reason of a timeout, and the model works on', async () => {
    const error = await looped.forward([x(), 1_000_000], { signal: AbortSignal.timeout(30) }).catch((caught) => caught);
    expect(error).toMatchObject({ name: 'TimeoutError' });
    expect(((await looped.forward([x(), 4])) as Tensor).shape).toEqual([2, 5, 16]);
  });

  test('a run that is over does not mind', async () => {
    const controller = new AbortController();
    const output = (await looped.forward([x(), 4], { signal: controller.signal })) as Tensor;
    controller.abort();
    expect(output.shape).toEqual([2, 5, 16]);
  });

  test('other runs of the model go on', async () => {
    const controller = new AbortController();
    const stopped = looped.forward([x(), 1_000_000], { signal: controller.signal }).catch((error) => error);
    const others = [looped.forward([x(), 4]), looped.forward([x(), 5])];
    setTimeout(() => controller.abort('stop'), 30);
    expect(await stopped).toBe('stop');
    for (const output of await Promise.all(others)) expect((output as Tensor).shape).toEqual([2, 5, 16]);
  });
});
