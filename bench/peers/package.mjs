// This package in a process of its own: node --expose-gc bench/peers/package.mjs THREADS MODEL WIDTH
import library from '../library.mjs';
import { excerpt, inputs } from '../models.mjs';
import { INTERRUPTED, WAYS } from '../ways.mjs';
import { serve } from './serve.mjs';

const [threads, path, width] = process.argv.slice(2);
library.setNumThreads(Number(threads));
const ways = { ...WAYS, ...INTERRUPTED };
let model;

async function load() {
  model ??= await library.loadModel(path);
}

await serve({
  versions: { package: library.versions.package, libtorch: library.versions.libtorch },
  load,
  async prepare(way, batch, tokens) {
    await load();
    const input = inputs(Number(width), batch, tokens);
    return () => ways[way](model, input);
  },
  async output(_, batch, tokens) {
    await load();
    return excerpt(model, inputs(Number(width), batch, tokens));
  },
});
