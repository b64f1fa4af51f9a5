// The program of a worker process: it loads one model, runs the chunks that its parent sends, and ends with its parent.
import { TorchError } from '../core/errors';
import { reasonOf } from '../core/validate';
import type { ChunkRunner } from './chunk-runner';
import type { FromWorker, ToWorker } from './job';

// A terminal signals its whole group: the parent decides what becomes of that.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('disconnect', () => process.exit(0));

let runner: ChunkRunner | undefined;

function send(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    // The parent may be gone: then this process ends as well.
    if (process.send) process.send(message, undefined, {}, () => resolve());
    else resolve();
  });
}

async function handle(message: ToWorker): Promise<void> {
  try {
    if (message.type === 'load') {
      const { ChunkRunner } = require('./chunk-runner') as typeof import('./chunk-runner');
      runner = await ChunkRunner.load(message.job, message.threads);
      return await send({ type: 'ready' });
    }
    const { type: _, ...task } = message;
    const result = await (runner as ChunkRunner).run(task, {
      begin: (index, input) => send({ type: 'begin', index, input }),
      progress: (inputs, failed) => void send({ type: 'progress', inputs, failed }),
    });
    await send({ type: 'done', result });
  } catch (error) {
    const code = error instanceof TorchError ? error.code : 'ERR_MODEL_RUN';
    await send({ type: 'failed', error: { code, message: reasonOf(error) } });
  }
}

process.on('message', (message) => void handle(message as ToWorker));
