// What snippets take for granted: files in the folder that they run in, and variables. A snippet has those that it names
// and doesn't declare itself.

import { join } from 'node:path';

/** Where the build left its binaries, those for tests among them. */
const BINARIES = process.env['LIBTORCH_ATTENTION_BINARIES'] ?? 'build/Release';

export interface Given {
  /** Names in the folder of the snippet, and what they are copies of: paths below the root of the repository. */
  files?: { [name: string]: string };
  /** Variables, and the TypeScript that declares them, which may itself use others. */
  values?: { [name: string]: string };
  /** Hidden code that is run ahead of each of its snippets. */
  given?: string;
  /** Why its snippets are compiled alone. */
  notRun?: string;
  /** The code of an error that they may end with, where the machine lacks something: a GPU. */
  mayThrow?: string;
}

/** For all snippets. */
export const EVERYWHERE: Given = {
  files: {
    'model.pt': 'test/fixtures/snippets/bert.pt',
    'model.pt2': 'test/fixtures/snippets/bert.pt2',
    'bert.pt2': 'test/fixtures/snippets/bert.pt2',
    'gpt.pt': 'test/fixtures/snippets/gpt.pt',
    'model.safetensors': 'test/fixtures/snippets/encoder.safetensors',
    'inputs.safetensors': 'test/fixtures/snippets/inputs.safetensors',
    'data/0001.safetensors': 'test/fixtures/snippets/inputs.safetensors',
    'data/0002.safetensors': 'test/fixtures/snippets/inputs.safetensors',
    'tokenizer.json': 'test/fixtures/cli/tokenizer.json',
  },
  values: {
    // A checkpoint, its inputs, and what a capture of it gives.
    model: "const model = await ScriptModule.load('model.pt');",
    program: "const program = await ExportedProgram.load('bert.pt2');",
    ids: 'const ids = Tensor.from([[101n, 7592n, 2045n, 102n]]);',
    mask: 'const mask = Tensor.from([[1n, 1n, 1n, 1n]]);',
    stream: 'const stream = model.captureAttentionStream([ids]);',
    attentions: 'const { attentions } = await model.captureAttention([ids]);',
    weights: 'const weights = attentions[0]!.weights;',
    // Modules of nn, and inputs of theirs.
    encoder: `const encoder = new nn.TransformerEncoder(
  new nn.TransformerEncoderLayer({ dModel: 16, nhead: 4, dimFeedforward: 32, batchFirst: true }), 2).eval();`,
    attention: 'const attention = new nn.MultiheadAttention({ embedDim: 16, numHeads: 4, batchFirst: true }).eval();',
    src: 'const src = Tensor.zeros([1, 4, 16]);',
    // A generation of the decoder.
    prompt: 'const prompt = Tensor.from([[3n, 14n, 15n, 9n]]);',
    END: 'const END = 2n;',
    next: `const next: NextInputs<[Tensor, Value], [Tensor, Value]> = ([logits, caches], step) =>
  step < 4 ? [logits.select(1, -1).argmax(-1).reshape([1, 1]), caches] : undefined;`,
    tokens: "const tokens = ['[CLS]', 'hello', 'there', '[SEP]'];",
    srcKeyPaddingMask: 'const srcKeyPaddingMask = Tensor.from([[false, false, false, true]]);',
    Fastify: "import Fastify from 'fastify';",
  },
};

/** By document (`docs/bulk.md`), or by name of what a docstring is of (`Tensor.from`): goes ahead of what all have. */
export const DOCUMENTS: { [document: string]: Given } = {
  'README.md': {
    files: {
      'model.pt': 'test/fixtures/snippets/bert_base.pt',
      'tokenizer/tokenizer.json': 'test/fixtures/cli/tokenizer.json',
    },
  },
  'docs/view.md': { files: { 'model.pt': 'test/fixtures/snippets/bert_base.pt' } },
  'docs/exporting.md': { files: { 'eager.pt2': 'test/fixtures/exported/bert_eager.pt2' } },
  loadOperators: {
    files: {
      'libmy_operators.so': join(BINARIES, 'test_operators.so'),
      'model.pt2': 'test/fixtures/exported/custom_operator.pt2',
    },
  },
  LoadOptions: { files: { 'upload.pt': 'test/fixtures/snippets/bert.pt' } },
  'ExportedProgram.captureGeneration': {
    files: { 'gpt.pt2': 'test/fixtures/exported/gpt2_cache.pt2' },
    values: {
      program: "const program = await ExportedProgram.load('gpt.pt2');",
      ids: 'const ids = Tensor.from([[1n], [2n]]);',
      empty: 'const empty = () => [Tensor.zeros([2, 2, 3, 8]), Tensor.zeros([2, 2, 3, 8])];',
      cache: 'const cache = { key_cache: empty(), value_cache: empty() };',
    },
  },
  bulkStatus: { given: "await bulk({ model: 'bert.pt2', inputs: 'data/*.safetensors', out: 'results' });" },
  submitBulk: { notRun: 'needs Redis' },
  workBulk: { notRun: 'needs Redis' },
};

/** What is given to the snippets of a document. */
export function givenTo(document: string): Required<Pick<Given, 'files' | 'values'>> & Given {
  const own = DOCUMENTS[document] ?? {};
  return {
    ...own,
    files: { ...EVERYWHERE.files, ...own.files },
    values: { ...EVERYWHERE.values, ...own.values },
  };
}
