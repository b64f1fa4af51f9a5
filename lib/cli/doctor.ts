import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { TorchError } from '../core/errors';
import { type Binaries, binariesFor, findBinaries, PACKAGE_ROOT, requirementOf } from '../libtorch/binaries';
import { remediesFor, requireBinaries, waitPolicyAhead } from '../libtorch/load';
import { type Libtorch, locateLibtorch, type Rejection, searchLibtorch } from '../libtorch/locate';
import { verifyLibtorch } from '../libtorch/verify';
import { compareVersions, releaseOf, SERVED_RELEASES } from '../libtorch/versions';
import { describeWaitPolicy } from '../libtorch/wait-policy';
import { describeLibtorch } from './setup';

/** What `doctor` found out. */
export interface Diagnosis {
  /** Whether models can be run. */
  readonly usable: boolean;
  readonly package: string;
  readonly node: string;
  readonly platform: string;
  /** The compiled files for the libtorch that was found. */
  readonly addon: Binaries | null;
  /** The releases of libtorch that binaries are here for, the oldest first. */
  readonly releases: readonly string[];
  readonly libtorch: Libtorch | null;
  /** The places that come before the one where libtorch was found, or all of them. */
  readonly passedOver: readonly Rejection[];
  readonly loads: boolean;
  readonly devices: readonly string[];
  /** Why models can't run on CUDA though this libtorch was built with it; null where they can, or it wasn't. */
  readonly withoutCuda: string | null;
  /** How threads wait for work between parallel regions. */
  readonly waiting: string | null;
  /** What is wrong, and what to do about it. */
  readonly problems: readonly string[];
}

/** Adds `doctor`: says what was found, and what to do where something is missing. */
export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('say what was found, its versions and devices, and what to do where something is missing')
    .option('--json', 'write the findings as JSON')
    .addHelpText(
      'after',
      `
Ends with 0 where models can be run, with 1 where something is missing.

Examples:
  libtorch-attention doctor
  LIBTORCH=/opt/libtorch libtorch-attention doctor --json`,
    )
    .action(async (options: { json?: boolean }) => {
      const diagnosis = await diagnose();
      process.stdout.write(options.json ? `${JSON.stringify(diagnosis, null, 2)}\n` : report(diagnosis));
      process.exitCode = diagnosis.usable ? 0 : 1;
    });
}

/** Looks at everything that running a model needs. The addon is first loaded in a child process. */
export async function diagnose(env: NodeJS.ProcessEnv = process.env, packageRoot = PACKAGE_ROOT): Promise<Diagnosis> {
  const problems: string[] = [];
  const available = findBinaries(packageRoot);
  if (available.length === 0) problems.push(messageOf(() => requireBinaries(packageRoot)));

  const requirement = requirementOf(available);
  const { found: libtorch, rejected } = searchLibtorch({ env, requirement });
  if (!libtorch) problems.push(messageOf(() => locateLibtorch({ env, requirement })));

  let loads = false;
  let devices: string[] = [];
  let withoutCuda: string | null = null;
  let waiting: string | null = null;
  const binaries = binariesFor(available, libtorch?.version ?? '') ?? null;
  if (binaries && libtorch) {
    const verdict = await verifyLibtorch(libtorch, binaries, { env });
    loads = verdict.ok;
    withoutCuda = verdict.withoutCuda;
    if (!loads) {
      const remedies = remediesFor(verdict.reason).slice(0, -1);
      problems.push([`The addon does not load on this libtorch: ${verdict.reason}`, ...remedies].join('\n  - '));
    } else if (packageRoot === PACKAGE_ROOT) {
      waiting = describeWaitPolicy(waitPolicyAhead(binaries));
      devices = listDevices();
      if (libtorch.cuda !== null && !devices.some((device) => device.startsWith('cuda'))) {
        withoutCuda ??= "no CUDA device is found: is NVIDIA's driver installed, and new enough for this CUDA?";
      }
    }
  }
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
  return {
    usable: problems.length === 0,
    package: version,
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    addon: binaries,
    releases: available.map(({ info }) => releaseOf(info.libtorch) ?? info.libtorch).sort(compareVersions),
    libtorch,
    passedOver: rejected,
    loads,
    devices,
    withoutCuda,
    waiting,
    problems,
  };
}

// The package itself is loaded only once a child process has shown that it can be.
function listDevices(): string[] {
  const { devices } = require('../index') as { devices(): readonly unknown[] };
  return devices().map(String);
}

function messageOf(failing: () => unknown): string {
  try {
    failing();
    return '';
  } catch (error) {
    if (error instanceof TorchError) return error.message;
    throw error;
  }
}

function report(diagnosis: Diagnosis): string {
  const { addon, releases, libtorch, loads, devices, withoutCuda, waiting, problems } = diagnosis;
  const rows: [string, string][] = [
    ['package', `libtorch-attention ${diagnosis.package}`],
    ['Node', `${diagnosis.node} on ${diagnosis.platform}`],
    ['addon', addon ? `${addon.addon}, built against libtorch ${addon.info.libtorch}` : 'missing'],
    ['releases', `${releases.join(', ') || 'none'} built (served: ${SERVED_RELEASES.join(', ')})`],
    ['libtorch', libtorch ? describeLibtorch(libtorch).replace(/^libtorch /, '') : 'missing'],
    ['loads', loads ? 'yes' : 'no'],
    ['devices', devices.length > 0 ? devices.join(', ') : 'unknown'],
    ...(waiting === null ? [] : [['waiting', waiting] as [string, string]]),
    ...(withoutCuda === null ? [] : [['CUDA', `unavailable: ${withoutCuda}`] as [string, string]]),
  ];
  const table = rows.map(([name, value]) => `${name.padEnd(10)}${value}\n`).join('');
  if (problems.length === 0) return `${table}\nEverything is in place.\n`;
  return `${table}\n${problems.map((problem) => `Problem: ${problem}\n`).join('\n')}`;
}
