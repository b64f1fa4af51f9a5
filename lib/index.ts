export type { Attention, AttentionSite } from './attention';
export type { AttentionStream } from './attention-stream';
export type { RunLimits } from './cancellable';
export type { CapturedInput, CaptureManyOptions } from './capture-many';
export type { CaptureOptions } from './capture-options';
export { type ErrorCode, TorchError } from './errors';
export {
  type AssembleOptions,
  assembleAttention,
  type GenerationAttention,
  type GenerationOptions,
  type GenerationStep,
  type NextInputs,
} from './generation';
export { type Hookable, HookedModel, type HookRecord } from './hooked-model';
export {
  type ForwardHook,
  type ForwardPreHook,
  type FullBackwardHook,
  type HookedModule,
  RemovableHandle,
} from './hooks';
export * as nn from './nn';
export { getOutputAndAttentionWeights } from './nn/output-and-attention-weights';
export { attentionRelevance, attentionRollout, type RolloutOptions } from './relevance';
export {
  devices,
  getConcurrency,
  getNumThreads,
  manualSeed,
  releaseMemory,
  setConcurrency,
  setNumThreads,
  versions,
} from './runtime';
export { type ForwardOptions, type LoadOptions, ScriptModule, type Signature } from './script-module';
export { ScriptObject } from './script-object';
export type { LoadResult, LoadStateDictOptions, StateDictSource } from './state-dict';
export {
  type Device,
  type DType,
  type NestedArray,
  Tensor,
  type TensorOptions,
  type TypedArray,
  type ZerosOptions,
} from './tensor';
export type { Value } from './value';
export { renderView, type ViewExample, type ViewOptions, writeAttentionView } from './view/render-view';
