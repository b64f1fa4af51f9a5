import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../lib/formats/safetensors';
import { type DType, ScriptModule, type Value } from '../../lib/index';
import { bits, build, rounded } from './model-fixtures';

/** The folder of exported programs; scripts/make_exported_fixtures.py says what the manifest has. */
export const EXPORTED = join(__dirname, '..', 'fixtures', 'exported');

export interface ExportedRun {
  inputs: unknown[];
  kwargs: Record<string, unknown>;
  output: unknown;
  /** Of TorchScript of the same model. */
  script?: unknown;
  buffers?: Record<string, unknown>;
  gradients?: Record<string, unknown>;
}

export interface ExportedCase {
  name: string;
  runs: ExportedRun[];
  attentions: { name: string; weights: string }[];
  tolerance: number;
}

export const cases = JSON.parse(readFileSync(join(EXPORTED, 'exported.json'), 'utf8')) as ExportedCase[];

export function exportedCase(name: string): ExportedCase {
  const found = cases.find((each) => each.name === name);
  if (!found) throw new Error(`no case ${name}`);
  return found;
}

export const programPath = (name: string): string => join(EXPORTED, `${name}.pt2`);

type Tensors = Parameters<typeof build>[1];

export async function exportedTensors(name: string): Promise<Tensors> {
  const { entries } = await readSafetensors(join(EXPORTED, `${name}.safetensors`));
  return new Map(
    entries.map((entry) => [entry.name, entry as { dtype: DType; shape: readonly number[]; data: unknown }]),
  );
}

/** A run's inputs with tensors of their own: a program may write into them. */
export function inputsOfRun(run: ExportedRun, tensors: Tensors): { inputs: Value[]; kwargs: Record<string, Value> } {
  return {
    inputs: build(run.inputs, tensors) as Value[],
    kwargs: build(run.kwargs, tensors) as Record<string, Value>,
  };
}

let sameKernels: Promise<boolean> | undefined;

/**
 * Whether libtorch computes here as where the fixtures were made: it picks kernels by the processor, and theirs differ in
 * the last bits. Told by a TorchScript model, at three sizes.
 */
async function hasSameKernels(): Promise<boolean> {
  const name = 'three_kinds';
  using script = await ScriptModule.load(join(EXPORTED, `${name}.pt`));
  const tensors = await exportedTensors(name);
  for (const run of exportedCase(name).runs) {
    const output = await script.forward(inputsOfRun(run, tensors).inputs);
    if (bits(output) !== bits(build(run.script, tensors))) return false;
  }
  return true;
}

/** A value with its tensors replaced by type and shape. */
/** Expects the bits that Python computed; on a processor with other kernels the same but for rounding. */
export async function expectBits(actual: Value, expected: Value): Promise<void> {
  sameKernels ??= hasSameKernels();
  const compared = (await sameKernels) ? bits : rounded;
  expect(compared(actual)).toEqual(compared(expected));
}
