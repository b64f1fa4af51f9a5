#!/usr/bin/env bash
# Does a --cpu run as the bare machine would: out of the packed folder alone, in an empty one, with nothing on the
# PATH but what that machine has, and without a network where the system lets us take it away.
#
#   rehearse.sh [--build] [--full] [options of run.sh]
#
# Takes the libtorch that is found and the binaries that were built for it, unless LIBTORCH and --binaries say otherwise;
# with --build, builds anew. A short run, unless --full asks for all checks.
set -eu
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
scripts/gpu-check/pack.sh --quick --out "$empty/packed"

options=(--cpu --out "$empty/out")
if [ "${1:-}" = --build ]; then
  shift
  libtorch=${LIBTORCH:-$(node -p "require('./dist/libtorch/locate.js').locateLibtorch().root")}
else
  choice() { node -p "const { libtorch, binaries } = require('./dist/libtorch/load.js').chooseBinaries(); $1"; }
  libtorch=$(choice libtorch.root)
  options+=(--binaries "$(choice binaries.directory)")
fi
if [ "${1:-}" = --full ]; then shift; else options+=(--short); fi

mkdir "$empty/bin" "$empty/home" "$empty/tmp"
for program in bash sh env cat chmod cp cut date dirname head ls mkdir mktemp mv nproc rm sed sort tail tar tr uname xz \
  ar as c++ cc cmake g++ gcc ld ninja ranlib ccache; do
  path=$(command -v "$program") && ln -s "$path" "$empty/bin/$program" || true
done
# The interpreter itself: a version manager's stand-in needs more than this PATH.
python=$(python3 -c 'import sys; print(sys.executable)')
printf '#!/bin/sh\nexec "%s" "$@"\n' "$python" >"$empty/bin/python3"
chmod +x "$empty/bin/python3"

offline=()
if unshare --net --map-root-user true 2>/dev/null; then offline=(unshare --net --map-root-user); fi
[ ${#offline[@]} -gt 0 ] || echo 'The network stays: unshare is not permitted here'
status=0
(
  cd "$empty"
  "${offline[@]}" env -i PATH="$empty/bin" HOME="$empty/home" TMPDIR="$empty/tmp" LIBTORCH="$libtorch" \
    "$empty/packed/run.sh" "${options[@]}" "$@"
) || status=$?
[ -f "$empty/out/results.json" ] || { echo 'Expected results.json but found none' && status=1; }
exit "$status"
