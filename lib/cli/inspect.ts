import { basename } from 'node:path';
import type { Command } from 'commander';
import { TorchError } from '../core/errors';
import { elementCount } from '../core/shape';
import type { AttentionSite, HookKind, ProgramSignature, ProgramValue, Signature, Unseen } from '../index';
import { toValue } from '../io/entry-values';
import type { FlatModel } from '../io/flat-model';
import { readInputs } from '../io/input-files';
import { arrangeInputs, describeOrder } from '../io/parameters';
import { addModelOptions, limitsOf, type ModelOptions, progress, withModel } from './model';
import { parseCount } from './selection';
import { formatTable } from './table';
import { reportUnseen } from './unseen';

interface InspectOptions extends ModelOptions {
  json?: boolean;
  inputs?: string;
  depth?: number;
}

/** What `inspect` says about a checkpoint; with --json as it stands here. */
interface Inspection {
  file: string;
  /** Of a TorchScript file. */
  forward?: Signature;
  /** Of a program of torch.export. */
  program?: ProgramSignature;
  /** Parameters in all, and of each dtype. */
  parameters: number;
  dtypes: Record<string, number>;
  /** In the order of Python's named_modules(); `parameters` counts those of submodules too, `hooks` are those that a module of a program takes. */
  modules: { name: string; type: string; parameters: number; hooks?: HookKind[] }[];
  /** Of a program: how often each is in its graph. */
  operators?: Record<string, number>;
  attentionSites?: AttentionSite[];
  /** What looks like attention and can't be recorded. */
  unseen?: Unseen[];
}

/** Adds `inspect`: what is in a checkpoint. */
export function registerInspect(program: Command): void {
  const command = program
    .command('inspect')
    .description("show a checkpoint's modules, parameters and forward method, and where its attention is")
    .argument('<model>', 'a TorchScript file or a program of torch.export (.pt2)')
    .option('--inputs <file>', 'run the model on these (.safetensors, .npz, .json) and list its attention calls')
    .option('--depth <n>', 'list modules down to this depth only', parseCount)
    .option('--json', 'write everything as JSON');
  addModelOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  libtorch-attention inspect model.pt
  libtorch-attention inspect model.pt --depth 3
  libtorch-attention inspect model.pt --inputs inputs.safetensors
  libtorch-attention inspect model.pt --json`,
    )
    .action(async (path: string, options: InspectOptions) => {
      const inspection = await withModel(path, options, (model) => inspect(path, model, options));
      process.stdout.write(`${options.json ? JSON.stringify(inspection, null, 2) : report(inspection, options)}\n`);
    });
}

async function inspect(path: string, model: FlatModel, options: InspectOptions): Promise<Inspection> {
  const tensors = model.namedParameters().map(({ name, tensor }) => {
    const described = { name, dtype: tensor.dtype, count: elementCount(tensor.shape) };
    tensor.dispose();
    return described;
  });
  const dtypes: Record<string, number> = {};
  for (const { dtype, count } of tensors) dtypes[dtype] = (dtypes[dtype] ?? 0) + count;
  const within = (name: string) => tensors.filter((tensor) => name === '' || tensor.name.startsWith(`${name}.`));
  const sum = (counts: readonly { count: number }[]) => counts.reduce((total, { count }) => total + count, 0);
  const inspection: Inspection = {
    file: path,
    ...model.signature,
    parameters: sum(tensors),
    dtypes,
    modules: model.modules().map(({ name, type, hooks }) => ({
      name,
      type,
      parameters: sum(within(name)),
      ...(hooks && { hooks }),
    })),
    ...(model.operators && { operators: model.operators() }),
  };
  if (options.inputs) {
    const sites = await findSites(model, options.inputs, options);
    inspection.attentionSites = [...sites];
    inspection.unseen = sites.unseen;
  }
  return inspection;
}

async function findSites(
  model: FlatModel,
  inputs: string,
  options: ModelOptions,
): Promise<AttentionSite[] & { unseen: Unseen[] }> {
  const entries = await readInputs(inputs);
  const { parameters } = model;
  const note = describeOrder(entries, parameters);
  if (note) process.stderr.write(`${note}\n`);
  progress('running the model …');
  const values = arrangeInputs(entries, parameters).map((entry, i) => toValue(entry, parameters[i], options.device));
  try {
    return await model.attentionSites(values, limitsOf(options));
  } catch (error) {
    // A model without attention has everything else that is shown.
    if (!(error instanceof TorchError) || error.code !== 'ERR_NO_ATTENTION') throw error;
    return Object.assign([], { unseen: [...(error.unseen ?? [])] });
  }
}

function report(inspection: Inspection, { depth = Number.POSITIVE_INFINITY }: InspectOptions): string {
  const { file, forward, program, parameters, dtypes, modules, operators, attentionSites } = inspection;
  const byType = Object.entries(dtypes).map(([dtype, count]) => `${count.toLocaleString('en')} ${dtype}`);
  const depthOf = (name: string) => (name === '' ? 0 : name.split('.').length);
  const tree = modules
    .filter(({ name }) => depthOf(name) <= depth)
    .map(({ name, type, parameters: count, hooks }) => {
      const last = name.split('.').at(-1);
      const cells = ['  '.repeat(depthOf(name)) + (last || basename(file)), type, count];
      return hooks ? [...cells, hooks.join(' ')] : cells;
    });
  const parts = [
    `${basename(file)}: ${parameters.toLocaleString('en')} parameters${byType.length > 1 ? ` (${byType.join(', ')})` : ''}${
      byType.length === 1 ? `, all ${Object.keys(dtypes)[0]}` : ''
    }`,
    ...(forward ? [reportForward(forward)] : []),
    ...(program ? [reportProgram(program)] : []),
    formatTable(['module', 'type', 'parameters', ...(program ? ['hooks'] : [])], tree),
    ...(operators ? [formatTable(['operator', 'in the graph'], Object.entries(operators))] : []),
  ];
  if (attentionSites) parts.push(reportSites(attentionSites), ...reportUnseen(inspection.unseen ?? []));
  return parts.join('\n\n');
}

function reportForward({ parameters, returns }: Signature): string {
  const lines = parameters.map(({ name, type, optional }) => `  ${name}: ${type}${optional ? ' (optional)' : ''}`);
  return ['forward(', ...lines, `) -> ${returns}`].join('\n');
}

function reportProgram({ inputs, outputs, symbols }: ProgramSignature): string {
  const line = ({ name, dtype, shape, constant }: ProgramValue) =>
    `  ${name}: ${dtype}${shape.length || constant === undefined ? shapeOf(dtype, shape) : ` = ${JSON.stringify(constant)}`}`;
  const ranges = Object.entries(symbols).map(
    ([name, { min, max }]) => `  ${name} from ${min}${max < Number.POSITIVE_INFINITY ? ` to ${max}` : ''}`,
  );
  return [
    ['inputs', ...inputs.map(line)],
    ['outputs', ...outputs.map(line)],
    ...(ranges.length > 0 ? [['sizes', ...ranges]] : []),
  ]
    .map((lines) => lines.join('\n'))
    .join('\n');
}

/** The shape of a tensor; nothing for other values. */
function shapeOf(dtype: string, shape: readonly (number | string)[]): string {
  return /^(int|float|bool|str|NoneType)$/.test(dtype) ? '' : ` [${shape.join(', ')}]`;
}

function reportSites(sites: readonly AttentionSite[]): string {
  if (!sites.length) return 'No attention was seen in this run.';
  const shape = (site: AttentionSite) => `[${site.shape.join(', ')}]`;
  const rows = sites.map((site) => [String(site.index), site.name || '(no module left)', site.operator, shape(site)]);
  return formatTable(['attention', 'module', 'operator', 'shape […, H, Q, K]'], rows);
}
