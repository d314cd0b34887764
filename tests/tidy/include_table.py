"""Who may include whom. The only place where the direction of dependencies is written down.

    service  ->  backend  ->  scheduler (plain data only)
    service  ->  scheduler

A rule applies to a folder and everything below it; the most specific rule wins. `project` lists the
headers of this repository that may be included (a folder with its slash, or one file), `external` the
third-party ones, by prefix. `std` restricts the standard library: None allows all of it.
"""

import dataclasses
import posixpath
import re

from source_tree import CPP, includes

# Headers that hold values, not behaviour: what crosses layers.
VALUES = ("scheduler/base/", "scheduler/step.h", "scheduler/request.h", "scheduler/options.h",
          "scheduler/policy_options.h", "scheduler/stats.h", "scheduler/explanation.h",
          "scheduler/cache_control.h", "scheduler/cost/", "scheduler/kv/kv_events.h",
          "scheduler/kv/residency.h")
# What a backend may know: the steps it runs.
STEP = ("scheduler/base/", "scheduler/step.h", "scheduler/request.h")

# No clock, no lock, no thread, no file, no randomness.
PURE_STD = frozenset("""
    algorithm array bit bitset cassert cctype cfloat climits cmath compare concepts cstddef cstdint
    cstring deque functional initializer_list iosfwd iterator limits list map memory new numeric
    optional ostream queue set span string string_view tuple type_traits unordered_map
    unordered_set utility variant vector""".split())
PURE_ABSL = ("absl/algorithm/", "absl/base/attributes.h", "absl/container/", "absl/functional/",
             "absl/hash/", "absl/numeric/", "absl/status/", "absl/strings/", "absl/time/time.h",
             "absl/types/")
ABSL = ("absl/",)
JSON = ("nlohmann/",)
PROTO = ("google/protobuf/", "google/rpc/", "grpc/health/", "sluice/v1/", "smg/grpc/", "vllm/grpc/",
         "xds/")
GRPC = ("grpc/", "grpcpp/")


@dataclasses.dataclass(frozen=True)
class Rule:
    folder: str
    project: tuple
    external: tuple = ABSL
    std: frozenset = None


RULES = (
    Rule("scheduler/base", ("scheduler/base/",), PURE_ABSL, PURE_STD),
    Rule("scheduler/cost", VALUES, PURE_ABSL, PURE_STD),
    Rule("scheduler/link", VALUES + ("scheduler/link/",), PURE_ABSL, PURE_STD),
    Rule("scheduler/kv", VALUES + ("scheduler/kv/",), PURE_ABSL, PURE_STD),
    Rule("scheduler/policy", VALUES + ("scheduler/kv/", "scheduler/policy/"), PURE_ABSL, PURE_STD),
    Rule("scheduler", ("scheduler/",), PURE_ABSL, PURE_STD),

    Rule("backend/model", ("scheduler/base/", "backend/model/"), ABSL + JSON + ("xxhash.h",)),
    Rule("backend/reference", STEP + ("backend/model/", "backend/reference/")),
    Rule("backend/cpu", STEP + ("scheduler/cost/measure.h", "scheduler/link/", "backend/activity.h",
                                "backend/backend.h", "backend/probe_timer.h", "backend/model/",
                                "backend/cpu/", "backend/kv/"),
         ABSL + ("dnnl.h", "hwy/", "oneapi/", "xxhash.h")),
    Rule("backend/kv", STEP + ("scheduler/cost/measure.h", "scheduler/link/", "backend/activity.h",
                               "backend/kv/"),
         ABSL + JSON + ("hiredis/", "hwy/", "liburing.h", "numa.h", "numaif.h", "openssl/",
                        "xxhash.h")),
    # The door to CUDA: the toolkit's headers or the emulation's, and nothing of ours.
    Rule("backend/cuda/gpu", ("backend/cuda/gpu/",),
         ABSL + ("cuda_bf16.h", "cuda_fp16.h", "cuda_fp8.h", "cuda_runtime.h", "cuda_emu/device.h",
                 "cuda_emu/runtime.h", "sanitizer/asan_interface.h")),
    Rule("backend/cuda/kernels", ("scheduler/base/", "backend/cuda/gpu/", "backend/cuda/kernels/"),
         ABSL + ("cublasLt.h",)),
    Rule("backend/cuda/device", ("scheduler/base/", "backend/cuda/gpu/", "backend/cuda/device/")),
    Rule("backend/cuda/link", STEP + ("scheduler/cost/measure.h", "scheduler/link/",
                                      "backend/activity.h", "backend/cuda/device/",
                                      "backend/cuda/gpu/", "backend/cuda/kernels/",
                                      "backend/cuda/link/")),
    Rule("backend/cuda/weights", ("scheduler/base/", "backend/model/", "backend/cuda/device/",
                                  "backend/cuda/gpu/", "backend/cuda/kernels/quantize_rows.h",
                                  "backend/cuda/weights/")),
    Rule("backend/cuda/forward", STEP + ("backend/model/", "backend/cuda/device/",
                                         "backend/cuda/forward/", "backend/cuda/gpu/",
                                         "backend/cuda/kernels/", "backend/cuda/link/kv_pools.h",
                                         "backend/cuda/weights/")),
    Rule("backend/cuda", STEP + ("scheduler/cost/measure.h", "backend/activity.h", "backend/backend.h", "backend/probe_timer.h", "backend/kv/",
                                 "backend/model/", "backend/cuda/")),
    Rule("backend/sim", STEP + ("scheduler/cost/", "scheduler/link/", "backend/activity.h",
                                "backend/backend.h", "backend/sim/")),
    Rule("backend", STEP + ("backend/activity.h", "backend/backend.h", "backend/disk_probe.h",
                            "backend/probe_timer.h")),

    Rule("service/access", ("scheduler/base/", "scheduler/request.h", "service/access/")),
    Rule("service/tokenizer", ("scheduler/base/", "service/tokenizer/"),
         ABSL + JSON + ("pcre2.h", "utf8proc.h")),
    # Event and BackendInfo are values that live in the two facades' headers.
    Rule("service/telemetry", VALUES + ("scheduler/scheduler.h", "backend/activity.h",
                                        "backend/backend.h", "backend/kv/remote_stats.h",
                                        "backend/kv/tiered_stats.h",
                                        "service/telemetry/"),
         ABSL + ("prometheus/",)),
    Rule("service/trace", VALUES + ("scheduler/scheduler.h", "service/engine/", "service/trace/")),
    Rule("service/report", ("scheduler/base/", "service/report/")),
    Rule("service/config", VALUES + ("scheduler/policy/registry.h", "service/config/"), ABSL + ("yaml-cpp/",)),
    Rule("service/workload", ("scheduler/base/", "service/workload/"), ABSL + JSON + ("zlib.h",)),
    # One reader of JSON for all files that come from outside.
    Rule("service/profiles", ("scheduler/base/", "scheduler/cost/", "backend/model/json_fields.h",
                              "service/config/suggest.h", "service/profiles/"), ABSL + JSON),
    # Measures through the code that serves.
    Rule("service/calibration", ("scheduler/base/", "scheduler/cost/", "scheduler/step.h",
                                 "backend/cpu/", "backend/cuda/device_probe.h", "backend/disk_probe.h",
                                 "backend/kv/kv_codec.h",
                                 "backend/model/files.h", "backend/probe_timer.h",
                                 "service/calibration/",
                                 "service/config/memory.h", "service/profiles/")),
    Rule("service/engine", VALUES + ("scheduler/scheduler.h", "backend/activity.h",
                                     "backend/backend.h", "service/engine/", "service/telemetry/")),
    Rule("service/simulation", VALUES + ("scheduler/scheduler.h", "scheduler/policy/registry.h",
                                         "backend/activity.h", "backend/sim/", "service/engine/",
                                         "service/report/", "service/simulation/",
                                         "service/workload/"),
         ABSL + JSON),
    Rule("service/grpc", VALUES + ("scheduler/scheduler.h", "backend/activity.h",
                                   "backend/backend.h", "service/access/", "service/engine/",
                                   "service/grpc/", "service/telemetry/", "service/tokenizer/",
                                   "service/trace/"),
         ABSL + GRPC + PROTO + ("openssl/", "xxhash.h", "zlib.h")),
    Rule("service/chat", ("scheduler/base/status_macros.h", "service/tokenizer/utf8.h",
                          "service/chat/"), ABSL + JSON),
    # Boost: only what Beast, the HTTP library, needs.
    Rule("service/http", VALUES + ("scheduler/scheduler.h", "service/access/",
                                   "service/chat/chat_template.h",
                                   "service/access/", "service/engine/", "service/grpc/",
                                   "service/http/",
                                   "service/telemetry/metrics.h", "service/tokenizer/"),
         ABSL + JSON + PROTO + ("boost/asio/", "boost/beast/")),
    # Assembly: the one place that makes all the parts and hands them to each other.
    Rule("service/cli", ("scheduler/", "backend/", "service/"),
         ABSL + GRPC + PROTO + JSON + ("CLI/", "spdlog/")),
    Rule("service", ("service/cli/",)),

    Rule("tests/cuda_on_cpu", ("scheduler/", "backend/", "tests/"),
         ABSL + ("cuda_emu/", "gmock/", "gtest/")),
    Rule("tests/cuda_on_cpu/cuda_emu", (), ("cuda_emu/",)),
    Rule("tests/cuda_on_cpu/calibration", ("scheduler/", "backend/", "service/", "tests/"),
         ABSL + ("cuda_emu/", "gmock/", "gtest/")),
    Rule("tests/cuda_on_cpu/server", ("backend/cuda/gpu/", "service/cli/app.h"), ("cuda_emu/",)),
    Rule("tests/cuda_on_cpu/probe", ("tests/cuda_on_cpu/probe/",),
         ("cuda_bf16.h", "cuda_fp16.h", "cuda_fp8.h", "cuda_runtime_api.h", "cuda_emu/")),
    Rule("tests/cuda_on_cpu/kernels", ("scheduler/", "backend/", "tests/cuda_on_cpu/"),
         ABSL + ("cuda_emu/", "gmock/", "gtest/")),
    Rule("tests/gpu", ("scheduler/", "backend/", "tests/"),
         ABSL + JSON + ("cuda_emu/", "gmock/", "gtest/")),
    Rule("tests", ("scheduler/", "backend/", "service/", "tests/"),
         ABSL + GRPC + PROTO + JSON + ("benchmark/", "dnnl.h", "gmock/", "gtest/", "hwy/",
                                       "oneapi/", "prometheus/", "src/proto/grpc/", "xxhash.h",
                                       "hiredis/", "yaml-cpp/", "CLI/")),
)

# Single files that need more than their folder: path -> headers.
EXCEPTIONS = {
    "scheduler/base/check.h": ("cstdio", "cstdlib"),  # says why before it aborts
    "scheduler/base/hash.cc": ("xxhash.h",),
    "tests/service/grpc/gateway_pieces_test.cc": ("zlib.h",),  # reads archives
    "tests/service/workload/trace_reader_test.cc": ("zlib.h",),  # makes damaged files
}

# The verbs of the ring. Who calls them drives the scheduler or the backend: service/engine alone.
DRIVER_CALLS = re.compile(r"(?:\.|->)\s*(PlanStep|CommitStep|OnCopyDone|StartCopies"
                          r"|TakeFinishedCopies)\s*\(")
DRIVERS = ("service/engine/", "scheduler/", "backend/", "tests/")

_POSIX = re.compile(r"^(sys|netinet|arpa|linux|net)/|^(cpuid|dirent|dlfcn|fcntl|immintrin|poll|pthread|pwd"
                    r"|sched|signal|termios|time|unistd|x86intrin|arm_neon|netdb|cxxabi|execinfo)\.h$")


def rule_for(path):
    folder = posixpath.dirname(path)
    matching = [r for r in RULES if folder == r.folder or folder.startswith(r.folder + "/")]
    return max(matching, key=lambda r: len(r.folder), default=None)


def _allowed(header, system, rule):
    if header.startswith(("scheduler/", "backend/", "service/", "tests/")):
        return header.startswith(rule.project)
    if header.startswith(rule.external):
        return True
    if "/" not in header and "." not in header:  # a standard header
        return rule.std is None or header in rule.std
    return rule.std is None and system and bool(_POSIX.match(header))


def check_includes(tree):
    """Yields (path, line, message) of each include that the table does not allow."""
    for path in tree.with_suffix(*CPP):
        rule = rule_for(path)
        if rule is None:
            yield path, 1, "no rule in tests/tidy/include_table.py covers this folder"
            continue
        for line, header, system in includes(tree.read(path)):
            if not _allowed(header, system, rule) and header not in EXCEPTIONS.get(path, ()):
                yield path, line, f"{rule.folder}/ must not include {header}"


def check_drivers(tree):
    """Yields (path, line, message) of each call that drives the engine's parts from elsewhere."""
    for path in tree.with_suffix(*CPP):
        if path.startswith(DRIVERS):
            continue
        for number, line in enumerate(tree.code(path).split("\n"), 1):
            for match in DRIVER_CALLS.finditer(line):
                yield path, number, f"only service/engine calls {match.group(1)}()"
