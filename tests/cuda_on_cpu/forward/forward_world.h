// A Forward on the emulated device with everything it needs, for tests that look at logits.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cuda/device/memory.h"
#include "backend/cuda/device/stream.h"
#include "backend/cuda/forward/control_buffer.h"
#include "backend/cuda/forward/forward.h"
#include "backend/cuda/forward/step_tables.h"
#include "backend/cuda/kernels/gemm_engine.h"
#include "backend/cuda/kv_shape.h"
#include "backend/cuda/link/kv_pools.h"
#include "backend/cuda/weights/device_weights.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "gtest/gtest.h"
#include "scheduler/base/check.h"
#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/support/relative_error.h"

namespace sluice::cuda {

struct ForwardWorldOptions {
  int64_t block_tokens = 16;
  int64_t device_blocks = 64;
  int64_t host_blocks = 0;
  int64_t max_positions = 256;
  int64_t max_rows = 128;
  int32_t multiprocessors = 1;
  Bytes weight_piece = MiB(1);
  uint64_t seed = 1;          // of the order in which blocks are handed out
  KvType kv = KvType::kHalf;  // of both pools
  WeightType weights = WeightType::kBf16;
};

class ForwardWorld {
 public:
  ForwardWorld(const ModelConfig& config, const Checkpoint& checkpoint,
               const ForwardWorldOptions& options)
      : config_(config), options_(options), stream_(*Stream::Create()), control_(account_) {
    weights_ = *DeviceWeights::Load(config_, checkpoint, stream_.get(), options.weight_piece,
                                    account_, nullptr, options.weights);
    ForwardOptions forward;
    forward.max_positions = Tokens(options.max_positions);
    forward.max_rows = Tokens(options.max_rows);
    forward.multiprocessors = options.multiprocessors;
    forward_ = *Forward::Create(config_, *weights_, forward, *gemm_, stream_.get(), account_);
    AllocatePools();
    free_.resize(static_cast<size_t>(options.device_blocks));
    for (size_t i = 0; i < free_.size(); ++i) free_[i] = BlockId(static_cast<int32_t>(i));
    std::mt19937_64 random(options.seed);
    std::shuffle(free_.begin(), free_.end(), random);
  }

  // Device blocks for `tokens` tokens that no one else has.
  std::vector<BlockId> TakeBlocks(int64_t tokens) {
    const int64_t count = (tokens + options_.block_tokens - 1) / options_.block_tokens;
    SLUICE_CHECK(count <= static_cast<int64_t>(free_.size()));
    std::vector<BlockId> blocks(free_.end() - count, free_.end());
    free_.erase(free_.end() - count, free_.end());
    return blocks;
  }

  // Logits of the last token of every sequence, in order.
  std::vector<std::vector<float>> Run(std::vector<ForwardSequence> sequences) {
    for (ForwardSequence& s : sequences) s.logits = true;
    control_.Clear();
    const StepTables step =
        LayOutStep(sequences, options_.block_tokens, forward_->attention(), control_);
    most_partial_rows_ = std::max(most_partial_rows_, step.partial_rows);
    SLUICE_CHECK(control_.Upload(stream_.get()).ok());
    SLUICE_CHECK(
        forward_->Run(step, control_, [](int /*layer*/) { return absl::OkStatus(); }).ok());
    std::vector<std::vector<float>> logits;
    for (int32_t first = 0; first < step.logit_rows.count; first += Forward::kLogitRows) {
      const int32_t count = std::min(Forward::kLogitRows, step.logit_rows.count - first);
      const float* rows = *forward_->Logits(step, control_, first, count);
      Fetch(rows, count, &logits);
    }
    return logits;
  }

  // Moves a device block to a host block; what it leaves behind is NaN.
  void MoveToHost(BlockId from, BlockId to) {
    const auto bytes = static_cast<size_t>(pools_.page_bytes());
    for (int64_t layer = 0; layer < pools_.layers; ++layer) {
      std::byte* const page = pools_.DevicePage(layer, from.value());
      EXPECT_CUDA_OK(
          cudaMemcpy(pools_.HostPage(layer, to.value()), page, bytes, cudaMemcpyDeviceToHost));
      EXPECT_CUDA_OK(cudaMemset(page, 0xff, bytes));
    }
  }

  const DeviceWeights& weights() const { return *weights_; }
  int32_t most_partial_rows() const { return most_partial_rows_; }

 private:
  void AllocatePools() {
    pools_.page = PageShape(config_, Tokens(options_.block_tokens), options_.kv);
    pools_.host_type = options_.kv;
    pools_.layers = config_.layers;
    pools_.device_blocks = Blocks(options_.device_blocks);
    pools_.host_blocks = Blocks(options_.host_blocks);
    device_ = *DeviceBuffer::Allocate(pools_.device_bytes(), "the pool", account_);
    pools_.device = device_.as<std::byte>();
    if (options_.host_blocks > 0) {
      host_ = *PinnedBuffer::Allocate(pools_.host_bytes(), "the host pool", account_);
      pools_.host = host_.as<std::byte>();
    }
    forward_->SetPools(pools_);
  }

  void Fetch(const float* rows, int32_t count, std::vector<std::vector<float>>* logits) {
    const auto vocab = static_cast<size_t>(config_.vocab);
    std::vector<float> all(vocab * static_cast<size_t>(count));
    EXPECT_CUDA_OK(cudaStreamSynchronize(stream_.get()));
    EXPECT_CUDA_OK(
        cudaMemcpy(all.data(), rows, all.size() * sizeof(float), cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      logits->emplace_back(all.begin() + static_cast<std::ptrdiff_t>(i * vocab),
                           all.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab));
    }
  }

  const ModelConfig config_;
  const ForwardWorldOptions options_;
  MemoryAccount account_;
  Stream stream_;
  const std::unique_ptr<GemmEngine> gemm_ = MakePlainGemmEngine();
  std::unique_ptr<DeviceWeights> weights_;
  std::unique_ptr<Forward> forward_;
  ControlBuffer control_;
  CudaKvPools pools_;
  DeviceBuffer device_;
  PinnedBuffer host_;
  std::vector<BlockId> free_;
  int32_t most_partial_rows_ = 0;
};

// Runs most of a prompt in two chunks, the rest token by token; the logits of the last token of
// each are to be within `tolerance` of `want`. Records the errors with the test.
inline void ExpectLogitsNear(ForwardWorld& world, const std::vector<TokenId>& tokens,
                             const std::vector<std::vector<double>>& want, double tolerance) {
  const size_t all = tokens.size();
  const std::vector<BlockId> blocks = world.TakeBlocks(static_cast<int64_t>(all));
  size_t first = 0;
  for (const size_t end : {all / 3, all - 4, all - 3, all - 2, all - 1, all}) {
    const auto logits = world.Run(
        {{std::span(tokens).subspan(first, end - first), static_cast<int64_t>(first), blocks}});
    first = end;
    const double error = testing::RelativeError(logits[0], want[end - 1]);
    ::testing::Test::RecordProperty(absl::StrCat("error_", end), absl::StrCat(error));
    ASSERT_LT(error, tolerance) << "position " << end - 1;
  }
}

}  // namespace sluice::cuda
