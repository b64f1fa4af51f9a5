import { type Attention, nn, setNumThreads, type Tensor } from '../../lib/index';
import { difference, Fixture, numbers } from './nn-fixtures';

// Weights that native attentions return, and what differentiates through them, against PyTorch.

const TOLERANCE = 1e-4;

// Tensors this small are slower on more threads.
beforeAll(() => setNumThreads(1));

const OPTIONS = { embedDim: 4, numHeads: 2, batchFirst: true };

async function make(kind: string) {
  const expected = await Fixture.read('gradients');
  const cross = kind === 'cross' ? { kdim: 5, vdim: 6, addBiasKv: true, addZeroAttn: true } : {};
  const attention = new nn.MultiheadAttention({ ...OPTIONS, ...cross }).eval();
  await attention.loadStateDict(expected.state(`${kind}.state.`));
  const given = Object.values(expected.state(`${kind}.input.`));
  const inputs = given.length === 1 ? [given[0], given[0], given[0]] : given;
  const mask = (name: string) => (expected.entries.has(`${kind}.${name}`) ? expected.tensor(`${kind}.${name}`) : null);
  const masks = {
    attnMask: mask('attn_mask'),
    keyPaddingMask: mask('key_padding_mask'),
    ...(kind === 'causal' && { isCausal: true }),
  };
  return { expected, attention, given, inputs: inputs as [Tensor, Tensor, Tensor], masks };
}

function compare(expected: Fixture, prefix: string, tensors: Record<string, Tensor>): void {
  const gradients = expected.state(prefix);
  expect(Object.keys(gradients).length).toBeGreaterThan(0);
  for (const [name, gradient] of Object.entries(gradients)) {
    const own = tensors[name]?.grad;
    const distance = own ? difference(numbers(own), numbers(gradient)) : Number.POSITIVE_INFINITY;
    expect([prefix, name, distance <= TOLERANCE]).toEqual([prefix, name, true]);
  }
}

const KINDS = ['self', 'causal', 'shifting', 'cross'];

describe('nn.MultiheadAttention#forward and captureAttention', () => {
  describe.each(KINDS)('weights of an attention: %s', (kind) => {
    test.each([
      ['per head', false],
      ['their mean', true],
    ])('%s have the gradients of PyTorch', async (_, averageAttnWeights) => {
      const { expected, attention, given, inputs, masks } = await make(kind);
      for (const input of given) input.requiresGrad = true;
      if (kind === 'shifting') (masks.attnMask as Tensor).requiresGrad = true;
      const { output, weights } = await attention.forward(...inputs, { ...masks, averageAttnWeights, grad: true });
      const by = expected.tensor(`${kind}.${averageAttnWeights ? 'by_mean' : 'by_weights'}`);
      await (weights as Tensor)
        .mul(by)
        .sum()
        .add(output.mul(expected.tensor(`${kind}.by_output`)).sum())
        .backward();
      const where = `${kind}.${averageAttnWeights ? 'mean' : 'heads'}`;
      compare(expected, `${where}.gradient.`, attention.stateDict());
      compare(expected, `${where}.gradient_of.`, {
        ...Object.fromEntries(given.map((tensor, i) => [`input.${i}`, tensor])),
        ...(masks.attnMask && { attn_mask: masks.attnMask }),
      });
    });

    test('are the same bits with and without gradients', async () => {
      const { attention, inputs, masks } = await make(kind);
      attention.train(); // dropout is 0: no other kernel where no gradients are recorded
      const options = { ...masks, averageAttnWeights: false };
      const without = await attention.forward(...inputs, options);
      const withThem = await attention.forward(...inputs, { ...options, grad: true });
      expect(numbers(withThem.weights as Tensor)).toEqual(numbers(without.weights as Tensor));
      expect(numbers(withThem.output)).toEqual(numbers(without.output));
      expect([without.weights?.requiresGrad, withThem.weights?.requiresGrad]).toEqual([false, true]);
    });

    test('count in the gradients of a capture beside the output', async () => {
      const { expected, attention, inputs, masks } = await make(kind);
      const gradientOf = ({ output, weights }: nn.AttentionOutput): Tensor =>
        (weights as Tensor)
          .mul(expected.tensor(`${kind}.by_weights`))
          .sum()
          .add(output.mul(expected.tensor(`${kind}.by_output`)).sum());
      const options = { ...masks, averageAttnWeights: false, gradientOf };
      const python = numbers(expected.tensor(`${kind}.gradient_of_weights`));
      // A position from the end is settled only once the run is over.
      for (const layers of [[0], [-1]]) {
        const { attentions } = await attention.captureAttention(inputs, { ...options, layers });
        expect(attentions).toHaveLength(1);
        const [{ weights, gradient }] = attentions as [Attention];
        expect(difference(numbers(weights), numbers(expected.tensor(`${kind}.weights`)))).toBeLessThan(1e-5);
        expect(difference(numbers(gradient as Tensor), python)).toBeLessThan(TOLERANCE);
      }
      const { attentions } = await attention.captureAttention(inputs, { ...options, heads: [1], queries: [2, 0] });
      const keys = attentions[0]?.weights.shape[3] as number;
      const row = (batch: number, query: number): number[] => {
        const start = ((batch * 2 + 1) * 3 + query) * keys;
        return [...python.subarray(start, start + keys)];
      };
      const rows = [0, 1].flatMap((batch) => [2, 0].flatMap((query) => row(batch, query)));
      expect(difference(numbers(attentions[0]?.gradient as Tensor), rows)).toBeLessThan(TOLERANCE);
    });
  });
});

describe('registerForwardHook', () => {
  test('weights that a hook sees inside a layer lead back to its projections', async () => {
    const expected = await Fixture.read('gradients');
    const layer = new nn.TransformerEncoderLayer({ dModel: 4, nhead: 2, dimFeedforward: 6, batchFirst: true }).eval();
    await layer.loadStateDict(expected.state('layer.state.'));
    layer.setNeedWeights();
    const seen: Tensor[] = [];
    layer.registerForwardHook('self_attn', (_, __, output) => {
      seen.push((output as Tensor[])[1] as Tensor);
    });
    const src = expected.tensor('layer.input.0');
    src.requiresGrad = true;
    await layer.forward(src, { grad: true });
    await (seen[0] as Tensor).mul(expected.tensor('layer.by_weights')).sum().backward();
    compare(expected, 'layer.gradient.', layer.stateDict());
    compare(expected, 'layer.gradient_of.', { 'input.0': src });
  });
});

describe('registerFullBackwardHook', () => {
  test('backward hooks on an attention get the gradients of its output and of its weights', async () => {
    const { attention, inputs } = await make('self');
    const shapes: unknown[] = [];
    attention.registerFullBackwardHook('', (_, __, gradOutput) => {
      shapes.push(gradOutput.map((gradient) => gradient?.shape.join()));
    });
    for (const input of inputs) input.requiresGrad = true;
    const { output, weights } = await attention.forward(...inputs, { grad: true });
    await output
      .sum()
      .add((weights as Tensor).mul(weights as Tensor).sum())
      .backward();
    expect(shapes).toEqual([['2,3,4', '2,3,3']]);
  });
});
