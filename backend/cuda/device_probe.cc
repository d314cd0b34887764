#include "backend/cuda/device_probe.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "backend/cuda/device/context.h"
#include "backend/cuda/device/event.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/device/status.h"
#include "backend/cuda/device/stream.h"
#include "backend/cuda/gemm_choice.h"
#include "backend/cuda/kernels/attention_plan.h"
#include "backend/cuda/kernels/kv_transfer.h"
#include "backend/cuda/kernels/rms_norm.h"
#include "scheduler/base/status_macros.h"

namespace sluice::cuda {
namespace {

constexpr int64_t kBlockTokens = 16;
// Bytes of one row of K and V of one head in the pages that Gather() moves.
constexpr int64_t kGatherRow = 512;
constexpr int32_t kSmallHidden = 64;

template <class T>
absl::StatusOr<DeviceBuffer> Upload(const std::vector<T>& values, MemoryAccount& account) {
  // Never empty: kernels without work still get a pointer.
  const auto size = Bytes(static_cast<int64_t>(values.size() * sizeof(T) + sizeof(T)));
  SLUICE_ASSIGN_OR_RETURN(DeviceBuffer buffer, DeviceBuffer::Allocate(size, "a table", account));
  SLUICE_CUDA_RETURN_IF_ERROR(
      cudaMemcpy(buffer.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return buffer;
}

class RealCudaProbe final : public CudaProbe {
 public:
  RealCudaProbe(DeviceContext context, const ProbeControl& control)
      : context_(std::move(context)), control_(control) {}

  absl::Status SetUp(Bytes large) {
    SLUICE_ASSIGN_OR_RETURN(stream_, Stream::Create());
    SLUICE_ASSIGN_OR_RETURN(other_, Stream::Create());
    for (Event* event : {&begin_, &end_}) {
      SLUICE_ASSIGN_OR_RETURN(*event, Event::Create(EventKind::kTiming));
    }
    for (Event* event : {&started_, &joined_}) {
      SLUICE_ASSIGN_OR_RETURN(*event, Event::Create());
    }
    SLUICE_ASSIGN_OR_RETURN(device_, DeviceBuffer::Allocate(large, "the probe", account_));
    SLUICE_ASSIGN_OR_RETURN(host_, PinnedBuffer::Allocate(large, "the probe", account_));
    // Numbers near one: an empty page would draw less power and run faster than real ones.
    std::fill_n(host_.as<uint16_t>(), large.size() / 2, uint16_t{0x3f80});
    SLUICE_CUDA_RETURN_IF_ERROR(
        cudaMemcpy(device_.data(), host_.data(), large.size(), cudaMemcpyHostToDevice));
    SLUICE_ASSIGN_OR_RETURN(gemm_, MakeServingGemmEngine());
    SLUICE_ASSIGN_OR_RETURN(const DeviceContext::Memory memory, context_.QueryMemory());
    memory_ = memory.total;
    return absl::OkStatus();
  }

  std::string device_name() const override { return context_.info().name; }
  std::string description() const override { return context_.Describe(); }
  Bytes memory() const override { return memory_; }

  absl::StatusOr<RunTimes> CopyInside() override {
    const size_t half = device_.size().size() / 2;
    return Time([&] {
      return CudaStatus(cudaMemcpyAsync(device_.as<std::byte>() + half, device_.data(), half,
                                        cudaMemcpyDeviceToDevice, stream_.get()),
                        "copy within the device");
    });
  }

  absl::StatusOr<RunTimes> Product(int64_t rows, int64_t outputs, int64_t inputs) override {
    SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer a, Halves(rows * inputs));
    SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer b, Halves(outputs * inputs));
    SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer c, Halves(rows * outputs));
    GemmParams params;
    params.a = a.data();
    params.a_stride = inputs;
    params.b = b.data();
    params.c = c.data();
    params.m = static_cast<int32_t>(rows);
    params.n = static_cast<int32_t>(outputs);
    params.k = static_cast<int32_t>(inputs);
    return Time([&] { return gemm_->Run(params, stream_.get()); });
  }

  absl::StatusOr<RunTimes> Attention(const CudaProbeAttention& shape) override;

  absl::StatusOr<RunTimes> Copy(LinkDirection direction, Bytes size, int64_t runs) override {
    const bool load = direction == LinkDirection::kHostToDevice;
    std::vector<void*> to;
    std::vector<const void*> from;
    for (int64_t i = 0; i < runs; ++i) {
      // Every other piece: neighbours would be one run.
      const int64_t at = 2 * i * size.value();
      std::byte* const on_device = device_.as<std::byte>() + at;
      std::byte* const on_host = host_.as<std::byte>() + at;
      to.push_back(load ? on_device : on_host);
      from.push_back(load ? on_host : on_device);
    }
    const std::vector<size_t> sizes(to.size(), size.size());
    cudaMemcpyAttributes attributes{};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    size_t first = 0;
    return Time([&] {
      if (runs == 1) {
        return CudaStatus(
            cudaMemcpyAsync(to[0], from[0], size.size(), cudaMemcpyDefault, stream_.get()),
            "copy over the link");
      }
      return CudaStatus(cudaMemcpyBatchAsync(to.data(), from.data(), sizes.data(), sizes.size(),
                                             &attributes, &first, 1, stream_.get()),
                        "batch of copies");
    });
  }

  absl::StatusOr<RunTimes> Gather(LinkDirection direction, Bytes size, int64_t runs) override {
    std::vector<KvTransferPair> pairs;
    for (int64_t i = 0; i < runs; ++i) {
      pairs.push_back({static_cast<int32_t>(2 * i), static_cast<int32_t>(2 * i)});
    }
    SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer table, Upload(pairs, account_));
    KvTransferParams params;
    params.pairs = table.as<KvTransferPair>();
    params.count = static_cast<int32_t>(runs);
    params.shape = {1, 128, size.value() / kGatherRow, KvType::kHalf};
    params.from = MakeKvView(params.shape, host_.data(), size.value(), nullptr);
    params.to = MakeKvView(params.shape, device_.data(), size.value(), nullptr);
    if (direction == LinkDirection::kDeviceToHost) std::swap(params.from, params.to);
    return Time([&] { return CudaStatus(LaunchKvTransfer(params, stream_.get()), "kv_transfer"); });
  }

  absl::StatusOr<RunTimes> Duplex(Bytes size) override {
    std::byte* const device = device_.as<std::byte>();
    std::byte* const host = host_.as<std::byte>();
    const size_t n = size.size();
    return Time([&]() -> absl::Status {
      SLUICE_CUDA_RETURN_IF_ERROR(cudaEventRecord(started_.get(), stream_.get()));
      SLUICE_CUDA_RETURN_IF_ERROR(cudaStreamWaitEvent(other_.get(), started_.get()));
      SLUICE_CUDA_RETURN_IF_ERROR(
          cudaMemcpyAsync(device, host, n, cudaMemcpyHostToDevice, stream_.get()));
      SLUICE_CUDA_RETURN_IF_ERROR(
          cudaMemcpyAsync(host + n, device + n, n, cudaMemcpyDeviceToHost, other_.get()));
      SLUICE_CUDA_RETURN_IF_ERROR(cudaEventRecord(joined_.get(), other_.get()));
      SLUICE_CUDA_RETURN_IF_ERROR(cudaStreamWaitEvent(stream_.get(), joined_.get()));
      return absl::OkStatus();
    });
  }

  absl::StatusOr<RunTimes> Kernels(int64_t kernels) override {
    return Time([&]() -> absl::Status {
      for (int64_t i = 0; i < kernels; ++i) SLUICE_RETURN_IF_ERROR(SmallKernel());
      return absl::OkStatus();
    });
  }

  absl::StatusOr<RunTimes> Step() override {
    constexpr size_t kTables = 4096;
    return TimeRepeatedly(control_, [&]() -> absl::Status {
      SLUICE_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(device_.data(), host_.data(), kTables,
                                                  cudaMemcpyHostToDevice, stream_.get()));
      SLUICE_RETURN_IF_ERROR(SmallKernel());
      SLUICE_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(host_.data(), device_.data(), kTables,
                                                  cudaMemcpyDeviceToHost, stream_.get()));
      return stream_.Synchronize();
    });
  }

 private:
  absl::StatusOr<DeviceBuffer> Halves(int64_t count) {
    SLUICE_ASSIGN_OR_RETURN(DeviceBuffer buffer,
                            DeviceBuffer::Allocate(Bytes(2 * count), "the probe", account_));
    const size_t most = host_.size().size();
    for (size_t at = 0; at < buffer.size().size(); at += most) {
      SLUICE_CUDA_RETURN_IF_ERROR(cudaMemcpy(buffer.as<std::byte>() + at, host_.data(),
                                             std::min(most, buffer.size().size() - at),
                                             cudaMemcpyHostToDevice));
    }
    return buffer;
  }

  // One row of RMSNorm over 64 numbers.
  absl::Status SmallKernel() {
    RmsNormParams params;
    params.residual = device_.as<float>();
    params.weight = device_.data();
    params.out = device_.as<std::byte>() + kSmallHidden * sizeof(float);
    params.count = 1;
    params.hidden = kSmallHidden;
    return CudaStatus(LaunchRmsNorm(params, stream_.get()), "rms_norm");
  }

  // How long the device takes for what `enqueue` puts into the stream.
  absl::StatusOr<RunTimes> Time(absl::FunctionRef<absl::Status()> enqueue) {
    return CollectTimes(control_, [&]() -> absl::StatusOr<absl::Duration> {
      SLUICE_CUDA_RETURN_IF_ERROR(cudaEventRecord(begin_.get(), stream_.get()));
      SLUICE_RETURN_IF_ERROR(enqueue());
      SLUICE_CUDA_RETURN_IF_ERROR(cudaEventRecord(end_.get(), stream_.get()));
      SLUICE_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(end_.get()));
      float milliseconds = 0;
      SLUICE_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()));
      return absl::Milliseconds(static_cast<double>(milliseconds));
    });
  }

  const DeviceContext context_;
  const ProbeControl control_;
  Bytes memory_;
  MemoryAccount account_;
  Stream stream_, other_;
  Event begin_, end_, started_, joined_;
  DeviceBuffer device_;
  PinnedBuffer host_;
  std::unique_ptr<GemmEngine> gemm_;
};

// The queries of a step and where the KV of each sequence lies: its blocks side by side.
struct ProbeSequences {
  std::vector<int32_t> table;
  std::vector<AttentionSequence> sequences;

  explicit ProbeSequences(const CudaProbeAttention& shape) {
    const auto total = static_cast<int32_t>(shape.before + shape.count);
    const auto blocks = static_cast<int32_t>((total + kBlockTokens - 1) / kBlockTokens);
    for (int32_t s = 0; s < shape.sequences; ++s) {
      sequences.push_back({static_cast<int32_t>(s * shape.count), static_cast<int32_t>(shape.count),
                           static_cast<int32_t>(shape.before), s * blocks});
      for (int32_t b = 0; b < blocks; ++b) table.push_back(s * blocks + b);
    }
  }
};

absl::StatusOr<RunTimes> RealCudaProbe::Attention(const CudaProbeAttention& shape) {
  const ProbeSequences world(shape);
  const KvPageShape page{shape.kv_heads, shape.head_dim, kBlockTokens};
  AttentionPlanOptions options;
  options.heads = static_cast<int32_t>(shape.heads);
  options.kv_heads = static_cast<int32_t>(shape.kv_heads);
  options.multiprocessors = context_.info().multiprocessors;
  const AttentionPlan plan = PlanAttention(world.sequences, options);
  const int64_t rows = shape.sequences * shape.count * shape.heads;
  const int64_t parts = (plan.partial_rows + 1) * shape.heads;
  const int64_t pool_halves =
      static_cast<int64_t>(world.table.size()) * page.page_bytes() / int64_t{sizeof(uint16_t)};
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer q, Halves(rows * shape.head_dim));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer out, Halves(rows * shape.head_dim));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer pool, Halves(pool_halves));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer partial, Halves(2 * parts * shape.head_dim));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer lse, Halves(2 * parts));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer table, Upload(world.table, account_));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer decode, Upload(plan.decode, account_));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer prefill, Upload(plan.prefill, account_));
  SLUICE_ASSIGN_OR_RETURN(const DeviceBuffer merges, Upload(plan.merges, account_));
  AttentionParams params;
  params.q = q.data();
  params.q_stride = shape.heads * shape.head_dim;
  params.out = out.data();
  params.partial = partial.as<float>();
  params.lse = lse.as<float>();
  params.views[0] = MakeKvView(page, pool.data(), page.page_bytes(), table.as<int32_t>());
  params.heads = options.heads;
  params.kv_heads = options.kv_heads;
  params.head_dim = static_cast<int32_t>(shape.head_dim);
  params.scale = 0.1F;
  const AttentionMergeParams merge{partial.as<float>(),
                                   lse.as<float>(),
                                   merges.as<AttentionMerge>(),
                                   static_cast<int32_t>(plan.merges.size()),
                                   options.heads,
                                   params.head_dim,
                                   out.data()};
  return Time([&] {
    AttentionParams part = params;
    part.works = decode.as<AttentionWork>();
    part.work_count = static_cast<int32_t>(plan.decode.size());
    cudaError_t error = LaunchDecodeAttention(part, stream_.get());
    part.works = prefill.as<AttentionWork>();
    part.work_count = static_cast<int32_t>(plan.prefill.size());
    if (error == cudaSuccess) error = LaunchPrefillAttention(part, stream_.get());
    if (error == cudaSuccess) error = LaunchAttentionMerge(merge, stream_.get());
    return CudaStatus(error, "attention");
  });
}

}  // namespace
}  // namespace sluice::cuda

namespace sluice {

absl::StatusOr<std::unique_ptr<CudaProbe>> CudaProbe::Open(const std::string& device, Bytes large,
                                                           const ProbeControl& control) {
  SLUICE_ASSIGN_OR_RETURN(cuda::DeviceContext context, cuda::DeviceContext::Open(device));
  auto probe = std::make_unique<cuda::RealCudaProbe>(std::move(context), control);
  SLUICE_RETURN_IF_ERROR(probe->SetUp(large));
  return absl::StatusOr<std::unique_ptr<CudaProbe>>(std::move(probe));
}

}  // namespace sluice
