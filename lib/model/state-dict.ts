import { isMap } from 'node:util/types';
import { DTYPES, type DType, infoOf, isDType } from '../core/dtype';
import { TorchError } from '../core/errors';
import { handleOf, Tensor } from '../core/tensor';
import { invalid, isPlainObject, reading, shortened } from '../core/validate';
import { type Entry, malformed, type StateEntries } from '../formats/entry';
import { type OpenFile, withFile } from '../formats/file';
import type { Wanted } from '../formats/find-state-dict';
import { FILE_KINDS, kindOfFile } from '../formats/kind-of-file';
import { readSafetensorsBelow, writeSafetensors } from '../formats/safetensors';
import { type FileUrl, pathOf } from '../formats/source';
import { readTorchSave } from '../formats/torch-save';
import { readLegacyTorchSave } from '../formats/torch-save-legacy';
import { ExportedProgram } from './exported-program';
import { ScriptModule } from './script-module';

/**
 * Options of `loadStateDict`.
 *
 * @example
 * const options: LoadStateDictOptions = { prefix: 'transformer.encoder.', strict: false };
 */
export interface LoadStateDictOptions {
  /** Takes the names that begin with it, without it: `'model.transformer.encoder.'`. Default: all names. */
  prefix?: string;
  /** Whether names that are missing or unexpected are errors. Default true. */
  strict?: boolean;
  /**
   * Whether the CRC-32 of each record of a zip archive that is read is compared with the archive's. Default false; a
   * TorchScript archive, or a program of `torch.export`, is always loaded as `untrusted`, and so compared.
   */
  verify?: boolean;
}

/**
 * A path, a `file:` URL, or tensors by name.
 *
 * @example
 * const source: StateDictSource = { weight: Tensor.from([1, 1]), bias: Tensor.zeros([2]) };
 */
export type StateDictSource = string | FileUrl | Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>;

/**
 * What `loadStateDict` left as it was; both are empty with `strict`.
 *
 * @example
 * const result: LoadResult = await encoder.loadStateDict('model.safetensors', { strict: false });
 * if (result.missingKeys.length > 0) console.warn('not in the file:', result.missingKeys);
 */
export interface LoadResult {
  /** Parameters of the module that the source has no value for. */
  missingKeys: string[];
  /** Names below the prefix in the source that the module has no parameter for. */
  unexpectedKeys: string[];
}

/** The tensors of a checkpoint by name. */
export interface StateDict {
  tensors: Map<string, Tensor>;
  /** The dtypes of those that parameters can't be converted from. */
  foreign: Map<string, string>;
}

/** Whether parameters can be converted from a type: they are real, and nothing drops imaginary parts unasked. */
function isReal(dtype: string): dtype is DType {
  return isDType(dtype) && infoOf(dtype).kind !== 'complex';
}

function fromEntries({ entries, foreign }: StateEntries): StateDict {
  const state: StateDict = { tensors: new Map(), foreign: new Map(foreign) };
  for (const { name, dtype, shape, data } of entries) {
    if (isReal(dtype)) state.tensors.set(name, Tensor.from(data, { dtype, shape }));
    else state.foreign.set(name, dtype);
  }
  return state;
}

function fromTensors(given: Iterable<readonly [string, Tensor]>): StateDict {
  const state: StateDict = { tensors: new Map(), foreign: new Map() };
  for (const [name, tensor] of given) {
    if (isReal(tensor.dtype)) state.tensors.set(name, tensor);
    else state.foreign.set(name, tensor.dtype);
  }
  return state;
}

/** Tensors by name as they were given, each read once. */
function givenTensors(source: unknown): [string, Tensor][] {
  return reading('source', () => {
    const given: [unknown, unknown][] = [];
    if (isMap(source)) Map.prototype.forEach.call(source, (tensor, name) => given.push([name, tensor]));
    else if (isPlainObject(source)) given.push(...Object.entries(source));
    else throw invalid('a path, or an object or a Map of tensors', 'source', source);
    for (const [name, tensor] of given) {
      if (typeof name !== 'string') throw invalid('a string', 'a key of source', name);
      handleOf(tensor, `source['${shortened(name)}']`);
    }
    return given as [string, Tensor][];
  });
}

/**
 * The tensors of a checkpoint by name: a TorchScript archive, a program of `torch.export`, a `.safetensors` file, what `torch.save` wrote, or an
 * object or a Map of tensors. What isn't below the wanted prefix may be left out.
 *
 * @throws TorchError `ERR_MODEL_LOAD` where the file is none of these.
 */
export async function readStateDict(source: StateDictSource, wanted: Wanted, verify: boolean): Promise<StateDict> {
  const path = pathOf(source);
  if (path === undefined) return fromTensors(givenTensors(source));
  try {
    return await withFile(path, (file) => readFile(file, wanted, verify));
  } catch (error) {
    if (error instanceof TorchError && error.code !== 'ERR_INVALID_ARGUMENT') throw error;
    throw new TorchError(
      'ERR_MODEL_LOAD',
      `Expected a checkpoint at '${shortened(path.replaceAll('\0', '\\0'))}': ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}

async function readFile(file: OpenFile, wanted: Wanted, verify: boolean): Promise<StateDict> {
  const kind = await kindOfFile(file);
  switch (kind) {
    case 'torch-script':
    case 'exported-program': {
      const model = await loadForItsTensors(file.path, kind, verify);
      try {
        return fromTensors(Object.entries(model.stateDict()));
      } finally {
        model.dispose();
      }
    }
    case 'torch-save':
      return fromEntries(await readTorchSave(file, wanted, verify));
    case 'torch-save-legacy':
      return fromEntries(await readLegacyTorchSave(file, wanted));
    case 'safetensors':
    case undefined: // what is wrong with it says the reader of the simplest format
      return fromEntries(await readSafetensorsBelow(file, wanted.prefix));
    default:
      throw malformed(shortened(file.path), 'tensors by name', FILE_KINDS[kind]);
  }
}

/** An archive is a program, but a file of tensors executes nothing: what `untrusted` refuses is refused here as well. */
async function loadForItsTensors(
  path: string,
  kind: 'torch-script' | 'exported-program',
  verify: boolean,
): Promise<ScriptModule | ExportedProgram> {
  const Kind = kind === 'torch-script' ? ScriptModule : ExportedProgram;
  try {
    return await Kind.load(path, { untrusted: true, verify, timeLimit: Number.POSITIVE_INFINITY });
  } catch (error) {
    if ((error as Partial<TorchError>).code !== 'ERR_UNTRUSTED') throw error;
    throw new TorchError(
      'ERR_UNTRUSTED',
      `${(error as TorchError).message}; where you trust it, load it by ${Kind.name}.load and give its stateDict()`,
      { cause: error },
    );
  }
}

/**
 * Finds the value of each parameter among the tensors of a checkpoint.
 *
 * @throws TorchError `ERR_MODEL_LOAD` with all names that are missing, unexpected, of another shape or of a dtype that can't
 *   be converted.
 */
export function matchStateDict(
  given: StateDict,
  parameters: readonly { name: string; tensor: Tensor }[],
  { prefix, strict }: { prefix: string; strict: boolean },
): { values: Map<string, Tensor>; result: LoadResult } {
  const below = new Map<string, Tensor | string>();
  for (const [name, value] of [...given.tensors, ...given.foreign]) {
    if (name.startsWith(prefix)) below.set(name.slice(prefix.length), value);
  }
  const values = new Map<string, Tensor>();
  const missingKeys: string[] = [];
  const wrong: string[] = [];
  const foreign: string[] = [];
  for (const { name, tensor } of parameters) {
    const value = below.get(name);
    if (value === undefined) {
      missingKeys.push(name);
    } else if (typeof value === 'string') {
      foreign.push(`${name} (${value})`);
    } else if (value.shape.join() !== tensor.shape.join()) {
      wrong.push(`${name} ([${tensor.shape.join(', ')}], received [${value.shape.join(', ')}])`);
    } else {
      values.set(name, value);
    }
  }
  const known = new Set(parameters.map(({ name }) => name));
  const unexpected = [...below].filter(([name]) => !known.has(name));
  const problems: string[] = [];
  if (strict && missingKeys.length > 0) problems.push(`missing: ${missingKeys.join(', ')}`);
  if (strict && unexpected.length > 0) {
    const shown = unexpected.map(([name, value]) => (typeof value === 'string' ? `${name} (${value})` : name));
    problems.push(`unexpected: ${shown.join(', ')}`);
  }
  if (wrong.length > 0) problems.push(`of another shape: ${wrong.join(', ')}`);
  if (foreign.length > 0) problems.push(`of a dtype that isn't converted: ${foreign.join(', ')}`);
  if (problems.length > 0) {
    const where = prefix === '' ? '' : ` below '${prefix}'`;
    throw new TorchError(
      'ERR_MODEL_LOAD',
      `Expected the ${parameters.length} parameters of this module${where} but received a state dictionary with names\n  ` +
        problems.join('\n  '),
    );
  }
  return { values, result: { missingKeys, unexpectedKeys: unexpected.map(([name]) => name) } };
}

/** Writes tensors to a `.safetensors` file. */
export async function saveStateDict(path: string, tensors: Readonly<Record<string, Tensor>>): Promise<void> {
  const entries: Entry[] = [];
  for (const [name, tensor] of Object.entries(tensors)) {
    // The addon's arrays belong to the realm that loaded it: the writer wants those of its own.
    const { buffer, byteOffset, length } = await tensor.data();
    const data = new DTYPES[tensor.dtype].array(buffer as ArrayBuffer, byteOffset, length);
    entries.push({ name, dtype: tensor.dtype, shape: [...tensor.shape], data });
  }
  await writeSafetensors(path, entries, { format: 'pt' });
}
