"""Which tests must notice what is missing in which sources, and which statements nobody can miss.

Statements are found by pattern (statements.py) in all of backend/cuda; one in a source that no group
names is an error, here and in CI (statements_test.py).
"""

import dataclasses
import fnmatch

from mutation import statements

ROOM = "backend/cuda/"
# The door to CUDA: instructions themselves, which tests/cuda_on_cpu/emulation tests.
NOT_OURS = (ROOM + "gpu/*",)


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    sources: tuple  # patterns below backend/cuda
    tests: tuple  # test programs, the likeliest to notice first
    # Programs of the ThreadSanitizer folder; () where none of them can see a difference.
    tsan_tests: tuple = ()
    # (source, part of the statement) -> why nothing depends on it, though it stays.
    redundant: dict = dataclasses.field(default_factory=dict)

    def has(self, source):
        return any(fnmatch.fnmatch(source, ROOM + pattern) for pattern in self.sources)

    def reason_if_redundant(self, mutant):
        for (source, part), reason in self.redundant.items():
            if mutant.source.endswith(source) and part in mutant.statement:
                return reason
        return ""


def kernel_group(name, tests, *files, **more):
    programs = tuple(f"cuda_kernel_{test}" for test in tests.split())
    return Group(name, tuple("kernels/" + f for f in files), programs, programs, **more)


LINK_TESTS = ("cuda_backend_link_test", "cuda_backend_link_property_test")
STEP_TESTS = ("cuda_backend_test", "cuda_two_steps_test", "cuda_in_flight_test",
              "cuda_backend_fault_step_test")

GROUPS = (
    kernel_group("attention", "attention_test attention_invariance_test", "attention_*"),
    kernel_group("mla", "mla_attention_test", "mla_attention.cu"),
    kernel_group("gemm", "gemm_test fp8_gemm_test", "gemm.cu"),
    kernel_group("quantize", "fp8_gemm_test", "quantize_rows.cu"),
    kernel_group("rms_norm", "row_kernels_test", "rms_norm.cu"),
    kernel_group("rope", "rope_kv_write_test", "rope_kv_write.cu"),
    kernel_group("sampling", "sampling_test", "block_reduce.cuh", "sampling.cu", "logits.cu"),
    Group("link", ("link/*", "device/status.h"),
          (*LINK_TESTS, "cuda_backend_link_fault_test"), LINK_TESTS),
    Group("device", ("device/stream.h", "device/pinned_pool.cc", "device/event.h",
                     "device/memory.cc"), (*LINK_TESTS, "cuda_backend_memory_test"), LINK_TESTS),
    Group("steps", ("step_runner.cc", "stall_watch.cc", "forward/*", "cuda_backend.cc"),
          STEP_TESTS, STEP_TESTS[1:]),
    Group("weights", ("weights/*",), ("cuda_weight_uploader_test",),
          ("cuda_weight_uploader_test",)),
    Group("probe", ("device_probe.cc",), ("cuda_backend_probe_test", "cuda_calibration_test"),
          redundant={("device_probe.cc", "cudaStreamWaitEvent(other_.get(), started_.get())"):
                     "the other stream is idle and gets its copy later; a device that begins it "
                     "before it has noted the time would measure too little"}),
)


def group_of(source):
    """The first group that names the source, or None."""
    return next((group for group in GROUPS if group.has(source)), None)


def statements_of_tree(root):
    """(group or None, mutant) of every statement of backend/cuda that orders things."""
    found = []
    for path in sorted((root / ROOM).rglob("*")):
        source = path.relative_to(root).as_posix()
        if path.suffix not in (".cc", ".cu", ".cuh", ".h"):
            continue
        if any(fnmatch.fnmatch(source, pattern) for pattern in NOT_OURS):
            continue
        found += [(group_of(source), m) for m in statements.find(source, path.read_text())]
    return found
