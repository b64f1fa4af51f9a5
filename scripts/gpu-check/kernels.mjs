/**
 * Calls of scaled_dot_product_attention, named after the kernel that PyTorch's choice by type, size of a head and mask is
 * expected to fall on with CUDA. sdpa_choice.py says which it is on the machine at hand.
 */
export const KERNELS = [
  { kernel: 'flash', dtype: 'bfloat16', head: 64 },
  { kernel: 'flash', dtype: 'bfloat16', head: 64, causal: true },
  { kernel: 'flash', dtype: 'bfloat16', head: 128, causal: true, keyHeads: 2 },
  { kernel: 'flash', dtype: 'float16', head: 64 },
  { kernel: 'flash', dtype: 'float16', head: 32, causal: true },
  { kernel: 'flash', dtype: 'float16', head: 96 },
  { kernel: 'flash', dtype: 'bfloat16', head: 256 },
  { kernel: 'efficient', dtype: 'float32', head: 64 },
  { kernel: 'efficient', dtype: 'float32', head: 64, causal: true },
  { kernel: 'efficient', dtype: 'float32', head: 64, mask: 'bool' },
  { kernel: 'efficient', dtype: 'float32', head: 32, mask: 'float' },
  { kernel: 'efficient', dtype: 'bfloat16', head: 64, mask: 'bool' },
  { kernel: 'efficient', dtype: 'float16', head: 64, mask: 'float' },
  { kernel: 'math', dtype: 'float32', head: 7 },
  { kernel: 'math', dtype: 'float64', head: 64 },
  { kernel: 'math', dtype: 'float64', head: 16, causal: true },
  { kernel: 'math', dtype: 'float64', head: 16, mask: 'bool' },
  { kernel: 'math', dtype: 'float32', head: 64, keyHeads: 2 },
  { kernel: 'math', dtype: 'float32', head: 64, keyHeads: 2, causal: true },
  { kernel: 'math', dtype: 'bfloat16', head: 320 },
  { kernel: 'math', dtype: 'bfloat16', head: 64, keyHeads: 2, mask: 'bool' },
];

export const BATCH = 2;
export const HEADS = 4;
export const QUERIES = 33;
export const KEYS = 57;

export function title({ kernel, dtype, head, causal, mask, keyHeads }) {
  const more = [causal && 'causal', mask && `${mask} mask`, keyHeads && `${HEADS} heads on ${keyHeads}`];
  return [`expected ${kernel}: ${dtype}`, `heads of ${head}`, ...more.filter(Boolean)].join(', ');
}
