import type { PINNED_CUDA } from './versions';

/** How far a fetch is. `done` and `total` are bytes; `total` is null where the size isn't known. */
export interface FetchProgress {
  readonly stage: 'pip' | 'download' | 'unpack';
  readonly done: number;
  readonly total: number | null;
  /** What pip says it does. */
  readonly message?: string;
}

/** What every way to fetch is given. */
export interface FetchContext {
  readonly env: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: FetchProgress) => void;
}

/** The name of a flavour in PyTorch's addresses and versions. */
export type Flavour = 'cpu' | typeof PINNED_CUDA;
