import { existsSync, readFileSync } from 'node:fs';
import { Failure, output } from './process.mjs';

const OLDEST_CMAKE = [3, 18];

/** Ends the task with one sentence where the machine lacks a C++ compiler or CMake. */
export function requireCompiler() {
  const missing = [];
  const cmake = /cmake version (\d+)\.(\d+)/.exec(output('cmake', ['--version']) ?? '');
  if (!cmake) missing.push('CMake');
  else if (Number(cmake[1]) * 1000 + Number(cmake[2]) < OLDEST_CMAKE[0] * 1000 + OLDEST_CMAKE[1]) {
    missing.push(`CMake ${OLDEST_CMAKE.join('.')} or newer (${cmake[1]}.${cmake[2]} is installed)`);
  }
  // On Windows CMake finds Visual Studio by itself, which is not on the PATH.
  if (process.platform !== 'win32' && !findCompiler()) missing.push('a C++ compiler');
  if (missing.length === 0) return;
  throw new Failure(`Building the addon needs ${missing.join(' and ')}: ${remedy()}.`);
}

/** The C++ compiler that CMake will take: its version's first line, or null. */
export function findCompiler() {
  const names = process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
  for (const name of names) {
    const version = output(name, ['--version']);
    if (version) return version.split('\n')[0];
  }
  return null;
}

function remedy() {
  if (process.platform === 'darwin') return 'run "xcode-select --install" and "brew install cmake"';
  if (process.platform === 'win32') {
    return 'install the Visual Studio Build Tools with "Desktop development with C++", and CMake from cmake.org';
  }
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  const families = /^ID(?:_LIKE)?=.*$/gm;
  const family = (release.match(families) ?? []).join(' ');
  if (/debian|ubuntu/.test(family)) return 'run "apt-get install g++ cmake" as root';
  if (/fedora|rhel|centos/.test(family)) return 'run "dnf install gcc-c++ cmake" as root';
  if (/arch/.test(family)) return 'run "pacman -S gcc cmake" as root';
  if (/suse/.test(family)) return 'run "zypper install gcc-c++ cmake" as root';
  return 'install g++ (12 or newer) and CMake with the package manager of this system';
}
