import { native } from '../core/binding';
import { fromHandle, handleOf, Tensor } from '../core/tensor';

/** How codes of a byte stand for weights. */
export type CodeScale = 'linear' | 'log';

/** What the codes of each scale stand for; the addon makes them (native/weights/codes.h). */
const WEIGHTS: Record<CodeScale, (code: number) => number> = {
  linear: (code) => code / 255,
  log: (code) => (code === 0 ? 0 : code === 255 ? Number.NaN : 2 ** ((24 * (code - 254)) / 253)),
};

const TABLES = {
  linear: Float32Array.from({ length: 256 }, (_, code) => WEIGHTS.linear(code)),
  log: Float32Array.from({ length: 256 }, (_, code) => WEIGHTS.log(code)),
};

/** The weights that codes stand for; they may be put where the codes are. */
export function decodedCodes(
  codes: Uint8Array | Float32Array,
  scale: CodeScale,
  weights: Float32Array = new Float32Array(codes.length),
): Float32Array {
  const table = TABLES[scale];
  for (let i = 0; i < codes.length; i++) weights[i] = table[codes[i] as number] as number;
  return weights;
}

/** Weights as float32; those that are float32 share their memory. */
export function floatWeights({ weights, scale }: { weights: Tensor; scale?: CodeScale }): Tensor<'float32'> {
  if (weights.dtype !== 'uint8' || scale === undefined) return weights.to({ dtype: 'float32' });
  const codes = handleOf(weights, 'weights');
  const table = Tensor.from(TABLES[scale]);
  try {
    return fromHandle<'float32'>(native((addon) => addon.decodeWeights(codes, handleOf(table, 'table'))));
  } finally {
    table.dispose();
  }
}
