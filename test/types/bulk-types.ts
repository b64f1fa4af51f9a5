// Bulk runs: options that are written out, stores of one's own, and what comes of them.
import {
  type BulkOptions,
  type BulkProgress,
  bulk,
  bulkStatus,
  folderStore,
  type ResultStore,
  s3Store,
  submitBulk,
  workBulk,
} from 'libtorch-attention/bulk';

export async function run(): Promise<number> {
  const stores: ResultStore[] = [folderStore('results'), s3Store('s3://bucket/run')];
  const options: BulkOptions = {
    model: 'bert.pt2',
    text: 'lines.txt',
    tokenizer: 'tokenizer.json',
    buckets: [32, 64],
    capture: { layers: [-1, /attn/, 'encoder.layers.0'], topK: 10, statistics: ['entropy'] },
    out: stores[0] ?? 'results',
    onProgress: ({ done, secondsLeft }: BulkProgress) => console.log(done, secondsLeft?.toFixed(0)),
  };
  const { written, failed, shards, batches } = await bulk({ ...options, batchSize: 8, maxFailures: 0 });
  const difference: number | undefined = batches?.difference;
  void difference;
  await bulk({ model: 'bert.pt2', inputs: ['a/*.npz', 'b.json'], out: 's3://bucket/run', capture: false });
  // @ts-expect-error: functions can't be sent to other machines
  await bulk({ ...options, capture: { onAttention: () => {} } });
  // @ts-expect-error: a format that there isn't
  await bulk({ ...options, format: 'csv' });
  const { missing } = await submitBulk({ ...options, queue: 'redis://127.0.0.1' });
  const { shards: all } = await workBulk({ out: 'results', queue: 'redis://127.0.0.1', model: 'elsewhere.pt2' });
  const { state, queue } = await bulkStatus({ out: 'results', queue: 'redis://127.0.0.1' });
  const known: 'running' | 'done' = state;
  console.log(missing, all, known, queue?.waiting);
  return written + failed + shards.length;
}
