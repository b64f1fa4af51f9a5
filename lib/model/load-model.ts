import { TorchError } from '../core/errors';
import type { Value } from '../core/value';
import { checkFile, fileOf, type OpenFile, withFile } from '../formats/file';
import { FILE_KINDS, type FileKind, kindOfFile } from '../formats/kind-of-file';
import { type ModelSource, sourceOf } from '../formats/source';
import { ExportedProgram } from './exported-program';
import type { LoadOptions } from './load-options';
import { ScriptModule } from './script-module';

/** What was given, by its content; undefined where the loader of TorchScript says better what is wrong with it. */
async function kindOfSource(source: unknown): Promise<FileKind | 'unknown' | undefined> {
  const look = async (file: OpenFile): Promise<FileKind | 'unknown' | undefined> => {
    try {
      return (await kindOfFile(file)) ?? 'unknown';
    } catch {
      return undefined; // a broken archive
    }
  };
  const from = sourceOf(source);
  if ('path' in from) {
    await checkFile(from.path, 'ERR_MODEL_LOAD');
    return await withFile(from.path, look);
  }
  return from.bytes.length > 0 ? await look(fileOf(from.bytes, 'source')) : undefined;
}

/** What to do with a file of tensors. */
const ADVICE: Partial<Record<FileKind, string>> = {
  'torch-save': 'its tensors can be loaded into a module of nn by loadStateDict',
  'torch-save-legacy': 'its tensors can be loaded into a module of nn by loadStateDict',
  safetensors: 'they can be loaded into a module of nn by loadStateDict',
};

/**
 * Loads a model of any kind, which its content tells, whatever its name: a TorchScript archive, as `ScriptModule.load`, or a program of
 * `torch.export`, as `ExportedProgram.load`.
 *
 * @param source A path, a `file:` URL, or the bytes of the file.
 * @param options Those of the loader of that kind.
 * @returns A `ScriptModule` or an `ExportedProgram`.
 * @throws TorchError `ERR_UNSUPPORTED_FILE` for a file of another kind, which is named (weights alone, a compiled
 *   package, a model of another framework); otherwise as `ScriptModule.load` and `ExportedProgram.load`.
 *
 * @example
 * const loaded = await loadModel('model.pt', { device: 'cpu' });
 * const output = await loaded.forward([ids]);
 * console.log(output, (await loaded.captureAttention([ids], { layers: [-1] })).attentions.length);
 */
export async function loadModel<Inputs extends readonly Value[] = readonly Value[], Output extends Value = Value>(
  source: ModelSource,
  options?: LoadOptions,
): Promise<ScriptModule<Inputs, Output> | ExportedProgram<Inputs, Output>> {
  const kind = await kindOfSource(source);
  if (kind === 'exported-program') return await ExportedProgram.load(source, options);
  if (kind !== undefined && kind !== 'torch-script') {
    const received = kind === 'unknown' ? 'a file of no known kind' : FILE_KINDS[kind];
    const advice = kind === 'unknown' ? undefined : ADVICE[kind];
    throw new TorchError(
      'ERR_UNSUPPORTED_FILE',
      `Expected a TorchScript archive (torch.jit.save) or a program of torch.export but received ${received}${advice ? `; ${advice}` : ''}`,
    );
  }
  return await ScriptModule.load(source, options);
}
