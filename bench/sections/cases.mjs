// The models and sizes of inputs that several sections measure.

const NAMES = {
  encoder: 'nn.TransformerEncoder, 12 layers × 512',
  large: "BERT's own measures, 12 layers × 768 × 12 heads",
  bert: 'BERT-like, 6 layers × 384 × 12 heads',
};

export const title = (model, batch, tokens) => `${NAMES[model]}, ${batch} × ${tokens} tokens`;

const SHORT = [
  [1, 16],
  [8, 16],
  [32, 16],
  [1, 128],
  [8, 128],
  [32, 128],
  [1, 512],
  [8, 512],
  [1, 2048],
];

const QUICK = [
  [1, 16],
  [2, 64],
];

/** Batches and sequence lengths of the BERT-like model, each with the bytes of all its weights. */
export function bertCases({ quick, longest = true }) {
  const sizes = quick ? QUICK : longest ? [...SHORT, [1, 4096]] : SHORT;
  return sizes.map(([batch, tokens]) => ({ batch, tokens, weights: 6 * batch * 12 * tokens * tokens * 4 }));
}
