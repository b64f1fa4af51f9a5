import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseSafetensors, writeSafetensors } from '../../lib/formats/safetensors';
import { archiveOf } from './script-archive';

/** A folder of inputs and results. */
export const folder = mkdtempSync(join(tmpdir(), 'bulk-'));
afterAll(() => rmSync(folder, { recursive: true }));

const CLI = join(__dirname, '..', 'fixtures', 'cli');
export const TEXT_MODEL = join(CLI, 'text.pt');
export const TOKENIZER = join(CLI, 'tokenizer.json');

export function scriptFile(name: string, body: string): string {
  const path = join(folder, `${name}.pt`);
  // Written once: each time it would be another file, by its id.
  if (!existsSync(path))
    writeFileSync(path, archiveOf(`def forward(self: __torch__.M, x: Tensor) -> Tensor:\n${body}`));
  return path;
}

/** Gives back twice what it is given. */
export const doubling = (): string => scriptFile('doubling', '  return torch.mul(x, 2)\n');

/** Files of inputs x, a number each; what is no number is written as it is. */
export async function inputFiles(name: string, values: readonly (number | string)[]): Promise<string> {
  const inputs = join(folder, name);
  mkdirSync(inputs);
  for (const [i, value] of values.entries()) {
    const path = join(inputs, `${String(i).padStart(4, '0')}.safetensors`);
    if (typeof value === 'string') writeFileSync(path, value);
    else await writeSafetensors(path, [{ name: 'x', dtype: 'float32', shape: [1], data: Float32Array.of(value) }]);
  }
  return join(inputs, '*.safetensors');
}

export interface Results {
  /** Of each input by its index: how often it is there, and its tensors. */
  counts: Map<number, number>;
  tensors: Map<string, { shape: number[]; data: number[] }>;
  descriptions: Map<
    number,
    { input: string; length?: number; batch?: number; attentions?: Record<string, { name: string; shape: number[] }> }
  >;
  failed: { index: number; input: string; code: string; message: string }[];
  manifest: { state: string; shards: { name: string }[]; written: number; failed: number };
}

/** All that a run left in a folder, of the shards that are there, whatever the manifest says. */
export async function resultsOf(out: string): Promise<Results> {
  const results: Results = {
    counts: new Map(),
    tensors: new Map(),
    descriptions: new Map(),
    failed: [],
    manifest: JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8')),
  };
  const names = readdirSync(out).sort();
  expect(
    names.filter(
      (name) =>
        !/^(part-[\d-]+\.(safetensors|parquet)|\.scratch|chunks|(manifest|plan)\.json|failed\.jsonl)$/.test(name),
    ),
  ).toEqual([]);
  for (const name of names.filter((each) => each.endsWith('.safetensors'))) {
    const { entries, metadata = {} } = await parseSafetensors(readFileSync(join(out, name)));
    for (const { name: tensor, shape, data } of entries) {
      results.tensors.set(tensor, { shape, data: Array.from(data as ArrayLike<number | bigint>, Number) });
    }
    for (const [key, text] of Object.entries(metadata)) {
      results.counts.set(Number(key), (results.counts.get(Number(key)) ?? 0) + 1);
      results.descriptions.set(Number(key), JSON.parse(text));
    }
  }
  if (names.includes('failed.jsonl')) {
    const lines = readFileSync(join(out, 'failed.jsonl'), 'utf8').trim().split('\n');
    results.failed = lines.map((line) => JSON.parse(line));
  }
  return results;
}

/** Expects each of so many inputs once: in the results, or among those that failed. */
export function expectEachOnce({ counts, failed, manifest }: Results, inputs: number): void {
  const all = new Map(counts);
  for (const { index } of failed) all.set(index, (all.get(index) ?? 0) + 1);
  const lost = Array.from({ length: inputs }, (_, i) => i).filter((i) => !all.has(i));
  const twice = [...all].filter(([, count]) => count > 1).map(([index]) => index);
  expect({ lost, twice, others: all.size - inputs + lost.length }).toEqual({ lost: [], twice: [], others: 0 });
  expect(manifest).toMatchObject({ state: 'done', written: counts.size, failed: failed.length });
}

/** The worker processes below a process. */
export function workersOf(pid = process.pid): number[] {
  const list = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' }).trim().split('\n');
  const processes = list.map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) as RegExpExecArray);
  const below = (parent: number): number[] =>
    processes
      .filter(([, , ppid]) => Number(ppid) === parent)
      .flatMap(([, id, , args = '']) => [
        ...(args.includes('bulk/worker.js') ? [Number(id)] : []),
        ...below(Number(id)),
      ]);
  return below(pid);
}
