import { join } from 'node:path';
import { Command } from 'commander';
import { diagnose, registerDoctor } from '../../lib/cli/doctor';
import { SERVED_RELEASES } from '../../lib/libtorch/versions';
import { archiveFiles, temporaryFolder, writeFiles } from './fake-libtorch';

const folder = temporaryFolder();
const packageFiles = { 'package.json': '{ "version": "1.2.3" }' };
const bare = {
  PATH: join(folder, 'bin'),
  HOME: folder,
  LOCALAPPDATA: folder,
  XDG_CACHE_HOME: join(folder, 'cache'),
};

describe('diagnose', () => {
  test('with nothing there, says everything that is missing and what to do', async () => {
    const root = writeFiles(join(folder, 'empty'), packageFiles);
    const diagnosis = await diagnose(bare, root);
    expect(diagnosis).toMatchObject({
      usable: false,
      package: '1.2.3',
      node: process.versions.node,
      addon: null,
      releases: [],
      libtorch: null,
      loads: false,
      devices: [],
    });
    expect(diagnosis.passedOver.map(({ source }) => source)).toEqual(['LIBTORCH', 'python', 'cache']);
    expect(diagnosis.problems).toHaveLength(2);
    expect(diagnosis.problems[0]).toContain('npm run build');
    expect(diagnosis.problems[1]).toContain('libtorch-attention setup');
  });

  test('a libtorch that does not load is a problem with its reason', async () => {
    const root = writeFiles(join(folder, 'broken'), packageFiles);
    const info = '{ "libtorch": "2.13.0+cpu" }';
    writeFiles(join(root, 'build', 'Release'), { 'attention.node': '', 'loader.node': '', 'build-info.json': info });
    const libtorch = writeFiles(join(folder, 'libtorch'), archiveFiles('2.13.0+cpu'));
    const diagnosis = await diagnose({ ...bare, LIBTORCH: libtorch }, root);
    expect(diagnosis).toMatchObject({
      usable: false,
      loads: false,
      releases: ['2.13'],
      libtorch: { version: '2.13.0+cpu', root: libtorch },
    });
    expect(diagnosis.problems).toHaveLength(1);
    expect(diagnosis.problems[0]).toContain('does not load');
  });
});

describe('libtorch-attention doctor', () => {
  test('the command ends with 0 and "Everything is in place" on a machine where all is there', async () => {
    let output = '';
    const write = jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
      output += text;
      return true;
    });
    const code = process.exitCode;
    try {
      for (const args of [[], ['--json']]) {
        const program = new Command();
        registerDoctor(program);
        await program.parseAsync(['node', 'libtorch-attention', 'doctor', ...args]);
        expect(process.exitCode).toBe(0);
      }
    } finally {
      process.exitCode = code;
      write.mockRestore();
    }
    const [report = '', json = ''] = output.split(/^(?=\{)/m);
    expect(report).toMatch(/^libtorch +2\.\d+/m);
    expect(report).toMatch(new RegExp(`^releases +2\\.\\d+.* built \\(served: ${SERVED_RELEASES.join(', ')}\\)$`, 'm'));
    expect(report).toMatch(/^devices +cpu/m);
    expect(report).toMatch(/^waiting +(as|after) .*/m);
    expect(report).toContain('Everything is in place.');
    expect(JSON.parse(json)).toMatchObject({ usable: true, loads: true, problems: [] });
  });
});
