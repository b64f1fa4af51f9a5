#!/usr/bin/env bash
# Packs everything that run.sh needs into one folder, .gpu-check/ (git ignores it), of at most 60 MiB.
#
#   pack.sh [--quick] [--out DIR]
#
# The Node binary is the one that runs here, without its symbols: it wants glibc 2.28. --quick compresses less.
set -eu
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$root/.gpu-check
level=-6
while [ $# -gt 0 ]; do
  case $1 in
    --quick) level=-0 ;;
    --out) shift && mkdir -p "$1" && out=$(cd "$1" && pwd) ;;
    *) echo "Expected --quick or --out DIR but received $1" >&2 && exit 2 ;;
  esac
  shift
done
cd "$root"
[ -f dist/index.js ] || { echo 'Expected dist/: run "npm run build" first' >&2 && exit 1; }
mkdir -p "$out"
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT

node=$(node -p process.execPath)
stamp="$(node -p 'process.version + process.arch') $level"
# Compressing it takes a minute, and it is the same from time to time.
if [ ! -f "$out/node.xz" ] || [ "$(cat "$out/node.stamp" 2>/dev/null)" != "$stamp" ]; then
  cp "$node" "$staged/node"
  strip "$staged/node" 2>/dev/null || echo 'Packing Node with its symbols: strip failed' >&2
  xz -T0 "$level" -c "$staged/node" >"$out/node.xz"
  echo "$stamp" >"$out/node.stamp"
fi

# What the package needs where it runs, and the headers that it is compiled with; not what was installed beside that, as
# peers of the benchmark are.
runtime=$(npm ls --omit=dev --all --parseable --long | tail -n +2 | grep -v ':EXTRANEOUS' | cut -d: -f1 |
  sed "s|^$root/||" | sort -u)
# shellcheck disable=SC2086
tar -cf - package.json CMakeLists.txt native dist test/native test/fixtures scripts/gpu-check \
  $runtime node_modules/node-addon-api node_modules/node-api-headers |
  xz -T0 "$level" >"$out/project.tar.xz"
cp scripts/gpu-check/run.sh scripts/gpu-check/README.md "$out"

size=$(du -sk "$out" | cut -f1)
echo "Packed $((size / 1024)) MiB into $out"
[ "$size" -le $((60 * 1024)) ] || { echo 'Expected at most 60 MiB' >&2 && exit 1; }
