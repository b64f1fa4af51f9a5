import { TorchError } from '../core/errors';
import { checkFile, fileOf, type OpenFile, withFile } from '../formats/file';
import { FILE_KINDS, type FileKind, kindOfFile } from '../formats/kind-of-file';
import { sourceOf } from '../formats/source';

/** What was given, by its content; undefined where the loader of TorchScript says better what is wrong with it. */
export async function kindOfSource(source: unknown): Promise<FileKind | 'unknown' | undefined> {
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

const AS_STATE = 'its tensors can be loaded into a module of nn by loadStateDict';
const FROM_PYTORCH = 'export the PyTorch model that it was made of with torch.export.export';

/** What to do with a file of another kind. */
const ADVICE: Partial<Record<FileKind, string>> = {
  'torch-save': AS_STATE,
  'torch-save-legacy': AS_STATE,
  safetensors: AS_STATE,
  onnx: FROM_PYTORCH,
  tflite: FROM_PYTORCH,
  executorch: FROM_PYTORCH,
};

/** What was received, for an error, with what to do. */
export function describeKind(kind: FileKind | 'unknown'): string {
  if (kind === 'unknown') return 'a file of no known kind';
  const advice = ADVICE[kind];
  return `${FILE_KINDS[kind]}${advice ? `; ${advice}` : ''}`;
}

/** Zip archives: loaders look into those themselves. */
const ARCHIVES: ReadonlySet<FileKind> = new Set<FileKind>(['torch-script', 'torch-save', 'npz', 'zip']);

/** The error of a load that failed; where what was given is known to be of another kind than `expected`, one that says so. */
export async function withKindOfSource(error: unknown, source: unknown, expected: FileKind): Promise<unknown> {
  if (!(error instanceof TorchError) || error.code !== 'ERR_MODEL_LOAD') return error;
  const kind = await kindOfSource(source).catch(() => undefined);
  if (kind === undefined || kind === 'unknown' || kind === expected || ARCHIVES.has(kind)) return error;
  const isProgram = kind === 'exported-program';
  return new TorchError(
    isProgram ? 'ERR_MODEL_LOAD' : 'ERR_UNSUPPORTED_FILE',
    `Expected ${FILE_KINDS[expected]} but received ${describeKind(kind)}${isProgram ? ': load it with ExportedProgram.load, or loadModel' : ''}`,
    { cause: error },
  );
}
