#!/usr/bin/env bash
# Builds the image without Docker and tries it the way Kubernetes runs it.
#
#   sudo deploy/container/check.sh [--target cpu|demo] [--context DIR] [--keep] [--reuse]
#
#   --target T     image to build (default demo, which brings a model to answer with)
#   --context DIR  tree to build from (default: this repository)
#   --keep         leave images and bundle in build/container
#   --reuse        try the image that --keep left, without building
#
# Needs Debian 12, root, a Debian mirror, and the packages of `deploy/setup/packages.sh container`. No
# registry is asked: the base image is made by mmdebstrap from the mirror that this machine uses.
#
# What it shows, each a line "ok: ..."; it exits 1 at the first that is not:
#   the unmodified Dockerfile builds; config, labels and user are as they should be; runc runs the image as
#   uid 65532, without capabilities or new privileges, on a read-only root; a client gets an answer; the
#   health check is good; a write to the root fails; SIGTERM lets a running answer end, then exit code 0.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
context=$root
target=demo
keep=false
reuse=false
while [[ $# -gt 0 ]]; do
  case $1 in
    --target) target=$2; shift 2 ;;
    --context) context=$(cd "$2" && pwd); shift 2 ;;
    --keep) keep=true; shift ;;
    --reuse) reuse=true; keep=true; shift ;;
    *) echo "check.sh: unknown argument '$1'; see the head of the file" >&2; exit 2 ;;
  esac
done

work=$root/build/container
image=localhost/sluice:check-$target
base=docker.io/library/debian:bookworm-slim
store=(--root "$work/store" --runroot "$work/run" --storage-driver vfs)
container=sluice-check-$$
endpoint=127.0.0.1:${SLUICE_CHECK_PORT:-50951}
metrics_port=${SLUICE_CHECK_METRICS_PORT:-50952}

die() { echo "not ok: $*" >&2; exit 1; }
ok() { echo "ok: $*"; }
since() { echo "$((SECONDS - $1)) s"; }

[[ $EUID -eq 0 ]] || die "needs root: mmdebstrap and chroot isolation do"
for tool in buildah umoci mmdebstrap runc; do
  command -v $tool >/dev/null || die "no $tool here; run deploy/setup/packages.sh container"
done

clean_up() {
  runc --root "$work/runc" delete --force "$container" >/dev/null 2>&1 || true
  $keep || rm -rf "$work"
}
trap clean_up EXIT
$reuse || rm -rf "$work"
mkdir -p "$work"

make_base() {
  local start=$SECONDS
  mmdebstrap --quiet --mode=root --variant=apt bookworm "$work/base.tar"
  printf 'FROM scratch\nADD base.tar /\nCMD ["/bin/sh"]\n' >"$work/Containerfile.base"
  buildah "${store[@]}" bud --quiet --isolation chroot -t $base \
    -f "$work/Containerfile.base" "$work" >/dev/null
  ok "base image $base from this machine's Debian mirror, $(since $start)"
}

build_image() {
  local start=$SECONDS
  local mounts=(-v /etc/apt:/etc/apt:ro -v /usr/share/keyrings:/usr/share/keyrings:ro)
  # For those who build often: SLUICE_CHECK_CCACHE=DIR keeps compiled objects between builds.
  [[ -z ${SLUICE_CHECK_CCACHE:-} ]] || mounts+=(-v "$SLUICE_CHECK_CCACHE:/src/.ccache")
  buildah "${store[@]}" bud --format docker --isolation chroot --pull-never "${mounts[@]}" \
    --build-arg JOBS="${SLUICE_CHECK_JOBS:-}" \
    --build-arg REVISION="$(git -C "$context" rev-parse HEAD 2>/dev/null || echo unknown)" \
    --target "$target" -t "$image" -f "$context/deploy/container/Dockerfile" \
    "$context" >"$work/build.log" 2>&1 || { tail -30 "$work/build.log" >&2; die "the build failed"; }
  ok "$image built from the Dockerfile, $(since $start)"
}

# FIELD of the image's configuration, as JSON.
config() {
  buildah "${store[@]}" inspect --type image "$image" |
    python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["Docker"]["config"].get(sys.argv[1])))' "$1"
}

check_config() {
  [[ $(config User) == '"65532:65532"' ]] || die "user is $(config User); want 65532:65532"
  [[ $(config StopSignal) == '"SIGTERM"' ]] || die "stop signal is $(config StopSignal)"
  [[ $(config Healthcheck) == *'"health"'* ]] || die "no health check: $(config Healthcheck)"
  [[ $(config Labels) == *image.version* ]] || die "no version label: $(config Labels)"
  if config Env | grep -qiE 'token|secret|passw'; then die "a secret in the environment"; fi
  ok "runs as 65532:65532, stops by SIGTERM, has a health check and labels, no secret in its environment"
}

make_bundle() {
  rm -rf "$work/oci" "$work/bundle"
  buildah "${store[@]}" push --quiet "$image" "oci:$work/oci:check"
  umoci unpack --image "$work/oci:check" "$work/bundle" 2>/dev/null
  echo "   size: $(du -sm --apparent-size "$work/bundle/rootfs" | cut -f1) MB unpacked," \
    "$(du -sm "$work/oci" | cut -f1) MB compressed;" \
    "sluice itself $(du -sk "$work/bundle/rootfs/usr/local/bin/sluice" | cut -f1) kB," \
    "$(wc -l <"$work/bundle/rootfs/usr/share/sluice-packages.txt") Debian packages"
  python3 - "$work/bundle/config.json" "${endpoint##*:}" "$metrics_port" <<'PYTHON'
"""The restrictions of deploy/kubernetes/base, as an OCI runtime configuration."""
import json
import sys

path, port, metrics_port = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    config = json.load(file)
process = config["process"]
process["args"] = ["/usr/local/bin/sluice", "serve", "--host=127.0.0.1", "--model=/models/demo",
                   f"--port={port}", f"--metrics-port={metrics_port}", "--shutdown-timeout=60"]
process["terminal"] = False
process["noNewPrivileges"] = True
process["capabilities"] = {kind: [] for kind in
                           ("bounding", "effective", "inheritable", "permitted", "ambient")}
config["root"]["readonly"] = True
config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/tmp"]
config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                         "options": ["nosuid", "nodev", "noexec", "size=64m"]})
# The host's network, for a client outside; no cgroup, which not every build machine lets one make.
config["linux"]["namespaces"] = [space for space in config["linux"]["namespaces"]
                                 if space["type"] not in ("network", "cgroup")]
config["linux"].pop("resources", None)
config.pop("hooks", None)
with open(path, "w", encoding="utf-8") as file:
    json.dump(config, file)
PYTHON
}

# A command in the image, outside the running container: a client, on the host's network.
client() { chroot --userspec=65532:65532 "$work/bundle/rootfs" /usr/local/bin/sluice "$@"; }

in_container() { runc --root "$work/runc" exec "$container" "$@"; }

start_server() {
  local start=$SECONDS
  runc --root "$work/runc" run --bundle "$work/bundle" "$container" \
    >"$work/serve.out" 2>"$work/serve.log" &
  server=$!
  for _ in $(seq 120); do
    if client health --endpoint="$endpoint" --connect-timeout=1 >/dev/null 2>&1; then
      ok "serves after $(since $start)"
      return
    fi
    kill -0 $server 2>/dev/null || { cat "$work/serve.log" >&2; die "the server ended"; }
    sleep 0.5
  done
  die "the server does not answer"
}

check_restrictions() {
  local pid
  pid=$(runc --root "$work/runc" state "$container" | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')
  [[ $(awk '/^Uid:/ {print $2}' "/proc/$pid/status") == 65532 ]] || die "not uid 65532"
  [[ $(awk '/^CapBnd:/ {print $2}' "/proc/$pid/status") == 0000000000000000 ]] || die "has capabilities"
  [[ $(awk '/^NoNewPrivs:/ {print $2}' "/proc/$pid/status") == 1 ]] || die "may gain privileges"
  if in_container /bin/sh -c 'echo x >/var/lib/sluice/x' 2>/dev/null; then die "the root is writable"; fi
  in_container /bin/sh -c 'echo x >/tmp/x' || die "/tmp is not writable"
  ok "uid 65532, no capabilities, no new privileges, read-only root, writable /tmp"
  in_container /usr/local/bin/sluice health --endpoint="$endpoint" | grep -qx SERVING || die "health check"
  ok "the health check says SERVING"
}

check_answer() {
  local answer
  answer=$(client generate --endpoint="$endpoint" --prompt='It is a truth universally' --max-tokens=24 --temperature=0)
  [[ -n $answer ]] || die "an empty answer"
  ok "a client is answered: \"$(echo "$answer" | head -c 60 | tr '\n' ' ')...\""
}

check_drain() {
  local start status=0
  client generate --endpoint="$endpoint" --prompt='It is a truth universally' --max-tokens=1500 \
    --ignore-eos --temperature=0 --json >"$work/long.json" 2>"$work/long.err" &
  local long=$!
  for _ in $(seq 100); do
    client health --endpoint="$endpoint" >/dev/null
    grep -q '^sluice_requests_running[^ ]* 1' <(metrics) && break
    sleep 0.05
  done
  start=$SECONDS
  runc --root "$work/runc" kill "$container" TERM
  sleep 0.3
  if client health --endpoint="$endpoint" --service=sluice.v1.Inference >/dev/null 2>&1; then
    die "still ready after SIGTERM"
  fi
  wait $long || { cat "$work/long.err" >&2; die "the answer under way was cut off"; }
  python3 -c 'import json, sys; r = json.loads(open(sys.argv[1]).read().strip().split("\n")[-1]); assert len(r["samples"][0]["output_ids"] if "samples" in r else r["output_ids"]) == 1500' "$work/long.json" \
    || die "the answer under way is not whole"
  wait $server || status=$?
  [[ $status -eq 0 ]] || die "exit code $status after SIGTERM"
  ok "SIGTERM: not ready at once, the answer under way came whole (1500 tokens), exit code 0 after $(since $start)"
}

metrics() {
  python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())' \
    "http://127.0.0.1:$metrics_port/metrics"
}

if ! $reuse; then
  make_base
  build_image
fi
check_config
make_bundle
if [[ $target != demo ]]; then
  echo "   target $target has no model: --target demo also runs it"
  exit 0
fi
start_server
check_restrictions
check_answer
check_drain
