import { realpathSync } from 'node:fs';
import library from '../library.mjs';
import { compare, milliseconds, PAUSE } from '../measure.mjs';
import { inputsOf, startLoading, startOrLeaveOut, startPackage } from '../peers/start.mjs';
import { mappedFile, proportionalMemory } from '../process-memory.mjs';
import { megabytes } from '../report.mjs';
import { WAYS } from '../ways.mjs';
import { title } from './cases.mjs';

export const about = 'a program of torch.export beside the TorchScript of the same model: runs, loading, memory';
export const models = ['bert.pt', 'bert.pt2', 'large.pt', 'large.pt2'];

const RUN_LIMIT = 1.02;
const LOAD_LIMIT = 0.25;
const MB = 2 ** 20;
// Pages that both processes have of a file that both of them run: all but the directory and the program's text.
const SHARED_AT_LEAST = 0.95;
// What a peak may be above another: the allocator's, from run to run.
const PEAK_NOISE = 4 * MB;

const LOADERS = { pt: library.ScriptModule, pt2: library.ExportedProgram };
const FORMATS = Object.keys(LOADERS);
const loaded = (files, name, options) => LOADERS[name.split('.')[1]].load(files.path(name), options);

async function runs({ report, models: files, timing, quick }) {
  const kinds = { forward: {}, 'forward, optimize': { optimize: true } };
  const programs = [];
  for (const [kind, options] of Object.entries(kinds)) {
    for (const format of FORMATS) {
      const model = await loaded(files, `bert.${format}`, options);
      programs.push({ name: `.${format}, ${kind}`, model, way: 'forward', base: `.pt, ${kind}` });
      if (kind === 'forward') programs.push({ name: `.${format}, every weight`, model, way: 'every weight' });
    }
  }
  for (const [batch, tokens] of quick
    ? [[1, 16]]
    : [
        [1, 128],
        [8, 128],
        [1, 512],
      ]) {
    const inputs = inputsOf('bert.pt', batch, tokens);
    const ways = programs.map(({ name, model, way, base }) => ({
      name,
      run: () => milliseconds(() => WAYS[way](model, inputs)),
      ...(name === '.pt2, forward' ? { limit: RUN_LIMIT } : {}),
      ...(base && base !== name ? { base } : {}),
    }));
    report.comparison(title('bert', batch, tokens), await compare(ways, timing));
  }
  for (const model of new Set(programs.map((each) => each.model))) model.dispose();
}

async function loading({ report, models: files, threads, timing }, kind) {
  const peer = await startOrLeaveOut(report, "Python's torch.jit.load", () => startLoading({ threads }));
  const names = { pt: 'ScriptModule.load', pt2: 'ExportedProgram.load' };
  const inputs = inputsOf(`${kind}.pt`, 1, 16);
  const way = (format, thenRun) => ({
    name: `${names[format]}${thenRun ? ', and a first run' : ''}`,
    run: async () => {
      let model;
      const ms = await milliseconds(async () => {
        model = await loaded(files, `${kind}.${format}`);
        if (thenRun) await WAYS.forward(model, inputs);
      });
      model.dispose();
      return ms;
    },
  });
  const python = 'torch.jit.load, Python';
  const ways = [
    way('pt', false),
    { ...way('pt2', false), limit: LOAD_LIMIT, ...(peer ? { base: python, baseLimit: LOAD_LIMIT } : {}) },
    way('pt', true),
    { ...way('pt2', true), base: way('pt', true).name },
    ...(peer ? [{ name: python, run: () => peer.run(files.path(`${kind}.pt`), 1, 1) }] : []),
  ];
  report.comparison(`${title(kind, 1, 16)}, loaded`, await compare(ways, { ...timing, pause: PAUSE }));
  peer?.end();
}

async function peaks({ report, models: files, threads, quick }) {
  for (const [batch, tokens] of quick
    ? [[1, 16]]
    : [
        [8, 128],
        [1, 512],
        [1, 2048],
      ]) {
    const rows = [];
    for (const format of FORMATS) {
      const options = { models: files, threads, model: `bert.${format}`, env: { MALLOC_MMAP_THRESHOLD_: String(MB) } };
      const peer = await startPackage(options);
      await peer.run('forward', batch, tokens, 3);
      const { before, peak } = await peer.memory('forward', batch, tokens, 5);
      rows.push({ name: `.${format}`, peak, beyond: peak - before });
      peer.end();
    }
    const lines = rows.map(({ name, peak, beyond }) => [name, megabytes(peak), megabytes(beyond)]);
    const heading = `${title('bert', batch, tokens)}, forward`;
    report.table(heading, ['peak', 'beyond what is held between runs'], lines, { rows });
    const [script, program] = rows;
    report.goal(
      `${heading}: peak of the .pt2 beyond that of the .pt`,
      (program.peak - script.peak) / MB,
      PEAK_NOISE / MB,
      {
        unit: ' MB',
        digits: 1,
      },
    );
  }
}

/** Two processes that run the same file: what each has for itself, and what both share. */
async function sharing({ report, models: files, threads, quick }) {
  const rows = [];
  for (const format of FORMATS) {
    const name = `large.${format}`;
    const start = () => startPackage({ models: files, threads, model: name });
    const peers = [await start(), await start()];
    for (const peer of peers) await peer.run('forward', 1, quick ? 16 : 128, 2);
    for (const [i, { pid }] of peers.entries()) {
      rows.push({
        name: `.${format}, process ${i + 1}`,
        ...mappedFile(pid, realpathSync(files.path(name))),
        all: proportionalMemory(pid),
      });
    }
    for (const peer of peers) peer.end();
  }
  if (rows.some(({ all }) => all === null)) return report.leftOut('shared pages', 'this system has no /proc/PID/smaps');
  const columns = ['resident', 'shared', 'proportional', 'dirty', 'all'];
  const head = ['mapped and resident', 'of that shared', 'its share', 'changed', 'all memory, shared by shares'];
  const lines = rows.map((row) => [row.name, ...columns.map((column) => megabytes(row[column]))]);
  report.table(`${title('large', 1, 128)}: two processes on one file (/proc/PID/smaps)`, head, lines, { rows });
  for (const { name, resident, shared } of rows.filter(({ name }) => name.startsWith('.pt2'))) {
    report.goal(`${name}: shared of what is mapped`, shared / resident, SHARED_AT_LEAST, { atLeast: true });
  }
}

export async function run(context) {
  const { models: files } = context;
  const has = (kind) => FORMATS.every((format) => files.has(`${kind}.${format}`));
  if (has('bert')) {
    await runs(context);
    await loading(context, 'bert');
    await peaks(context);
  }
  if (has('large')) {
    await loading(context, 'large');
    await sharing(context);
  }
}
