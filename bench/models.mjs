// The benchmark's models: made once by make_models.py, each described by what it takes.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import library from './library.mjs';

const script = fileURLToPath(new URL('make_models.py', import.meta.url));

/** Width of a model's input, `[batch, tokens, width]`; 0 for token ids, `[batch, tokens]`. */
export const WIDTHS = {
  'encoder.pt': 512,
  'encoder_traced.pt': 512,
  'bert.pt': 0,
  'peaked.pt': 0,
  'bert.pt2': 0,
  'large.pt': 0,
  'large.pt2': 0,
  'long.pt': 64,
  'tiny.pt': 16,
  'identity.pt': 16,
};

export class Models {
  constructor(folder) {
    this.folder = folder;
  }

  path(name) {
    return join(this.folder, name);
  }

  /** Whether a file is there, made by the script as it is now. */
  has(name) {
    const made = statSync(this.path(name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    return made >= statSync(script).mtimeMs;
  }

  /** Has those of these files made that aren't there. Returns the reason why some still aren't, or null. */
  provide(names) {
    const missing = names.filter((name) => !this.has(name));
    if (missing.length === 0) return null;
    console.log(`Making ${missing.join(', ')} …`);
    const made = spawnSync('python3', [script, this.folder, ...missing], { encoding: 'utf8' });
    if (made.error) return `python3 with torch makes the models: ${made.error.message}`;
    if (made.status !== 0) return `making the models failed: ${made.stderr.trim().split('\n').at(-1)}`;
    return made.stdout.trim().split('\n').at(-1) || null;
  }

  load(name, options) {
    return library.loadModel(this.path(name), options);
  }
}

/** The same numbers as in each of the peers: see `ids` and `floats` there. */
export function inputData(width, batch, tokens) {
  if (width === 0) return BigInt64Array.from({ length: batch * tokens }, (_, i) => BigInt((i * 7919) % 1000));
  return Float32Array.from({ length: batch * tokens * width }, (_, i) => Math.sin(i % 10007));
}

export function inputs(width, batch, tokens) {
  const shape = width === 0 ? [batch, tokens] : [batch, tokens, width];
  return [library.Tensor.from(inputData(width, batch, tokens), { shape })];
}

/** A few numbers of an output, by which to see that a peer runs the same model. */
export const EXCERPT = 16;

export async function excerpt(model, input) {
  const output = await model.forward(input);
  const values = [...output.toTypedArray().slice(0, EXCERPT)];
  output.dispose();
  return values;
}
