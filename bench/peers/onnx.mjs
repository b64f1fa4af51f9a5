// onnxruntime-node on the BERT-like model, without and with its attentions as outputs:
// node --expose-gc bench/peers/onnx.mjs THREADS bert.onnx bert_attentions.onnx
import { createRequire } from 'node:module';
import { EXCERPT, inputData } from '../models.mjs';
import { missing, serve } from './serve.mjs';

// No dependency of this package: nearly 300 MB for a benchmark. Without its install script, which only fetches CUDA's
// libraries.
const VERSION = '1.30.0';
const INSTALL = `npm install --no-save --ignore-scripts onnxruntime-node@${VERSION}`;

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
  const load = async (way) => {
    sessions[way] ??= await ort.InferenceSession.create(files[way], {
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'all',
      intraOpNumThreads: Number(threads),
      interOpNumThreads: 1,
    });
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
      return async () => {
        const outputs = await session.run(input);
        for (const tensor of Object.values(outputs)) tensor.dispose();
      };
    },
    async output(way, batch, tokens) {
      const { output } = await (await load(way)).run(feed(batch, tokens));
      return [...output.data.slice(0, EXCERPT)];
    },
  });
}
