import { TorchError } from '../core/errors';
import type { Value } from '../core/value';
import type { ModelSource } from '../formats/source';
import { ExportedProgram } from './exported-program';
import { describeKind, kindOfSource } from './kind-of-source';
import type { LoadOptions } from './load-options';
import { ScriptModule } from './script-module';

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
    throw new TorchError(
      'ERR_UNSUPPORTED_FILE',
      `Expected a TorchScript archive (torch.jit.save) or a program of torch.export but received ${describeKind(kind)}`,
    );
  }
  return await ScriptModule.load(source, options);
}
