"""Which sources are mutated, which tests must notice, and which statements nobody can miss."""

import dataclasses

from mutation.statements import STATUS, VOID

KERNELS = "backend/cuda/kernels/"
CUDA = "backend/cuda/"


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    sources: tuple
    tests: tuple  # test programs, the likeliest to notice first
    # Programs of the ThreadSanitizer folder; () where none of them can see a difference.
    tsan_tests: tuple = ()
    calls: dict = dataclasses.field(default_factory=dict)  # more than statements.CALLS
    # (source, part of the statement) -> why nothing depends on it, though it stays.
    redundant: dict = dataclasses.field(default_factory=dict)

    def reason_if_redundant(self, mutant):
        for (source, part), reason in self.redundant.items():
            if mutant.source.endswith(source) and part in mutant.statement:
                return reason
        return ""


def kernel_group(name, test, *files, **more):
    return Group(name, tuple(KERNELS + f for f in files), (f"cuda_kernel_{test}",),
                 (f"cuda_kernel_{test}",), **more)


GROUPS = (
    kernel_group("attention", "attention_test", "attention_block-inl.cuh",
                 "attention_output-inl.cuh"),
    kernel_group("mla", "mla_attention_test", "mla_attention.cu", calls={r"MeetPartner": VOID}),
    kernel_group("gemm", "gemm_test", "gemm.cu"),
    kernel_group("rms_norm", "row_kernels_test", "rms_norm.cu"),
    kernel_group("rope", "rope_kv_write_test", "rope_kv_write.cu"),
    kernel_group("sampling", "sampling_test", "block_reduce.cuh", "sampling.cu", "logits.cu"),
    Group("link", (CUDA + "link/link_lane.cc", CUDA + "link/cuda_link.cc",
                   CUDA + "link/cuda_link_worker.cc"),
          ("cuda_backend_link_test", "cuda_backend_link_property_test",
           "cuda_backend_link_fault_test"),
          ("cuda_backend_link_test", "cuda_backend_link_property_test"),
          calls={r"Synchronize": STATUS, r"MakeWait": STATUS}),
    Group("steps", (CUDA + "step_runner.cc", CUDA + "stall_watch.cc"),
          ("cuda_backend_test",), calls={r"WaitForLayer": STATUS}),
    Group("weights", (CUDA + "weights/weight_uploader.cc",), ("cuda_weight_uploader_test",)),
)
