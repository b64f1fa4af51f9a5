#!/usr/bin/env bash
# Builds and checks the package on this machine out of what pack.sh packed: see README.md.
#
#   run.sh [--cpu] [--out DIR] [--short] [--only GROUP,…] [--binaries DIR] [--broken] [--minutes N]
#
# Needs python3 with torch, CMake, ninja and g++; no Node and no network.
set -eu
begun=$(date +%s)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
caller=$PWD
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu-check-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

unpack() {
  if command -v xz >/dev/null; then
    xz -dc "$1"
  else
    python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"
  fi
}

unpack "$here/node.xz" >"$work/node"
chmod +x "$work/node"
mkdir "$work/project"
unpack "$here/project.tar.xz" | tar -xf - -C "$work/project"

# Options with paths are meant from where the caller is.
cd "$caller"
status=0
"$work/node" "$work/project/scripts/gpu-check/main.mjs" --work "$work" --begun "$begun" "$@" || status=$?
exit "$status"
