import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Binaries, findBinaries } from '../../lib/libtorch/binaries';
import { damageOf, versionsNeeded } from '../../lib/libtorch/elf';
import { loadFrom, remediesFor } from '../../lib/libtorch/load';
import { type Libtorch, locateLibtorch } from '../../lib/libtorch/locate';
import { errorOf, temporaryFolder, wheelFiles, writeFiles } from './fake-libtorch';

const describeLinux = process.platform === 'linux' ? describe : describe.skip;
const folder = temporaryFolder();
const [binaries] = findBinaries() as [Binaries];
const libtorch = locateLibtorch();
let copies = 0;

/** A copy of a file that ends early, or has zeros from there on. */
function cutCopy(path: string, part: number, zeros = false): string {
  const copy = join(folder, `${copies++}`, basename(path));
  mkdirSync(dirname(copy));
  copyFileSync(path, copy);
  const { size } = statSync(path);
  const file = openSync(copy, 'r+');
  ftruncateSync(file, Math.floor(size * part));
  if (zeros) ftruncateSync(file, size);
  closeSync(file);
  return copy;
}

describeLinux('damageOf', () => {
  test.each([
    () => binaries.addon,
    () => binaries.loader,
    () => libtorch.libraries[0] as string,
    () => process.execPath,
  ])('a whole library has none', (path) => expect(damageOf(path())).toBeUndefined());

  test.each([0, 0.00001, 0.1, 0.5, 0.99])('a library of which %d is there is damaged', (part) => {
    const damage = damageOf(cutCopy(binaries.addon, part));
    if (part === 0) expect(damage).toBeUndefined();
    else expect(damage).toMatch(/^it has \d+ bytes where its own tables say at least \d+$/);
  });

  test('what is no library has none', () => {
    writeFileSync(join(folder, 'text'), 'not a library at all');
    expect(damageOf(join(folder, 'text'))).toBeUndefined();
  });
});

describeLinux('versionsNeeded', () => {
  test('are the newest of each family', () => {
    const needed = versionsNeeded(binaries.addon);
    expect(needed).toMatchObject({ GLIBC: expect.stringMatching(/^2\.\d+/), GLIBCXX: expect.stringMatching(/^3\.4/) });
    // Each of them stands in the file as the linker reads it.
    const names = readFileSync(binaries.addon).toString('latin1');
    const all = [...names.matchAll(/\0GLIBC_2\.(\d+)(?:\.\d+)?(?=\0)/g)].map(([, minor]) => Number(minor));
    expect(needed['GLIBC']).toBe(`2.${Math.max(...all)}`);
  });

  test('an error about a system that is too old says them', () => {
    const path = binaries.addon;
    const reason = `/lib/libc.so.6: version \`GLIBC_2.99' not found (required by ${path})`;
    const { GLIBC, GLIBCXX } = versionsNeeded(path);
    const [remedy] = remediesFor(reason);
    expect(remedy).toContain(`${path} needs GLIBC ${GLIBC}`);
    expect(remedy).toContain(`GLIBCXX ${GLIBCXX}`);
    expect(remedy).toMatch(/this system has glibc 2\.\d+\): use a newer system, or compile .* build"/);
    expect(remediesFor("version `CXXABI_1.3.99' not found (required by /none/libx.so)")[0]).toMatch(
      /too old: use a newer system\.$/,
    );
  });
});

describeLinux('loadFrom', () => {
  /** A libtorch whose libc10 is this file; the others are none. */
  function withC10(c10: string): string {
    const root = writeFiles(join(folder, `torch-${copies++}`), wheelFiles(libtorch.version));
    copyFileSync(c10, join(root, 'lib', 'libc10.so'));
    return root;
  }
  const env = (root: string) => ({ ...process.env, LIBTORCH: root, XDG_CACHE_HOME: join(folder, `cache-${copies++}`) });

  test('a truncated libtorch is an error that names the file, and ends no process', () => {
    const root = withC10(cutCopy((libtorch as Libtorch).libraries[0] as string, 0.6));
    const error = errorOf(() => loadFrom([binaries], env(root)));
    expect(error.code).toBe('ERR_ADDON_LOAD');
    expect(error.message).toMatch(/libc10\.so is not whole: it has \d+ bytes where .*\n.*damaged, as by a download/s);
  });

  test('one with holes ends a child process, not this one', () => {
    const root = withC10(cutCopy((libtorch as Libtorch).libraries[0] as string, 0.6, true));
    const error = errorOf(() => loadFrom([binaries], env(root)));
    expect(error.code).toBe('ERR_ADDON_LOAD');
    expect(error.message).toMatch(/but received: .+/);
  });

  test('a truncated addon, too', () => {
    const addon = cutCopy(binaries.addon, 0.5);
    const error = errorOf(() => loadFrom([{ ...binaries, addon }], process.env));
    expect(error.message).toMatch(/attention\.node is not whole/);
  });
});
