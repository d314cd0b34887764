#!/usr/bin/env bash
# lint.sh BUILD_DIR changed|all|none [BASE]: clang-format over all sources, then clang-tidy.
#
# clang-tidy takes several seconds a file, so by default it looks only at the sources that differ
# from BASE (a commit; default HEAD). BUILD_DIR holds compile_commands.json.
set -euo pipefail
cd "$(dirname "$0")/../.."
build_dir=$1 scope=$2 base=${3:-HEAD}

tests/tidy/sources.sh | xargs clang-format --dry-run -Werror
echo "lint: format is clean"

case $scope in
  none) exit 0 ;;
  all) sources=$(tests/tidy/sources.sh) ;;
  changed) sources=$(tests/tidy/sources.sh "$base") ;;
  *) echo "lint.sh: LINT=$scope; want changed, all or none" >&2; exit 2 ;;
esac
sources=$(grep '\.cc$' <<<"$sources" || true)
if [[ -z $sources ]]; then
  echo "lint: no source differs from $base; clang-tidy has nothing to do (LINT=all: every source)"
  exit 0
fi

# Generated headers (proto) must exist before clang-tidy can parse what includes them.
cmake --build "$build_dir" --target sluice_proto >/dev/null
echo "lint: clang-tidy on $(wc -l <<<"$sources") sources"
xargs -P "$(nproc)" -n 1 clang-tidy --quiet -p "$build_dir" <<<"$sources"
