// A Forward with everything it needs, for tests that look at logits.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "backend/cpu/forward.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/kv_layout.h"
#include "backend/cpu/thread_pool.h"
#include "backend/cpu/weights.h"
#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"
#include "scheduler/base/check.h"

namespace sluice::testing {

struct ForwardHarnessOptions {
  Element element = Element::kF32;
  int64_t page_tokens = 16;
  int64_t device_blocks = 64;
  int64_t max_positions = 256;
  int64_t max_rows = 128;
  int threads = 2;
  uint64_t seed = 1;  // of the order in which blocks are handed out
  GemmKernels kernels = GemmKernels::kAuto;
};

class ForwardHarness {
 public:
  ForwardHarness(const ModelConfig& config, const Checkpoint& checkpoint,
                 const ForwardHarnessOptions& options)
      : config_(config),
        options_(options),
        pool_(options.threads, false),
        gemm_(pool_, options.kernels) {
    weights_ = *PackWeights(config, checkpoint, options.element, gemm_);
    KvLayout layout;
    layout.element = options.element;
    layout.layers = config.layers;
    layout.kv_heads = config.kv_heads;
    layout.head_dim = config.head_dim;
    layout.page_tokens = options.page_tokens;
    pools_ = *KvPools::Allocate(layout, Blocks(options.device_blocks), Blocks(0));
    forward_ = *Forward::Create(config_, weights_, pools_, Tokens(options.max_positions),
                                Tokens(options.max_rows), gemm_, pool_);
    free_.resize(static_cast<size_t>(options.device_blocks));
    for (size_t i = 0; i < free_.size(); ++i) free_[i] = BlockId(static_cast<int32_t>(i));
    std::mt19937_64 random(options.seed);
    std::shuffle(free_.begin(), free_.end(), random);
  }

  // Device blocks for `tokens` tokens that no one else has.
  std::vector<BlockId> TakeBlocks(int64_t tokens) {
    const int64_t count = (tokens + options_.page_tokens - 1) / options_.page_tokens;
    SLUICE_CHECK(count <= static_cast<int64_t>(free_.size()));
    std::vector<BlockId> blocks(free_.end() - count, free_.end());
    free_.erase(free_.end() - count, free_.end());
    return blocks;
  }

  // Logits of the last token of every sequence, in order.
  std::vector<std::vector<float>> Run(std::vector<ForwardSequence> sequences) {
    for (ForwardSequence& s : sequences) s.logits = true;
    std::vector<std::vector<float>> logits(sequences.size());
    const ThreadPool::CallerScope scope(pool_);
    SLUICE_CHECK(forward_->Run(sequences, [](int) {}).ok());
    const auto keep = [&](size_t i, std::span<float> row, int) {
      logits[i].assign(row.begin(), row.end());
    };
    SLUICE_CHECK(forward_->Logits(sequences, keep).ok());
    return logits;
  }

 private:
  ModelConfig config_;
  ForwardHarnessOptions options_;
  ThreadPool pool_;
  Gemm gemm_;
  CpuWeights weights_;
  KvPools pools_;
  std::unique_ptr<Forward> forward_;
  std::vector<BlockId> free_;
};

}  // namespace sluice::testing
