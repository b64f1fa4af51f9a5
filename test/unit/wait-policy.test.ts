import { spawnSync } from 'node:child_process';
import { describeWaitPolicy, waitPolicy, waitVariables } from '../../lib/libtorch/wait-policy';
import { DIST } from './built-process';

/** A process with these variables, in which these libraries are open. */
function surroundings(variables: Record<string, string>, libraries: string[] = []) {
  return {
    variable: (name: string) => variables[name],
    loaded: (name: string) => libraries.find((path) => path.slice(path.lastIndexOf('/') + 1).startsWith(name)),
  };
}

describe('waitPolicy', () => {
  test('sets a short spin where nobody else has decided', () => {
    const policy = waitPolicy(surroundings({ HOME: '/home/me' }, ['/lib/libc.so.6']));
    expect(waitVariables(policy)).toEqual([['GOMP_SPINCOUNT', expect.stringMatching(/^\d+$/)]]);
    expect(describeWaitPolicy(policy)).toMatch(/^after a short spin \(GOMP_SPINCOUNT=\d+/);
  });

  test.each([
    ['OMP_WAIT_POLICY', 'active'],
    ['GOMP_SPINCOUNT', '5'],
    ['OMP_WAIT_POLICY', ''],
  ])('leaves it to %s=%s in the environment', (variable, value) => {
    const policy = waitPolicy(surroundings({ [variable]: value }));
    expect(policy).toEqual({ by: 'environment', variable, value });
    expect(waitVariables(policy)).toEqual([]);
    expect(describeWaitPolicy(policy)).toContain(`${variable}=${value}`);
  });

  test('says so where something else has opened the runtime before', () => {
    const policy = waitPolicy(surroundings({ GOMP_SPINCOUNT: '5' }, ['/opt/other/libgomp.so.1']));
    expect(waitVariables(policy)).toEqual([]);
    expect(describeWaitPolicy(policy)).toContain('/opt/other/libgomp.so.1');
  });
});

const describeLinux = process.platform === 'linux' ? describe : describe.skip;

describeLinux('the OpenMP runtime that libtorch brings', () => {
  /** What libgomp says that it was told, and the variable as child processes of the process get it. */
  function told(environment: Record<string, string>): { spins: string | undefined; inherited: string } {
    const script = `
      require(${JSON.stringify(DIST)}).getNumThreads();
      const { execFileSync } = require('node:child_process');
      console.log(execFileSync(process.execPath, ['-p', 'process.env.GOMP_SPINCOUNT'], { encoding: 'utf8' }).trim());
    `;
    const { GOMP_SPINCOUNT: _, OMP_WAIT_POLICY: __, ...others } = process.env;
    const env = { ...others, OMP_DISPLAY_ENV: 'VERBOSE', ...environment };
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', env });
    return {
      spins: /GOMP_SPINCOUNT = '(\d+)'/.exec(stderr)?.[1],
      inherited: stdout.trim().split('\n').at(-1) as string,
    };
  }

  test('is told how to wait, and nothing stays in the environment', () => {
    const [[, count] = []] = waitVariables(waitPolicy(surroundings({})));
    expect(told({})).toEqual({ spins: count, inherited: 'undefined' });
  });

  test('is told what the user says instead', () => {
    expect(told({ GOMP_SPINCOUNT: '77' })).toEqual({ spins: '77', inherited: '77' });
    expect(told({ OMP_WAIT_POLICY: 'passive' })).toEqual({ spins: '0', inherited: 'undefined' });
  });
});
