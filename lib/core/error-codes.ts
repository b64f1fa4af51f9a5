import type { ErrorCode } from './errors';

/** What users are told about a code. docs/api/errors.md shows it; docs/troubleshooting.md says more. */
export interface CodeGuide {
  /** What the code says. */
  meaning: string;
  /** Why it comes up, most often. */
  cause: string;
  /** What to do. */
  remedy: string;
}

/** Of all codes of `TorchError`. */
export const ERROR_CODES: Readonly<Record<ErrorCode, CodeGuide>> = {
  ERR_LIBTORCH_NOT_FOUND: {
    meaning: 'No libtorch that can be used was found.',
    cause:
      "Neither `LIBTORCH` nor the torch of `python3` nor the cache has one; a `LIBTORCH` that is set names no libtorch; or its download was refused, or isn't what its publisher says.",
    remedy:
      '`npx libtorch-attention setup` finds or fetches one; `npx libtorch-attention doctor` says where was looked. Set `LIBTORCH` to the folder of an unpacked libtorch where nothing may be fetched.',
  },
  ERR_LIBTORCH_VERSION: {
    meaning: 'The libtorch is of a release that there are no binaries for.',
    cause: '`LIBTORCH`, or the torch of `python3`, is older or newer than what the package serves.',
    remedy:
      'Point `LIBTORCH` to a release that the message names, or leave it unset and run `npx libtorch-attention setup`; `LIBTORCH_ATTENTION_SKIP_PYTHON=1` passes over the torch of `python3`.',
  },
  ERR_ADDON_LOAD: {
    meaning: "libtorch is there, but the package's binaries can't be loaded on it.",
    cause:
      'The optional package with the binaries was left out, a library is damaged or lacks another one, the system is older than the binaries, or a second copy of the package is loaded in this process.',
    remedy:
      'Do what the message lists for this platform: install the binaries, or compile them with `npx libtorch-attention build`; keep one copy of the package (`npm ls libtorch-attention`).',
  },
  ERR_MODEL_LOAD: {
    meaning: 'The file is no model that can be read.',
    cause: 'It is missing, cut off, changed, or holds something that its own format forbids.',
    remedy:
      'Compare its size with the original and copy it again, or export it anew; `verify: true` compares the checksums of all records.',
  },
  ERR_MODEL_RUN: {
    meaning: 'The model failed on these inputs.',
    cause:
      'A shape or a type that an operator refuses, an index beyond a table, an assertion of the model, or too little memory.',
    remedy:
      'Compare the inputs with `signature()`; the message names the input where it can, and `nativeStack` has the line of the program and the backtrace of libtorch.',
  },
  ERR_UNSUPPORTED_FILE: {
    meaning: 'The file is of another kind than what was asked for, or has something in it that is not supported.',
    cause:
      'Weights instead of a model (`torch.save`, safetensors), a compiled package, a class that loads another kind of file, or a feature of `torch.export` that the message names.',
    remedy:
      '`loadModel` loads models of both kinds, `loadStateDict` of modules of `nn` loads weights; otherwise export the model again, as docs/exporting.md says.',
  },
  ERR_UNKNOWN_OPERATOR: {
    meaning: "The program uses an operator that this libtorch doesn't have.",
    cause: 'A custom operator whose library is not loaded, or one of a newer release of PyTorch.',
    remedy: 'Load its library first (`loadOperators`), or use the release of libtorch that exported the program.',
  },
  ERR_UNTRUSTED: {
    meaning: 'With `untrusted`, the program was refused: it could do more than compute.',
    cause: 'It uses operators, classes or sizes beyond what files from anyone may.',
    remedy: 'Load it without `untrusted` only if you know who wrote it: docs/security.md says what that means.',
  },
  ERR_INVALID_ARGUMENT: {
    meaning: 'An argument or option is not what it has to be.',
    cause: 'A wrong type, name, shape or range; the message says what was expected and what was received.',
    remedy: 'Correct the call: the reference in docs/api has the types and ranges of all options.',
  },
  ERR_UNKNOWN_MODULE: {
    meaning: 'No module of the model has this name, or an attention that was selected did not run.',
    cause:
      'A name of another model or of `transformers`, a pattern that fits nothing, or a position beyond the last attention.',
    remedy:
      'Choose one of the names that `modules()` lists, or a position that `attentionSites` lists for these inputs.',
  },
  ERR_HOOK_NAME_IN_USE: {
    meaning: 'A `HookedModel` already records something under this name.',
    cause: 'Two hooks were given one name.',
    remedy: 'Take another name, or `delHook` the first.',
  },
  ERR_NOT_HOOKABLE: {
    meaning: 'Nothing in the exported program tells what passes this module.',
    cause:
      'An exported program has its modules inlined, and this one has several inputs or outputs, or writes to memory of others.',
    remedy:
      'Name it in `preserve_module_call_signature` of `torch.export.export`, hook a module that `modules()` calls hookable, or a node (`registerNodeHook`).',
  },
  ERR_HOOK_FAILED: {
    meaning: 'A hook threw, rejected, or returned what cannot take the place of a value.',
    cause: 'The code of the hook: what it threw is the `cause` of the error.',
    remedy:
      'Mend the hook; a value that replaces another needs the number, types and shapes that the module goes on with.',
  },
  ERR_NO_ATTENTION: {
    meaning: 'The forward ran, but computed no attention that can be captured.',
    cause:
      'The model has none, or one of a form that is not recognized; `unseen` of the error lists what looked like attention, and why it was not recorded.',
    remedy:
      'Read `unseen`; `captureTensor` records any value, weights included, by module and operator (docs/tensors.md).',
  },
  ERR_CAPTURE_TOO_LARGE: {
    meaning: 'The capture would hold more than `maxBytes`; it was refused ahead of that.',
    cause: 'Weights grow with batch × heads × queries × keys.',
    remedy:
      'Select `layers`, `heads` or `queries`, keep `topK` or the mean over heads, take attention by attention (`onAttention`, `captureAttentionStream`), or raise `maxBytes`.',
  },
  ERR_TIME_LIMIT: {
    meaning: 'A load or a run took longer than its `timeLimit`.',
    cause: 'Large inputs, a loop that does not end, or a busy machine. An untrusted file has a limit by default.',
    remedy: 'Raise `timeLimit`, make inputs smaller, or let fewer runs compute at once (`setConcurrency`).',
  },
  ERR_MEMORY_LIMIT: {
    meaning: 'A run would hold more bytes of tensors than its `memoryLimit`.',
    cause: 'Large inputs, or a program that makes large tensors. An untrusted file has a limit by default.',
    remedy: 'Raise `memoryLimit`, or make batch or length smaller.',
  },
  ERR_DEVICE_UNAVAILABLE: {
    meaning: 'The device cannot be used here.',
    cause: 'There is no such GPU, no driver for it, or a libtorch for the CPU alone; the message says which.',
    remedy: 'Choose one of `devices()`; `npx libtorch-attention setup --cuda` fetches a libtorch with CUDA.',
  },
  ERR_MISSING_PACKAGE: {
    meaning: 'What was asked for needs a package that only some users need.',
    cause:
      'Fastify, a queue, S3, Parquet, metrics and pictures come from optional packages, of which one is missing or of another version.',
    remedy: 'Install what the message names (`npm install NAME@RANGE`).',
  },
  ERR_NO_SPACE: {
    meaning: "Results of a bulk run can't be written: the disk is full.",
    cause: 'No space, no inodes, or a quota.',
    remedy:
      'Make room and run the same command with `--resume` (`resume: true`): what is done stays done. Smaller: `topK`, `layers`, other dtypes.',
  },
  ERR_RESULT_STORE: {
    meaning: "Results of a bulk run can't be written or read, for another reason than space.",
    cause: 'Missing rights, a bucket that is not there, a network, or a record of the run that is damaged.',
    remedy: 'Mend what the message quotes (its `cause` is the error of the file system or of S3), then resume.',
  },
  ERR_TOO_MANY_FAILURES: {
    meaning: 'A bulk run was ended: more of its inputs failed than it allows.',
    cause: 'Inputs of another form than the model takes, or files among them that are none.',
    remedy: 'Read `failed.jsonl` in the results, mend the inputs, and resume; or raise `maxFailures`.',
  },
  ERR_WORKER_ENDED: {
    meaning: 'The process that ran an input of a bulk run ended, each time that it was tried.',
    cause: 'Too little memory (the system ends the largest process), or an operator that crashes on this input.',
    remedy: 'Run that input alone, with a `memoryLimit` or fewer `workers`; all other inputs are done.',
  },
  ERR_QUEUE: {
    meaning: "The queue of a bulk run can't be reached, or gave up on a part of it.",
    cause: 'No Redis or Valkey at that address, wrong credentials, or a chunk that failed on every worker.',
    remedy:
      'Check the address with `redis-cli`; `bulk status` shows what is left, and submitting the run again with `--resume` queues it.',
  },
  ERR_DISPOSED: {
    meaning: 'A tensor, a model or an object of one was used after `dispose`.',
    cause: '`dispose()`, the end of a `using` block, or a capture or server that had given it back.',
    remedy: 'Keep it until its last use; `settled()` tells when nothing of a model runs any more.',
  },
};
