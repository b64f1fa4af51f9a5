import { fromFloat16Bits } from '../../formats/half';
import type { Thumbnails, ViewDataAttention } from '../view-data';

/** The mean over an attention's heads, where a head could be chosen. */
export const MEAN = -1;

/** One head's weights, `rows × columns`, row-major. */
export interface Matrix {
  rows: number;
  columns: number;
  values: Float32Array;
  maximum: number;
}

/** Decodes weights from the page's script elements when they are asked for, and keeps the latest few. */
export class Weights {
  private readonly bytes = new Map<number, Uint8Array>();
  private readonly matrices = new Map<string, Matrix>();

  constructor(private readonly encoding: 'float32' | 'float16') {}

  /** @param head An index into the attention's matrices, or MEAN. */
  matrix(attention: ViewDataAttention, head: number): Matrix {
    return recent(this.matrices, `${attention.weights}/${head}`, 64, () => {
      const { rows, columns } = attention;
      const values = head === MEAN ? this.mean(attention) : this.slice(attention, head);
      let maximum = 0;
      for (const value of values) if (value > maximum) maximum = value;
      return { rows, columns, values, maximum };
    });
  }

  private slice({ weights, rows, columns }: ViewDataAttention, head: number): Float32Array {
    const bytes = recent(this.bytes, weights, 4, () => {
      return fromBase64(document.getElementById(`weights-${weights}`)?.textContent ?? '');
    });
    const size = rows * columns;
    if (this.encoding === 'float32') return new Float32Array(bytes.buffer as ArrayBuffer, head * size * 4, size);
    return fromFloat16(new Uint16Array(bytes.buffer as ArrayBuffer, head * size * 2, size));
  }

  private mean(attention: ViewDataAttention): Float32Array {
    const sum = new Float32Array(attention.rows * attention.columns);
    const heads = attention.heads.length;
    for (let head = 0; head < heads; head++) {
      const values = this.slice(attention, head);
      for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
    }
    return sum.map((value) => value / heads);
  }
}

/** The pixels of each thumbnail, as shares of the head's largest weight. */
export function decodeThumbnails({
  rows,
  columns,
  data,
}: Thumbnails): { rows: number; columns: number; values: Float32Array }[] {
  const bytes = fromBase64(data);
  const size = rows * columns;
  return Array.from({ length: bytes.length / size }, (_, i) => ({
    rows,
    columns,
    values: Float32Array.from(bytes.subarray(i * size, (i + 1) * size), (byte) => (byte / 255) ** 2),
  }));
}

function fromBase64(text: string): Uint8Array {
  // A loop: Uint8Array.from with a function takes ten times as long, which is felt from a few megabytes on.
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

let table: Float32Array | undefined;

function fromFloat16(halves: Uint16Array): Float32Array {
  table ??= Float32Array.from({ length: 0x10000 }, (_, bits) => fromFloat16Bits(bits));
  const values = new Float32Array(halves.length);
  for (let i = 0; i < values.length; i++) values[i] = table[halves[i] as number] as number;
  return values;
}

function recent<Key, Value>(map: Map<Key, Value>, key: Key, limit: number, make: () => Value): Value {
  const value = map.get(key) ?? make();
  map.delete(key);
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= limit) break;
    map.delete(oldest);
  }
  return value;
}
