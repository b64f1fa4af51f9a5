// A plain loop of captureMany over files of inputs, in one process: what a bulk run does, without what it is for. Arguments: the
// model, the folder of inputs, the folder of results, threads, and how many inputs a file of results has. Prints milliseconds.
import { mkdirSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import library from '../library.mjs';

const require = createRequire(import.meta.url);
const dist = (name) => require(`../../dist/${name}.js`);
const { readSafetensors, writeSafetensors } = dist('formats/safetensors');
const { namedTensorsOf, descriptionOf } = dist('capture/attention');
const { toEntry } = dist('io/entry-values');

const [model, inputs, out, threads, shard] = process.argv.slice(2);
library.setNumThreads(Number(threads));
const loaded = await library.loadModel(model);
mkdirSync(out, { recursive: true });
const files = readdirSync(inputs).sort();

async function* read(names) {
  for (const name of names) {
    const { entries } = await readSafetensors(join(inputs, name));
    yield entries.map(({ data, shape, dtype }) => library.Tensor.from(data, { shape, dtype }));
  }
}

async function pass(names) {
  let entries = [];
  let metadata = {};
  for await (const { index, output, attentions } of loaded.captureMany(read(names), { topK: 10 })) {
    entries.push(toEntry(`${index}.output`, output));
    for (const attention of attentions) {
      for (const [suffix, tensor] of namedTensorsOf(attention)) {
        entries.push(toEntry(`${index}.attentions.${attention.index}${suffix}`, tensor));
        tensor.dispose();
      }
    }
    metadata[index] = JSON.stringify(attentions.map(descriptionOf));
    output.dispose();
    if ((index + 1) % Number(shard) !== 0 && index + 1 < names.length) continue;
    await writeSafetensors(join(out, `${index}.safetensors`), entries, metadata);
    [entries, metadata] = [[], {}];
  }
}

await pass(files.slice(0, Number(shard))); // compiles the program
const start = performance.now();
await pass(files);
console.log(performance.now() - start);
