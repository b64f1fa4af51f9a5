// Writes the page of a run, as `view` does, in a process of its own. Arguments: the model, the number of tokens, the file. Prints
// its milliseconds and the most memory that was held, as JSON.
import { writeFileSync } from 'node:fs';
import library from '../library.mjs';
import { inputs } from '../models.mjs';
import { peak } from '../process-memory.mjs';

const [path, length, out] = process.argv.slice(2);
const count = Number(length);
const WORDS =
  'the lighthouse stood at the end of a narrow spit of land , and for more than a century it had been tended'.split(
    ' ',
  );
const tokens = ['[CLS]', ...Array.from({ length: count - 2 }, (_, i) => WORDS[i % WORDS.length]), '[SEP]'];

const model = await library.ScriptModule.load(path);
const start = performance.now();
const attentions = model.captureAttentionStream(inputs(0, 1, count));
const html = await library.renderView([{ attentions, tokens, title: `${length} tokens` }], { title: 'Benchmark' });
writeFileSync(out, html);
console.log(JSON.stringify({ ms: performance.now() - start, peak: peak(), bytes: Buffer.byteLength(html) }));
