import { isNativeError } from 'node:util/types';
import { load, loadAddon } from '../libtorch/load';
import { type ErrorCode, TorchError } from './errors';
import { adopt, noteRealm } from './realm';
import type { Unseen } from './unseen';
import { reasonOf } from './validate';

/** The raw addon as C++ defines it. Nothing outside this file's importers sees these shapes. */
export interface NativeTensor {
  shape(): number[];
  dtype(): string;
  /** Bytes of an element, also of types that lib/core/dtype.ts lacks. */
  itemSize(): number;
  device(): string;
  requiresGrad(): boolean;
  setRequiresGrad(value: boolean): void;
  grad(): NativeTensor | null;
  isDisposed(): boolean;
  toTypedArray(): NativeTypedArray;
  /** Converts the elements to float32, in row-major order, and writes them to an array of as many. */
  copyTo(target: Float32Array): void;
  data(): Promise<NativeTypedArray>;
  to(device: string | undefined, dtype: string | undefined): NativeTensor;
  item(): number | bigint | boolean | [real: number, imaginary: number];
  backward(gradient: NativeTensor | undefined, cancellation?: NativeCancellation): Promise<void>;
  apply(operation: string, ...args: unknown[]): NativeTensor;
  dispose(): void;
}

export type NativeTypedArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array;

export interface NativeCancellation {
  request(): void;
}

/**
 * A function that a running model calls while it waits. It never throws: it returns nothing, or what it failed with (0 for
 * nothing) and its value, or, where they come later, a function that is called with who waits for them.
 */
export type NativeCallback = (...values: unknown[]) => NativeAnswer;
export type NativeAnswer =
  | undefined
  | [failure: NativeFailure | 0, value?: unknown]
  | ((settle: (failure: NativeFailure | 0, value?: unknown) => void) => void);

/** What a function threw. The addon holds it until the run that called the function is over. */
export interface NativeFailure {
  readonly thrown: unknown;
}

export interface NativeHook {
  calls(): number;
  /** Whether a run has come to it; a backward hook fires later than that. */
  reached(): boolean;
  record(): { input: unknown[]; output?: unknown[] } | null;
}

/** A value without a form in JavaScript. */
export interface NativeScriptObject {
  type(): string;
}

export interface NativeRunOptions {
  method?: string; // of checkpoints
  inputNames?: readonly string[]; // of modules of nn, for their errors
  named?: Record<string, unknown>; // of modules of nn: tensors and flags by name
  needWeights?: boolean; // of modules of nn: their attentions return their weights in this run
  grad?: boolean;
  insideHook?: boolean;
  cancellation?: NativeCancellation | undefined;
}

/** What a run without a capture is called with; `options` are read of modules of nn alone. */
export type NativeRequest = [
  inputs: unknown[],
  options?: NativeRunOptions,
  method?: string,
  grad?: boolean,
  insideHook?: boolean,
  cancellation?: NativeCancellation,
];

export interface NativeCaptureOptions extends NativeRunOptions {
  layers?: ({ label: string; position: number } | { label: string; names: string[] })[];
  heads?: number[];
  queries?: number[] | { start: number; end: number };
  averageHeads?: boolean;
  onAttention?: NativeCallback;
  topK?: number;
  weights?: boolean;
  scores?: boolean;
  logSumExp?: boolean;
  statistics?: ('received' | 'entropy')[];
  exact?: boolean;
  sameDevice?: boolean;
  /** Of weights and scores; 'linear' and 'log' are the scales of codes. */
  dtype?: 'float32' | 'same' | 'float16' | 'linear' | 'log';
  sitesOnly?: boolean;
  gradients?: boolean;
  mayMiss?: boolean;
  maxBytes?: number;
}

/** An attention; its tensors, of which those are there that were asked for, as the addon's or as users get them. */
export interface NativeAttention<Each = NativeTensor> {
  index: number;
  name: string;
  operator: string;
  heads: number[];
  queries: number[];
  weights?: Each;
  keys?: Each;
  scores?: Each;
  logSumExp?: Each;
  received?: Each;
  entropy?: Each;
  path: string[];
  kind: 'softmax' | 'unnormalized' | 'signed' | 'sigmoid' | 'relu';
  shape: number[];
  headsKnown: boolean;
  dtype: string;
  device: string;
  /** Of weights that are codes. */
  scale?: 'linear' | 'log';
}

/** What a capture gives: `weights` of the attentions are absent where only sites were asked for. */
export interface NativeCapture {
  output: unknown;
  attentions: NativeAttention[];
  /** What looked like attention and isn't among them. */
  unseen: Unseen[];
  /** Where no attention was seen at all: what to say of that. */
  noAttention?: string;
  gradients?: NativeGradients;
  /** With `mayMiss`: the labels of selected layers that computed no attention, and the queries of the last attention. */
  missing?: string[];
  queries?: number;
}

/** What of a forward a capture of tensors takes. `modules`: dotted names. */
export interface NativeTensorCaptureOptions extends NativeRunOptions {
  modules?: readonly string[];
  operator?: string;
  occurrence?: number;
  sameDevice?: boolean;
  sameDtype?: boolean;
  maxBytes?: number;
}

export interface NativeTensorCapture {
  output: unknown;
  tensors: { name: string; operator: string; occurrence: number; output: number; tensor: NativeTensor }[];
}

export interface NativeGradients {
  of(scalar: NativeTensor, cancellation: NativeCancellation | undefined): Promise<NativeTensor[]>;
}

export interface NativeSignature {
  parameters: { name: string; type: string; optional: boolean }[];
  returns: string;
}

/** How flat values form others. */
export interface NativePytree {
  kind: 'leaf' | 'sequence' | 'namedtuple' | 'mapping' | 'object';
  type: string;
  names: string[];
  /** Fields of an object that were None when the program was exported: they have no leaf. */
  absent: string[];
  children: NativePytree[];
}

/** One value that a program takes or gives, by itself. */
export interface NativeLeaf {
  name: string;
  type: string;
  dtype?: string;
  shape: (number | string)[];
  constant?: unknown;
}

export interface NativeExportedProgram {
  inputs: NativeLeaf[];
  outputs: NativeLeaf[];
  inputTree: NativePytree;
  outputTree: NativePytree;
  argumentNames: string[];
  symbols: { name: string; min: number; max: number }[];
  /** The minor version of the file's format, 8.x. */
  schemaMinor: number;
}

/** A module of a program, and what hooks on it can be given. */
export interface NativeProgramModule {
  name: string;
  type: string;
  hookable: 'exact' | 'single' | false;
  /** Whether they are known. */
  inputs: boolean;
  outputs: boolean;
  /** Whether no tensor stands for several of them. */
  separate: boolean;
  /** Of the positional arguments, and of what the module gives, where its signature is known. */
  inputTree?: NativePytree;
  outputTree?: NativePytree;
}

/** A node of a program's graph. */
export interface NativeProgramNode {
  name: string;
  operator: string;
  module: string;
}

/** A model of any kind. Its class can only be made by the addon. */
export interface NativeModel {
  run(...request: NativeRequest): Promise<unknown>;
  /** The same on the calling thread. */
  runBlocking(...request: NativeRequest): unknown;
  capture(inputs: unknown[], options: NativeCaptureOptions): Promise<NativeCapture>;
  captureTensors(inputs: unknown[], options: NativeTensorCaptureOptions): Promise<NativeTensorCapture>;
  modules(): { name: string; type: string }[];
  parameters(): { name: string; tensor: NativeTensor }[];
  stateDict(): { name: string; tensor: NativeTensor }[];
  methods(): string[];
  /** Null for a model whose inputs are tensors (of nn). */
  signature(method: string): NativeSignature | null;
  to(device: string): Promise<void>;
  settled(): Promise<void>;
  addHook(path: string, hook: NativeHook): void;
  removeHook(path: string, hook: NativeHook): void;
  dispose(): void;
}

export interface Binding {
  NativeTensor: {
    readonly prototype: NativeTensor;
    [Symbol.hasInstance](value: unknown): boolean;
    from(data: ArrayBufferView, shape: readonly number[], dtype: string, device: string): NativeTensor;
    on(data: ArrayBufferView, shape: readonly number[], dtype: string): NativeTensor;
    zeros(shape: readonly number[], dtype: string, device: string): NativeTensor;
  };
  NativeScriptObject: { readonly prototype: NativeScriptObject; [Symbol.hasInstance](value: unknown): boolean };
  /** How deep values may be nested. */
  maximumDepth: number;
  NativeCancellation: new (
    mayBeRequested: boolean,
    milliseconds: number | undefined,
    bytes: number | undefined,
  ) => NativeCancellation;
  NativeHook: new (kind: string, callback: NativeCallback | undefined, module: string) => NativeHook;
  NativeModel: { readonly prototype: NativeModel };
  loadScriptModule(
    source: string | Uint8Array,
    options: {
      device: string;
      dtype?: string;
      optimize: boolean;
      fuse?: boolean;
      untrusted: boolean;
      verify: boolean;
      cancellation: NativeCancellation | undefined;
    },
  ): Promise<NativeModel>;
  loadExportedProgram(
    source: string | Uint8Array,
    options: {
      device: string;
      dtype?: string;
      optimize: boolean;
      untrusted: boolean;
      verify: boolean;
      cancellation: NativeCancellation | undefined;
    },
  ): Promise<NativeModel>;
  modulesOfExportedProgram(program: NativeModel): NativeProgramModule[];
  nodesOfExportedProgram(program: NativeModel): NativeProgramNode[];
  describeExportedProgram(program: NativeModel): NativeExportedProgram;
  attentionRollout(weights: NativeTensor[], fusion: string): NativeTensor;
  attentionRelevance(weights: NativeTensor[], gradients: NativeTensor[]): NativeTensor;
  /** Codes of weights as float32, by a table of what each stands for. */
  decodeWeights(codes: NativeTensor, table: NativeTensor): NativeTensor;
  stackRows(parts: NativeTensor[][], fill: number): Promise<NativeTensor[]>;
  createNnModule(
    type: string,
    options: object,
    parts: {
      layer?: NativeModel | undefined;
      norm?: NativeModel | undefined;
      customEncoder?: NativeModel | undefined;
      customDecoder?: NativeModel | undefined;
    },
  ): NativeModel;
  loadNnParameters(module: NativeModel, names: string[], tensors: NativeTensor[]): Promise<void>;
  isTraining(module: NativeModel): boolean;
  train(module: NativeModel, mode: boolean): void;
  needsWeights(module: NativeModel): boolean;
  setNeedWeights(module: NativeModel, need: boolean): void;
  loadOperators(path: string): void;
  /** What `loadOperators` has loaded, by any thread of this process. */
  loadedOperators(): string[];
  setNumThreads(count: number): void;
  getNumThreads(): number;
  setConcurrency(count: number): void;
  getConcurrency(): number;
  watchExit(): void;
  releaseMemory(): void;
  manualSeed(seed: number): void;
  devices(): string[];
  buildInfo(): { libtorch: string; config: string; hasCuda: boolean };
  /** The addon's own tables of what this layer has tables of as well. */
  tables(): { dtypes: { name: string; bytes: number }[]; captureOptions: string[] };
}

let loaded: Binding | undefined;

/** The addon, loaded with the libtorch it needs on first use. */
export function binding(): Binding {
  if (loaded) return loaded;
  const addon = loadAddon() as Binding;
  noteRealm(addon.tables());
  // What the addon and libtorch destroy at the end of the process must stay while a model still runs.
  process.once('exit', () => addon.watchExit());
  loaded = addon;
  return addon;
}

/** Whether an error is a run that stopped because its signal asked for it. */
export function isCancelled(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'CANCELLED';
}

/** What the addon threw, as an error of this package with the JavaScript stack of the call. */
export function fromNative(error: unknown): unknown {
  // Not `instanceof Error`: the addon's errors belong to the realm that loaded it, which a test runner may not be in.
  if (error instanceof TorchError || !isNativeError(error)) return error;
  const { code, nativeStack, failure } = error as Error & {
    code?: string;
    nativeStack?: string;
    failure?: NativeFailure;
  };
  if (!code?.startsWith('ERR_')) return error;
  const details: { nativeStack?: string; cause?: unknown } = {};
  let { message } = error;
  if (nativeStack !== undefined) details.nativeStack = nativeStack;
  if (failure) {
    details.cause = failure.thrown;
    message += `: ${reasonOf(details.cause)}`;
  }
  if (code === 'ERR_DEVICE_UNAVAILABLE' && load().withoutCuda !== null) message += `: ${load().withoutCuda}`;
  return new TorchError(code as ErrorCode, message, details);
}

/** Calls into the addon, with its errors converted. */
export function native<Result>(call: (addon: Binding) => Result): Result {
  try {
    return adopt(call(binding()));
  } catch (error) {
    throw fromNative(error);
  }
}
