import { join } from 'node:path';
import { inspect } from 'node:util';
import { ScriptModule, Tensor, type Value } from '../../lib/index';

const FIXTURES = join(__dirname, '../fixtures/cli');
const ids = (length: number, id = 4n) => Tensor.from([new Array<bigint>(length).fill(id)]);

/** What a run on these inputs says. */
async function failure(file: string, inputs: Value[], method: 'forward' | 'captureAttention' | 'attentionSites') {
  const model = await ScriptModule.load(join(FIXTURES, file));
  try {
    await model[method](inputs);
    return undefined;
  } catch (error) {
    return error as Error & { code: string; nativeStack?: string };
  } finally {
    model.dispose();
  }
}

describe.each(['forward', 'captureAttention', 'attentionSites'] as const)('%s', (method) => {
  test.each(['positions_trace.pt', 'positions_script.pt'])('too many tokens are said to be so: %s', async (file) => {
    const error = await failure(file, [ids(12), ids(12, 1n)], method);
    expect(error?.code).toBe('ERR_MODEL_RUN');
    expect(error?.message).toMatch(
      /^Expected at most 8 tokens but received 12 in inputs\[0\] \('input_ids'\) \('position\w+.*?' has as many positions\): ./,
    );
    expect(error?.cause).toMatchObject({ code: 'ERR_MODEL_RUN' });
    expect(error?.nativeStack).toMatch(/frame|Traceback/);
  });

  test('as many as there are positions for run', async () => {
    expect(await failure('positions_script.pt', [ids(8), ids(8, 1n)], method)).toBeUndefined();
  });

  test('an id beyond the vocabulary is named', async () => {
    const error = await failure('text.pt', [Tensor.from([[2n, 30_000n]])], method);
    expect(error?.message).toMatch(
      /^Expected ids from 0 to 12 but received 30000 in inputs\[0\] \('input_ids'\) \('embeddings\.weight' has 13 rows\): index out of range/,
    );
  });

  test('tables of positions are not what ids are looked up in, however long', async () => {
    // 24 tokens and 34 positions.
    const others = Array.from({ length: 5 }, () => Tensor.zeros([1, 1, 1, 1]));
    const error = await failure('../generation/bart.pt', [ids(1, 30n), ...others], method);
    expect(error?.message).toMatch(/^Expected ids from 0 to 23 but received 30 in inputs\[0\] .*embed_tokens/);
    // libtorch's words are shown once.
    expect(inspect(error).split(error?.nativeStack?.split('\n')[0] as string)).toHaveLength(2);
  });

  test('floats where ids belong are named, with what to write', async () => {
    const error = await failure('text.pt', [Tensor.from([[2, 4]])], method);
    expect(error?.message).toMatch(
      /^Expected integers where .* received float32 for inputs\[0\] \('input_ids'\): ids are made of bigints, or with dtype: 'int64': /,
    );
  });

  test('a mask of another length is no matter of positions', async () => {
    const error = await failure('positions_script.pt', [ids(4), ids(5, 1n)], method);
    expect(error?.code).toBe('ERR_MODEL_RUN');
    expect(error?.message).not.toMatch(/^Expected/);
  });
});
