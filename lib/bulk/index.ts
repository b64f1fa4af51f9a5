export { type BulkResult, bulk } from './bulk';
export { folderStore } from './folder-store';
export type { BulkCapture } from './job';
export type { BulkOptions, BulkWorkerOptions } from './options';
export type { BulkProgress } from './progress';
export type { ResultStore, StoredResult } from './result-store';
export { s3Store } from './s3-store';
