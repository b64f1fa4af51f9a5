import type { RunLimits } from '../core/run-limits';
import type { CaptureOptions } from './capture-options';

/**
 * Whether each option of a capture can be sent to another process as JSON, where its results then are (patterns of `layers` need a
 * form of their own). Functions can't, and memory of a device belongs to its process.
 */
const IS_JSON = {
  layers: true,
  heads: true,
  queries: true,
  averageHeads: true,
  topK: true,
  weights: true,
  scores: true,
  logSumExp: true,
  statistics: true,
  exact: true,
  device: false,
  dtype: true,
  maxBytes: true,
  gradientOf: false,
  onAttention: false,
} as const satisfies Record<Exclude<keyof CaptureOptions, keyof RunLimits>, boolean>;

type JsonName = {
  [Name in keyof typeof IS_JSON]: (typeof IS_JSON)[Name] extends true ? Name : never;
}[keyof typeof IS_JSON];

/** The options of a capture that can be sent to another process. */
export type JsonCaptureOptions = Pick<CaptureOptions, JsonName>;

export const JSON_CAPTURE_OPTIONS = (Object.keys(IS_JSON) as (keyof typeof IS_JSON)[]).filter(
  (name): name is JsonName => IS_JSON[name],
);
