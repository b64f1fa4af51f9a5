// A worker that runs a model once and says what came out.
import { parentPort, workerData } from 'node:worker_threads';
import { ScriptModule } from '../../dist/index.js';
import { programs } from './corpus.mjs';
import { bits } from './executor.mjs';

const { inputs } = programs().find(({ path }) => path === workerData);
const model = await ScriptModule.load(workerData);
const values = await inputs();
// The first runs profile and compile.
for (let i = 0; i < 3; i++) await model.forward(values);
parentPort.postMessage(bits(await model.forward(values)));
