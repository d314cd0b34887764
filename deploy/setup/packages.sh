#!/usr/bin/env bash
# Installs the Debian packages that Sluice needs, and only those that are missing.
#
#   packages.sh [GROUP]...     GROUP: build (default), runtime, lint, clang, metrics, redis, container
#   packages.sh --list [GROUP]...
#
# Exits 0 at once, without touching apt, if nothing is missing.
set -euo pipefail

# What builds, tests and runs Sluice. Each line names who needs it.
build=(
  g++ cmake ninja-build ccache make pkg-config git       # the build
  protobuf-compiler protobuf-compiler-grpc               # proto/
  libprotobuf-dev libgrpc++-dev libabsl-dev              # service/grpc
  prometheus-cpp-dev                                     # service/telemetry
  libboost-dev                                           # service/http: Beast, headers only
  nlohmann-json3-dev libpcre2-dev libutf8proc-dev        # backend/model, service/tokenizer
  libcli11-dev libspdlog-dev libyaml-cpp-dev             # service/cli, service/config
  zlib1g-dev                                             # service/workload: .gz traces
  libdnnl-dev libhwy-dev libgomp1 libxxhash-dev          # backend/cpu, prefix hashes
  liburing-dev libhiredis-dev libnuma-dev                # backend/kv: the disk and the remote tier, host memory
  libgtest-dev libgmock-dev libbenchmark-dev python3     # tests/
)
# What a machine needs that only runs the binary: the libraries it is linked with. tests/deploy checks
# this list against the binary.
runtime=(
  libgrpc++1.51 libgrpc29 libprotobuf32 libabsl20220623  # service/grpc
  libssl3                                                # service/grpc: certificates, digests
  libprometheus-cpp-core1.0 libprometheus-cpp-pull1.0    # service/telemetry
  libpcre2-8-0 libutf8proc2                              # service/tokenizer
  libspdlog1.10 libfmt9 libyaml-cpp0.7                   # service/cli, service/config
  zlib1g                                                 # service/workload: .gz traces
  libdnnl2 libhwy1 libgomp1                              # backend/cpu
  liburing2 libhiredis0.14 libnuma1                      # backend/kv
)
lint=(clang-format clang-tidy)
clang=(clang)          # presets clang and tsan
metrics=(prometheus tmux)   # end-to-end tests: what operators see; skipped where they are missing
redis=(redis-server)        # tests of the remote KV tier; skipped where it is missing
# Build and run the image without Docker: deploy/container/check.sh.
container=(buildah umoci mmdebstrap runc uidmap)

list_only=false
if [[ ${1:-} == --list ]]; then
  list_only=true
  shift
fi

wanted=()
for group in "${@:-build}"; do
  case $group in
    build) wanted+=("${build[@]}") ;;
    runtime) wanted+=("${runtime[@]}") ;;
    lint) wanted+=("${lint[@]}") ;;
    clang) wanted+=("${clang[@]}") ;;
    metrics) wanted+=("${metrics[@]}") ;;
    redis) wanted+=("${redis[@]}") ;;
    container) wanted+=("${container[@]}") ;;
    *)
      echo "packages.sh: unknown group '$group'; want build, runtime, lint, clang, metrics, redis or container" >&2
      exit 2
      ;;
  esac
done

if $list_only; then
  printf '%s\n' "${wanted[@]}"
  exit 0
fi

if ! command -v dpkg-query apt-get >/dev/null; then
  echo "packages.sh: this is not a Debian system; going on in the hope that it has the equivalents of:" >&2
  echo "  ${wanted[*]}" >&2
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=()
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "packages.sh: these packages are missing, and neither root nor sudo is at hand. Run as root:" >&2
    echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
"${as_root[@]}" apt-get -qq update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "${missing[@]}" >/dev/null
