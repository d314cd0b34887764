#include "tests/cuda_on_cpu/emulation/seeded_run.h"

#include <array>
#include <cmath>
#include <vector>

#include "cuda_emu/control.h"

namespace sluice::seeded {
namespace {

#define RETURN_IF_ERROR(call)                             \
  do {                                                    \
    if (const cudaError_t error_ = (call)) return error_; \
  } while (false)

std::string Diagnostics() {
  std::string text;
  for (const auto& d : cuda_emu::Diagnostics()) text += d.kind + ": " + d.text + "\n";
  return text;
}

// ---- The kernel --------------------------------------------------------------------------------

constexpr int kSplits = 3;
constexpr int kPages = 5;  // per split

struct KernelMemory {
  float* values = nullptr;
  int* table = nullptr;
  float* out = nullptr;
  float* total = nullptr;
  unsigned* finished = nullptr;
  cudaStream_t stream = nullptr;

  ~KernelMemory() {
    static_cast<void>(cudaFree(values));
    static_cast<void>(cudaFree(table));
    static_cast<void>(cudaFree(out));
    static_cast<void>(cudaFree(total));
    static_cast<void>(cudaFree(finished));
    if (stream != nullptr) static_cast<void>(cudaStreamDestroy(stream));
  }
};

template <class T>
cudaError_t Upload(T** device, const std::vector<T>& values) {
  RETURN_IF_ERROR(cudaMalloc(device, values.size() * sizeof(T)));
  return cudaMemcpy(*device, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
}

struct KernelInput {
  std::vector<float> values;
  std::vector<int> table;
  std::vector<float> expected;
};

KernelInput MakeKernelInput() {
  constexpr int kTotalPages = kSplits * kPages + 1;
  KernelInput in;
  for (int i = 0; i < kTotalPages * kPageRows * kColumns; ++i) {
    in.values.push_back(static_cast<float>((i * 37) % 101 - 50));
  }
  // One entry more than is read: the page that an index off by one would take.
  for (int i = 0; i < kSplits * kPages + 1; ++i) in.table.push_back((i * 7 + 3) % kTotalPages);
  in.expected.assign(kSplits * kColumns, 0);
  for (int split = 0; split < kSplits; ++split) {
    for (int row = 0; row < kPages * kPageRows; ++row) {
      const int page = in.table[static_cast<size_t>(split * kPages + row / kPageRows)];
      for (int c = 0; c < kColumns; ++c) {
        in.expected[static_cast<size_t>(split * kColumns + c)] +=
            Weight(row) *
            in.values[static_cast<size_t>((page * kPageRows + row % kPageRows) * kColumns + c)];
      }
    }
  }
  return in;
}

cudaError_t RunKernelOnce(KernelBug bug, const KernelInput& in, std::vector<float>* out,
                          std::vector<float>* total) {
  KernelMemory m;
  RETURN_IF_ERROR(cudaStreamCreateWithFlags(&m.stream, cudaStreamNonBlocking));
  RETURN_IF_ERROR(Upload(&m.values, in.values));
  RETURN_IF_ERROR(Upload(&m.table, in.table));
  RETURN_IF_ERROR(Upload(&m.finished, std::vector<unsigned>{0}));
  // Exactly as large as it must be, so that the element behind is not there.
  RETURN_IF_ERROR(cudaMalloc(&m.out, in.expected.size() * sizeof(float)));
  RETURN_IF_ERROR(cudaMalloc(&m.total, kColumns * sizeof(float)));
  const PagedSumParams params{m.values, m.table, m.out, m.total, m.finished, kPages};
  RETURN_IF_ERROR(PagedSum(bug, params, kSplits, m.stream));
  RETURN_IF_ERROR(cudaStreamSynchronize(m.stream));
  out->resize(in.expected.size());
  total->resize(kColumns);
  RETURN_IF_ERROR(
      cudaMemcpy(out->data(), m.out, out->size() * sizeof(float), cudaMemcpyDeviceToHost));
  return cudaMemcpy(total->data(), m.total, kColumns * sizeof(float), cudaMemcpyDeviceToHost);
}

// ---- The pipeline ------------------------------------------------------------------------------

constexpr int kLayers = 6;
// The host waits for stores; between two of them staging buffers must be reused, or the waits for
// them would not matter.
constexpr int kStorePeriod = 3;
constexpr int kLayerFloats = 256;
constexpr size_t kLayerBytes = kLayerFloats * sizeof(float);
constexpr float kFactor = 0.5f;
constexpr float kNewContent = -5;

float Source(int layer, int i) { return static_cast<float>((layer * 31 + i * 7) % 64); }

std::vector<float> ExpectedAfter(int layers) {
  std::vector<float> sum(kLayerFloats, 0);
  for (int layer = 0; layer < layers; ++layer) {
    for (int i = 0; i < kLayerFloats; ++i) {
      sum[static_cast<size_t>(i)] = kFactor * sum[static_cast<size_t>(i)] + Source(layer, i);
    }
  }
  return sum;
}

// Owns everything the pipeline uses; releases it in any state.
struct Pipeline {
  StreamBug bug;
  cudaStream_t load = nullptr, compute = nullptr, store = nullptr;
  std::array<cudaEvent_t, 2> copied{}, used{};
  cudaEvent_t computed = nullptr, stored = nullptr;
  std::array<float*, 2> stage{};
  float* sum = nullptr;
  float* snapshot = nullptr;  // the state after a layer, on its way to the host
  float* source = nullptr;    // [kLayers][kLayerFloats], pinned
  float* result = nullptr;    // pinned; reused by every store
  std::vector<float> pageable{};
  bool wrong = false;

  ~Pipeline() {
    static_cast<void>(cudaDeviceSynchronize());
    for (cudaStream_t s : {load, compute, store}) {
      if (s != nullptr) static_cast<void>(cudaStreamDestroy(s));
    }
    for (cudaEvent_t e : {copied[0], copied[1], used[0], used[1], computed, stored}) {
      if (e != nullptr) static_cast<void>(cudaEventDestroy(e));
    }
    for (float* p : {stage[0], stage[1], sum, snapshot}) static_cast<void>(cudaFree(p));
    for (float* p : {source, result}) static_cast<void>(cudaFreeHost(p));
  }

  cudaError_t SetUp() {
    for (cudaStream_t* s : {&load, &compute, &store}) {
      RETURN_IF_ERROR(cudaStreamCreateWithFlags(s, cudaStreamNonBlocking));
    }
    for (cudaEvent_t* e : {&copied[0], &copied[1], &used[0], &used[1], &computed, &stored}) {
      RETURN_IF_ERROR(cudaEventCreateWithFlags(e, cudaEventDisableTiming));
    }
    for (float** p : {&stage[0], &stage[1], &sum, &snapshot}) {
      RETURN_IF_ERROR(cudaMalloc(p, kLayerBytes));
    }
    RETURN_IF_ERROR(cudaMallocHost(&source, kLayers * kLayerBytes));
    RETURN_IF_ERROR(cudaMallocHost(&result, kLayerBytes));
    for (int i = 0; i < kLayers * kLayerFloats; ++i) {
      source[i] = Source(i / kLayerFloats, i % kLayerFloats);
    }
    pageable.assign(source, source + kLayers * kLayerFloats);
    return cudaMemsetAsync(sum, 0, kLayerBytes, compute);
  }

  cudaError_t Load(int layer) {
    const auto slot = static_cast<size_t>(layer % 2);
    float* const from =
        (bug == StreamBug::kPageableSource ? pageable.data() : source) + layer * kLayerFloats;
    if (layer >= 2 && bug != StreamBug::kRefillDoesNotWait) {
      RETURN_IF_ERROR(cudaStreamWaitEvent(load, used[slot]));
    }
    if (bug == StreamBug::kRecordBeforeCopy) RETURN_IF_ERROR(cudaEventRecord(copied[slot], load));
    RETURN_IF_ERROR(cudaMemcpyAsync(stage[slot], from, kLayerBytes, cudaMemcpyHostToDevice, load));
    if (bug == StreamBug::kSourceOverwritten) from[3] = -1;
    if (bug == StreamBug::kRecordBeforeCopy) return cudaSuccess;
    return cudaEventRecord(copied[slot], load);
  }

  cudaError_t Compute(int layer) {
    const auto slot = static_cast<size_t>(layer % 2);
    if (bug != StreamBug::kComputeDoesNotWait) {
      RETURN_IF_ERROR(cudaStreamWaitEvent(compute, copied[slot]));
    }
    RETURN_IF_ERROR(ScaleAdd(stage[slot], sum, kFactor, kLayerFloats, compute));
    return cudaEventRecord(used[slot], compute);
  }

  // Takes the result of the layers so far to the host and looks at it there.
  cudaError_t Store(int layer) {
    // The snapshot is free: the host has waited for the last store.
    RETURN_IF_ERROR(cudaMemcpyAsync(snapshot, sum, kLayerBytes, cudaMemcpyDeviceToDevice, compute));
    RETURN_IF_ERROR(cudaEventRecord(computed, compute));
    RETURN_IF_ERROR(cudaStreamWaitEvent(store, computed));
    RETURN_IF_ERROR(cudaMemcpyAsync(result, snapshot, kLayerBytes, cudaMemcpyDeviceToHost, store));
    RETURN_IF_ERROR(cudaEventRecord(stored, store));
    if (bug == StreamBug::kStoreNotAwaited && layer + 1 == kLayers) {
      result[0] = kNewContent;  // the block has a new owner
      return cudaSuccess;
    }
    if (bug != StreamBug::kResultNotAwaited) RETURN_IF_ERROR(cudaEventSynchronize(stored));
    const std::vector<float> expected = ExpectedAfter(layer + 1);
    for (size_t i = 0; i < expected.size(); ++i) wrong |= !(result[i] == expected[i]);
    return cudaSuccess;
  }

  cudaError_t Run() {
    RETURN_IF_ERROR(SetUp());
    for (int layer = 0; layer < kLayers; ++layer) {
      if (bug == StreamBug::kWaitBeforeRecord) {
        RETURN_IF_ERROR(Compute(layer));
        RETURN_IF_ERROR(Load(layer));
      } else {
        RETURN_IF_ERROR(Load(layer));
        RETURN_IF_ERROR(Compute(layer));
      }
      if (layer % kStorePeriod == kStorePeriod - 1) RETURN_IF_ERROR(Store(layer));
    }
    RETURN_IF_ERROR(cudaDeviceSynchronize());
    if (bug == StreamBug::kStoreNotAwaited) wrong |= result[0] != kNewContent;
    return cudaSuccess;
  }
};

}  // namespace

std::string Outcome::Text() const {
  return std::string(wrong ? "wrong " : "") +
         (error == cudaSuccess ? "" : std::string(cudaGetErrorName(error)) + " ") + diagnostics;
}

const char* Name(StreamBug bug) {
  static constexpr const char* kNames[kStreamBugs] = {"none",
                                                      "compute_does_not_wait",
                                                      "refill_does_not_wait",
                                                      "result_not_awaited",
                                                      "record_before_copy",
                                                      "wait_before_record",
                                                      "pageable_source",
                                                      "source_overwritten",
                                                      "store_not_awaited"};
  return kNames[static_cast<int>(bug)];
}

Outcome RunKernel(KernelBug bug) {
  const KernelInput in = MakeKernelInput();
  Outcome outcome;
  std::vector<float> out;
  std::vector<float> total;
  outcome.error = RunKernelOnce(bug, in, &out, &total);
  if (outcome.error == cudaSuccess) {
    for (size_t i = 0; i < out.size(); ++i) outcome.wrong |= !(out[i] == in.expected[i]);
    for (size_t c = 0; c < kColumns; ++c) {
      float sum = 0;
      for (size_t split = 0; split < kSplits; ++split) sum += in.expected[split * kColumns + c];
      outcome.wrong |= !(total[c] == sum);
    }
  }
  outcome.diagnostics = Diagnostics();
  return outcome;
}

Outcome RunPipeline(StreamBug bug) {
  Outcome outcome;
  {
    Pipeline pipeline{.bug = bug};
    outcome.error = pipeline.Run();
    outcome.wrong = pipeline.wrong;
  }
  outcome.diagnostics = Diagnostics();
  return outcome;
}

cudaError_t RunPipelineOnce() {
  Pipeline pipeline{.bug = StreamBug::kNone};
  return pipeline.Run();
}

}  // namespace sluice::seeded
