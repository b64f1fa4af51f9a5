import type {
  Attention,
  AttentionSite,
  AttentionStream,
  CaptureOptions,
  ExportedProgram,
  HookKind,
  ProgramSignature,
  RunLimits,
  ScriptModule,
  Signature,
  Unseen,
  Value,
} from '../index';
import { loadPackage } from './package';
import type { Parameter } from './parameters';

/** A model of any kind, called with one flat list of values: those of forward's parameters, or the leaves of an exported program. */
export interface FlatModel {
  readonly parameters: readonly Parameter[];
  /** What `inspect` says of its forward. */
  readonly signature: { forward: Signature } | { program: ProgramSignature };
  /** `hooks` are the kinds that a module of a program takes. */
  modules(): { name: string; type: string; hooks?: HookKind[] }[];
  /** Of a program, how often each operator is in its graph, the most frequent first. */
  operators?(): Record<string, number>;
  namedParameters: ScriptModule['namedParameters'];
  forward(values: Value[], limits?: RunLimits): Promise<Value>;
  attentionSites(values: Value[], limits?: RunLimits): Promise<AttentionSite[] & { unseen: Unseen[] }>;
  captureAttention(
    values: Value[],
    options?: CaptureOptions,
  ): Promise<{ output: Value; attentions: Attention[]; unseen: Unseen[] }>;
  captureAttentionStream(
    values: Value[],
    options?: Omit<CaptureOptions, 'onAttention' | 'gradientOf'>,
  ): AttentionStream<Value>;
  dispose(): void;
}

function ofScript(model: ScriptModule): FlatModel {
  const forward = model.signature();
  return {
    parameters: forward.parameters,
    signature: { forward },
    modules: () => model.modules(),
    namedParameters: () => model.namedParameters(),
    forward: (values, limits) => model.forward(values, limits),
    attentionSites: (values, limits) => model.attentionSites(values, limits),
    captureAttention: (values, options) => model.captureAttention(values, options),
    captureAttentionStream: (values, options) => model.captureAttentionStream(values, options),
    dispose: () => model.dispose(),
  };
}

function operatorsOf(program: ExportedProgram): Record<string, number> {
  const counts = new Map<string, number>();
  for (const { operator } of program.nodes()) {
    if (operator !== 'placeholder') counts.set(operator, (counts.get(operator) ?? 0) + 1);
  }
  return Object.fromEntries([...counts].sort(([, one], [, other]) => other - one));
}

/** A program takes its leaves: those of caches and dictionaries have names of their own. */
function ofProgram(program: ExportedProgram): FlatModel {
  const signature = program.signature();
  const called = (values: Value[]) =>
    program.callOfLeaves(signature.inputs.map(({ constant }, i) => values[i] ?? constant));
  return {
    parameters: signature.inputs.map(({ name, dtype, constant }) => {
      const type = /^(int|float|bool|str|NoneType)$/.test(dtype) ? dtype : 'Tensor';
      return { name, type: constant === undefined ? type : `Optional[${type}]`, optional: constant !== undefined };
    }),
    signature: { program: signature },
    modules: () => program.modules(),
    operators: () => operatorsOf(program),
    namedParameters: () => program.namedParameters(),
    forward: (values, limits) => {
      const { inputs, kwargs } = called(values);
      return program.forward(inputs, { ...limits, kwargs });
    },
    attentionSites: (values, limits) => {
      const { inputs, kwargs } = called(values);
      return program.attentionSites(inputs, { ...limits, kwargs });
    },
    captureAttention: (values, options) => {
      const { inputs, kwargs } = called(values);
      return program.captureAttention(inputs, { ...options, kwargs });
    },
    captureAttentionStream: (values, options) => {
      const { inputs, kwargs } = called(values);
      return program.captureAttentionStream(inputs, { ...options, kwargs });
    },
    dispose: () => program.dispose(),
  };
}

/** A model of any kind, called with one flat list of values. */
export function flatModel(model: ScriptModule | ExportedProgram): FlatModel {
  return model instanceof loadPackage().ExportedProgram ? ofProgram(model) : ofScript(model);
}
