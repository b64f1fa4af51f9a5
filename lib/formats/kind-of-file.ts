import type { OpenFile } from './file';
import { withArchive } from './zip';

/** What files hold that programs here read, or know by sight; told by their content alone. */
export type FileKind =
  | 'torch-script'
  | 'exported-program'
  | 'torch-save'
  | 'torch-save-legacy'
  | 'npz'
  | 'zip'
  | 'safetensors'
  | 'gguf'
  | 'hdf5'
  | 'onnx'
  | 'tflite'
  | 'executorch';

/** What each is called in errors. */
export const FILE_KINDS: Record<FileKind, string> = {
  'torch-script': 'a TorchScript archive',
  'exported-program': 'a program exported by torch.export (.pt2)',
  'torch-save': 'what torch.save wrote: tensors, or a module of Python',
  'torch-save-legacy': 'what torch.save wrote before PyTorch 1.6, or another pickle',
  npz: 'a NumPy archive (.npz)',
  zip: 'a zip archive of something else',
  safetensors: 'a .safetensors file: tensors alone',
  gguf: 'a GGUF file',
  hdf5: 'an HDF5 file',
  onnx: 'an ONNX model',
  tflite: 'a TensorFlow Lite model',
  executorch: 'a program compiled for ExecuTorch (.pte)',
};

async function kindOfArchive(file: OpenFile): Promise<FileKind> {
  return await withArchive(file, { verify: false, expected: 'a zip archive' }, async ({ names }) => {
    const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
    if (has(/^[^/]+\/constants\.pkl$/)) return 'torch-script';
    // The second is that of torch.export before PyTorch 2.8.
    if (has(/^[^/]+\/archive_format$/) || has(/^serialized_exported_program\.json$/)) return 'exported-program';
    if (has(/^[^/]+\/data\.pkl$/)) return 'torch-save';
    return names.length > 0 && names.every((name) => name.endsWith('.npy')) ? 'npz' : 'zip';
  });
}

/** ONNX is a protocol buffer without a mark of its own: its version comes first, then one of the fields behind that. */
function isOnnx(start: string): boolean {
  const [tag, version, next] = [0, 1, 2].map((i) => start.charCodeAt(i)) as [number, number, number];
  return tag === 0x08 && version > 0 && version < 0x20 && [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42].includes(next);
}

/**
 * Tells what a file is; undefined for one that nobody here knows.
 *
 * @throws {TorchError} ERR_INVALID_ARGUMENT for a zip archive that can't be read.
 */
export async function kindOfFile(file: OpenFile): Promise<FileKind | undefined> {
  const start = Buffer.from(await file.read(0, Math.min(9, file.size))).toString('latin1');
  if (start.startsWith('PK\x03\x04')) return await kindOfArchive(file);
  if (start.startsWith('GGUF')) return 'gguf';
  if (start.startsWith('\x89HDF\r\n')) return 'hdf5';
  if (start.startsWith('TFL3', 4)) return 'tflite';
  if (start.startsWith('ET12', 4)) return 'executorch';
  if (isOnnx(start)) return 'onnx';
  // The length of a safetensors header can look like the beginning of a pickle; the header itself follows.
  if (start[8] === '{') return 'safetensors';
  return start[0] === '\x80' && start.charCodeAt(1) <= 5 ? 'torch-save-legacy' : undefined;
}
