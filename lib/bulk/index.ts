/**
 * Captures of any number of inputs, on worker processes of one machine or many: `import … from 'libtorch-attention/bulk'`. The
 * guide is docs/bulk.md.
 *
 * @module libtorch-attention/bulk
 */

export type { BatchRecord } from './batch-record';
export { type BulkResult, bulk } from './bulk';
export type { QueueCounts } from './chunk-queue';
export { folderStore } from './folder-store';
export type { BulkCapture } from './job';
export type { BulkOptions, BulkWorkerOptions } from './options';
export type { BulkProgress } from './progress';
export type { ResultStore, StoredResult } from './result-store';
export { s3Store } from './s3-store';
export { type BulkStatus, bulkStatus } from './status';
export { submitBulk } from './submit';
export { type BulkWorkOptions, workBulk } from './work';
