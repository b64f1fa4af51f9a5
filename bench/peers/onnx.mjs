// onnxruntime-node on the BERT-like model, without and with its attentions as outputs:
// node --expose-gc bench/peers/onnx.mjs THREADS bert.onnx bert_attentions.onnx
import { createRequire } from 'node:module';
import { EXCERPT, inputData } from '../models.mjs';
import { missing, serve } from './serve.mjs';

// No dependency of this package: nearly 300 MB for a benchmark. Without its install script, which only fetches CUDA's
// libraries.
const VERSION = '1.30.0';
const INSTALL = `npm install --no-save --ignore-scripts onnxruntime-node@${VERSION}`;

// A way: the model is loaded anew for each run.
const FIRST_RESULT = 'first result';

const [threads, plain, attentions] = process.argv.slice(2);
const require = createRequire(import.meta.url);

function find() {
  try {
    return { ort: require('onnxruntime-node'), version: require('onnxruntime-node/package.json').version };
  } catch (error) {
    missing(error.code === 'MODULE_NOT_FOUND' ? `not installed: ${INSTALL}` : error.message);
    return null;
  }
}

const found = find();
if (found) {
  const { ort, version } = found;
  const files = { forward: plain, attentions };
  const sessions = {};
  const start = (way) =>
    ort.InferenceSession.create(files[way], {
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'all',
      intraOpNumThreads: Number(threads),
      interOpNumThreads: 1,
    });
  const load = async (way) => {
    if (way === FIRST_RESULT) return null;
    sessions[way] ??= await start(way);
    return sessions[way];
  };
  const feed = (batch, tokens) => ({
    input_ids: new ort.Tensor('int64', inputData(0, batch, tokens), [batch, tokens]),
  });
  await serve({
    versions: { 'onnxruntime-node': version },
    load,
    async prepare(way, batch, tokens) {
      const session = await load(way);
      const input = feed(batch, tokens);
      const once = async (loaded) => {
        const outputs = await loaded.run(input);
        for (const tensor of Object.values(outputs)) tensor.dispose();
      };
      if (way !== FIRST_RESULT) return () => once(session);
      return async () => {
        const loaded = await start('forward');
        await once(loaded);
        await loaded.release();
      };
    },
    async output(way, batch, tokens) {
      const { output } = await (await load(way)).run(feed(batch, tokens));
      return [...output.data.slice(0, EXCERPT)];
    },
  });
}
