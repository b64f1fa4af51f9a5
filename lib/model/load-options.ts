import { type Stop, stopOf } from '../core/cancellable';
import { FLOATING_DTYPES, type FloatingDType } from '../core/dtype';
import type { Device } from '../core/tensor';
import { options as checkOptions, optionalBoolean, optionalChoice, optionalString } from '../core/validate';
import { checkFile } from '../formats/file';
import { sourceOf } from '../formats/source';
import { UNTRUSTED_LIMITS } from './run-options';

/**
 * Options of `ScriptModule.load`, `ExportedProgram.load` and `loadModel`.
 *
 * @example
 * const options: LoadOptions = { untrusted: true, timeLimit: 10_000 };
 * const uploaded = await ScriptModule.load('upload.pt', options);
 */
export interface LoadOptions {
  /**
   * Where the parameters go. Devices other than the CPU that the file names itself, as traces made on a GPU do wherever they create
   * a tensor, are replaced by it; the CPU stays where TorchScript names it, as in Python. Default `'cpu'`.
   */
  device?: Device;
  /** Casts floating-point parameters and buffers to another floating-point type. Trades bits for speed; default: as saved. */
  dtype?: FloatingDType;
  /**
   * Makes what is run without gradients faster, with differences of rounding (1e-5 of the output). Parameters become constants
   * and are folded; of a program of `torch.export`, what weights alone decide is computed once, by the first run. In float32 on the
   * CPU, linears and the activations, additions and layer norms behind them become single operators, with copies of the weights in
   * an order of their own: twice the memory of these, and what is written into parameters later, through typed arrays, isn't seen.
   * Attention is computed in the one pass that `exact: false` takes otherwise, so that captures cost little more than the weights'
   * memory; their output has the bits of this model's `forward`.
   * Names of modules, captures and hooks stay; runs with hooks, `grad` or `captureTensor` see the operators of the file.
   * Default false.
   */
  optimize?: boolean;
  /**
   * With `optimize`: has linears, activations and norms fused by oneDNN Graph (CPU, float32), for the shapes of the first
   * three runs (see `warmUp`); inputs of other shapes run unfused. Models whose attention is a softmax of their own stay
   * unfused, so that it can be seen. Instead of the single operators that `optimize` alone makes, which are faster on most
   * processors. Default false.
   */
  fuse?: boolean;
  /**
   * For archives that anyone may have written. Refuses, with `ERR_UNTRUSTED` and before anything of it runs, a program that
   * could do more than compute: operators beyond a list of those that do, custom classes, `__setstate__` that does more than
   * move values, sizes and depths beyond limits. Checks what `verify` does, and leaves the Python lines of traces out. The load
   * and each run end after 60 s and each run beyond 4 GiB, where they name no `timeLimit` and `memoryLimit` of their own. See
   * docs/security.md for what that is worth. Default false.
   */
  untrusted?: boolean;
  /**
   * Compares each record of the archive to its checksum, so that weights whose bytes changed are refused
   * (`ERR_MODEL_LOAD`). Sizes and bounds are checked always. Default false; `untrusted` implies it.
   */
  verify?: boolean;
  /** Rejects the call with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Milliseconds, at least 0, from the start of reading after which the load is stopped at the next tensor, or operator of code that the
   * archive runs, and rejects with `ERR_TIME_LIMIT`. Default: none.
   */
  timeLimit?: number;
}

/** The options that files of every kind have. */
export const COMMON_LOAD_OPTIONS = ['device', 'dtype', 'untrusted', 'verify', 'signal', 'timeLimit'] as const;

/** A load whose arguments are checked. */
interface CheckedLoad {
  given: LoadOptions;
  /** A path, or bytes. */
  source: string | Uint8Array;
  /** Options as the addon takes them. */
  native: { device: string; dtype?: string; untrusted: boolean; verify: boolean };
  stop: Stop;
}

/**
 * Checks what a model is loaded from, and how.
 *
 * @param known Names of the options that this kind of file has.
 */
export async function checkLoad(
  source: unknown,
  options: LoadOptions | undefined,
  known: readonly string[],
): Promise<CheckedLoad> {
  const given = checkOptions(options, known, 'the options of load');
  const { device, dtype, untrusted, verify, signal, timeLimit } = given;
  const from = sourceOf(source);
  optionalString(device, 'device');
  optionalChoice(dtype, FLOATING_DTYPES, 'dtype');
  optionalBoolean(untrusted, 'untrusted');
  optionalBoolean(verify, 'verify');
  const defaultTime = untrusted ? UNTRUSTED_LIMITS.timeLimit : undefined;
  if ('path' in from) await checkFile(from.path, 'ERR_MODEL_LOAD');
  return {
    given,
    source: 'path' in from ? from.path : from.bytes,
    native: {
      device: device ?? 'cpu',
      ...(dtype === undefined ? {} : { dtype }),
      untrusted: untrusted ?? false,
      verify: verify ?? false,
    },
    stop: stopOf({ signal, timeLimit: timeLimit ?? defaultTime }),
  };
}
