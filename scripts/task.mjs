// The commands of package.json: `node scripts/task.mjs <task> [arguments for what the task runs]`. Each does all of its
// own set-up, and none of it twice.

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 15)) {
  console.error(
    `Node ${process.versions.node} is too old: a checkout of libtorch-attention needs Node 20.15 or newer (an installed package 20.3) (https://nodejs.org).`,
  );
  process.exit(1);
}

const [name, ...argument] = process.argv.slice(2);
const { tasks } = await import('./task/tasks.mjs');
const { Failure } = await import('./task/process.mjs');
if (!name || !Object.hasOwn(tasks, name)) {
  console.error(`Expected one of ${Object.keys(tasks).join(', ')} but received ${name ?? 'nothing'}.`);
  process.exit(2);
}

try {
  process.exitCode = (await tasks[name](argument)) ?? 0;
} catch (error) {
  if (!(error instanceof Failure) && error?.name !== 'TorchError') throw error;
  console.error(error.message);
  process.exitCode = error.exitCode ?? 1;
}
