/**
 * Models, tensors, captures, hooks and pictures: `import … from 'libtorch-attention'`.
 *
 * @module libtorch-attention
 */

export type {
  Attention,
  AttentionKind,
  AttentionSite,
  AttentionStatistics,
  AttentionWithoutWeights,
} from './capture/attention';
export type { AttentionStream } from './capture/attention-stream';
export type { CapturedInput, CaptureManyOptions, StreamOptions } from './capture/capture-many';
export type { CaptureOptions } from './capture/capture-options';
export type { CapturedTensor, TensorCaptureOptions, TensorSelector } from './capture/capture-tensor';
export type { CapturingModel as Model, InputWithOptions } from './capture/capturing-model';
export {
  type AssembleOptions,
  assembleAttention,
  type GenerationAttention,
  type GenerationOptions,
  type GenerationStep,
  type NextInputs,
  type StepAttention,
} from './capture/generation';
export { attentionRelevance, attentionRollout, type RolloutOptions } from './capture/relevance';
export type { FloatingDType } from './core/dtype';
export { type ErrorCode, TorchError } from './core/errors';
export { loadOperators } from './core/operators';
export type { RunLimits } from './core/run-limits';
export {
  devices,
  getConcurrency,
  getNumThreads,
  manualSeed,
  releaseMemory,
  setConcurrency,
  setNumThreads,
  versions,
} from './core/runtime';
export { ScriptObject } from './core/script-object';
export {
  type Device,
  type DType,
  type DTypeOf,
  type ElementOf,
  type NestedArray,
  type NestedElements,
  Tensor,
  type TensorContents,
  type TensorJson,
  type TensorOptions,
  type TypedArray,
  type TypedArrayOf,
  type ZerosOptions,
} from './core/tensor';
export type { Unseen } from './core/unseen';
export type { DictionaryKey, Value } from './core/value';
export type { FileUrl, ModelSource } from './formats/source';
export {
  ExportedProgram,
  type ProgramCallOptions,
  type ProgramModule,
  type ProgramSignature,
  type ProgramValue,
} from './model/exported-program';
export { HookedModel } from './model/hooked-model';
export type {
  ForwardHook,
  ForwardPreHook,
  FullBackwardHook,
  HookedModule,
  HookedNode,
  HookKind,
  HookRecord,
  NodeHook,
} from './model/hooks';
export { loadModel } from './model/load-model';
export type { LoadOptions } from './model/load-options';
export { RemovableHandle } from './model/removable-handle';
export type { RunOptions } from './model/run-options';
export { type ForwardOptions, ScriptModule, type Signature } from './model/script-module';
export type { LoadResult, LoadStateDictOptions, StateDictSource } from './model/state-dict';
/**
 * Transformer modules of libtorch, as PyTorch's `torch.nn` has them: options in camelCase, parameters by Python's names.
 *
 * @example
 * const layer = new nn.TransformerEncoderLayer({ dModel: 512, nhead: 8 });
 */
export * as nn from './nn';
export { getOutputAndAttentionWeights } from './nn/output-and-attention-weights';
export { renderView, type ViewExample, type ViewOptions, writeAttentionView } from './view/render-view';
