import { stat } from 'node:fs/promises';
import { TorchError } from '../core/errors';
import { options as checkOptions, optionalString } from '../core/validate';
import { type BulkResult, runOn } from './bulk';
import { type BulkWorkerOptions, checkWorkerOptions, fileOf, WORKER_OPTIONS } from './options';
import { RunRecord } from './run-record';

/**
 * Options of `workBulk`.
 *
 * @example
 * const options: BulkWorkOptions = { out: '/shared/results', queue: 'redis://10.0.0.5', model: '/local/bert.pt2', workers: 8 };
 */
export interface BulkWorkOptions extends BulkWorkerOptions {
  /** Where the run's model is on this machine, if it is elsewhere than where the run was begun; it has to be the same. */
  model?: string;
}

/**
 * Works on a run that was begun by `submitBulk`, or `bulk`, until all of it is done; as many machines as there are may do so with
 * `queue`. Without it, this machine does what is missing by itself.
 *
 * @param options Where the run is, and who works.
 * @returns What came of the run.
 * @throws TorchError as `bulk`; `ERR_INVALID_ARGUMENT` where there is no run, or its model isn't there.
 *
 * @example
 * const { written, failed } = await workBulk({ out: '/shared/results', queue: 'redis://10.0.0.5', workers: 8 });
 */
export async function workBulk(options: BulkWorkOptions): Promise<BulkResult> {
  const { model, ...rest } = checkOptions(options, [...WORKER_OPTIONS, 'model'], 'the options of workBulk');
  const checked = checkWorkerOptions(rest as BulkWorkerOptions);
  const record = await RunRecord.open(checked.store);
  const { job } = record.manifest;
  const known = await stat(optionalString(model, 'model') ?? job.model.path).then(
    ({ size }) => size === job.model.size,
    () => false,
  );
  const found = known ? await fileOf(model ?? job.model.path) : undefined;
  if (found?.sha256 !== job.model.sha256) {
    throw new TorchError(
      'ERR_INVALID_ARGUMENT',
      `Expected the run's model in ${model ?? job.model.path} but received ${found || known ? 'another file' : 'none, or another file'}: model says where it is here`,
    );
  }
  job.model.path = found.path;
  return await runOn(record, checked);
}
