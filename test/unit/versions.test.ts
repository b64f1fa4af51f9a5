import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  buildRequirement,
  compareVersions,
  PINNED_VERSION,
  parseRelease,
  readVersion,
  releaseOf,
  runtimeRequirement,
  SERVED_RELEASES,
} from '../../lib/libtorch/versions';
import { archiveFiles, temporaryFolder, wheelFiles, writeFiles } from './fake-libtorch';

const folder = temporaryFolder();

test.each([
  ['2.13.0', { major: 2, minor: 13, patch: 0 }],
  ['2.13.1+cu130', { major: 2, minor: 13, patch: 1 }],
  ['2.14.0a0+git1234567', { major: 2, minor: 14, patch: 0 }],
  ['2.11', { major: 2, minor: 11, patch: 0 }],
  ['latest', null],
])('parseRelease(%p)', (text, expected) => {
  expect(parseRelease(text)).toEqual(expected);
});

describe('runtimeRequirement', () => {
  test('an addon runs on the patch releases of its minor release only', () => {
    const requirement = runtimeRequirement(['2.13.0+cpu']);
    expect(requirement.description).toBe('2.13.x');
    expect(['2.13.0', '2.13.4+cu130'].map(requirement.accepts)).toEqual([true, true]);
    expect(['2.12.1', '2.14.0', '3.13.0', 'unknown'].map(requirement.accepts)).toEqual([false, false, false, false]);
  });

  test('addons of several releases run on each of them', () => {
    const requirement = runtimeRequirement(['2.14.1', '2.9.0+cpu', '2.13.0', '2.13.1']);
    expect(requirement.description).toBe('2.9.x, 2.13.x or 2.14.x');
    expect(['2.13.0', '2.14.0+cu132', '2.9.1'].map(requirement.accepts)).toEqual([true, true, true]);
    expect(['2.11.0', '2.15.0'].map(requirement.accepts)).toEqual([false, false]);
  });
});

describe('buildRequirement', () => {
  test('the sources compile against every release that is served, the pinned one among them, and against no other', () => {
    const { accepts, description } = buildRequirement();
    for (const release of SERVED_RELEASES) {
      expect([release, `${release}.0`, `${release}.1+cu130`].map(accepts)).toEqual([true, true, true]);
      expect(description).toContain(`${release}.x`);
    }
    expect(accepts(PINNED_VERSION)).toBe(true);
    const [oldest, newest] = [SERVED_RELEASES[0], SERVED_RELEASES.at(-1)].map((release) => parseRelease(release ?? ''));
    const others = [`2.${(oldest?.minor ?? 0) - 1}.1`, `2.${(newest?.minor ?? 0) + 1}.0`, '1.13.1', 'unknown'];
    expect(others.map(accepts)).toEqual([false, false, false, false]);
  });
});

describe('SERVED_RELEASES', () => {
  test('the README names the releases that are served', () => {
    const readme = readFileSync(join(__dirname, '..', '..', 'README.md'), 'utf8');
    expect(readme).toContain(`Releases ${SERVED_RELEASES[0]} to ${SERVED_RELEASES.at(-1)} are served`);
  });
});

describe('compareVersions and releaseOf', () => {
  test('versions are ordered by their numbers', () => {
    const versions = ['2.9.0', '2.11', '2.11.1+cpu', '2.13.0a0+git1', '3.0.0'];
    expect([...versions].reverse().sort(compareVersions)).toEqual(versions);
    expect(['2.13.0+cu130', '2.14.0a0', 'latest'].map(releaseOf)).toEqual(['2.13', '2.14', null]);
  });
});

describe('readVersion', () => {
  test('the version of a Python torch comes from version.py', () => {
    const cpu = writeFiles(join(folder, 'cpu'), wheelFiles('2.13.0+cpu'));
    expect(readVersion(cpu)).toEqual({ version: '2.13.0+cpu', cuda: null });
    const cuda = writeFiles(join(folder, 'cuda'), wheelFiles('2.11.0', '13.0'));
    expect(readVersion(cuda)).toEqual({ version: '2.11.0', cuda: '13.0' });
  });

  test('the version of an archive comes from build-version', () => {
    const cpu = writeFiles(join(folder, 'archive'), archiveFiles('2.13.0+cpu'));
    expect(readVersion(cpu)).toEqual({ version: '2.13.0+cpu', cuda: null });
    const cuda = writeFiles(join(folder, 'archive-cuda'), archiveFiles('2.13.0+cu130'));
    expect(readVersion(cuda)).toEqual({ version: '2.13.0+cu130', cuda: '13.0' });
  });

  test('the version of a build of one’s own comes from the headers', () => {
    const header = '#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION \\\n  "2.13.0"\n';
    const root = writeFiles(join(folder, 'headers'), { 'include/torch/headeronly/version.h': header });
    expect(readVersion(root)).toEqual({ version: '2.13.0', cuda: null });
    const older = writeFiles(join(folder, 'older'), { 'include/torch/version.h': '#define TORCH_VERSION "2.11.0"\n' });
    expect(readVersion(older)).toEqual({ version: '2.11.0', cuda: null });
  });

  test('a folder that says no version has none', () => {
    expect(readVersion(writeFiles(join(folder, 'none'), { 'build-version': 'unknown' }))).toBeNull();
  });
});
