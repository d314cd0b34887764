// BackendHarness: a CudaBackend, and copies that can be waited for, one at a time or beside a step.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "gtest/gtest.h"
#include "scheduler/base/hash.h"
#include "tests/support/backend_sequence.h"
#include "tests/support/random_checkpoint.h"

namespace sluice::testing {

inline std::vector<Copy::Pair> Pairs(const std::vector<int32_t>& from,
                                     const std::vector<int32_t>& to) {
  std::vector<Copy::Pair> pairs;
  for (size_t i = 0; i < from.size(); ++i) pairs.push_back({BlockId(from[i]), BlockId(to[i])});
  return pairs;
}

// A model whose heads have 64 dimensions, in bf16.
inline RandomModelSpec SmallCudaSpec() {
  RandomModelSpec spec;
  spec.head_dim = 64;
  spec.dtype = DType::kBF16;
  return spec;
}

inline CudaBackendOptions SmallCudaOptions() {
  CudaBackendOptions options;
  options.tokens_per_block = Tokens(16);
  options.device_blocks = Blocks(24);
  options.host_blocks = Blocks(24);
  options.max_model_len = Tokens(256);
  options.max_step_tokens = Tokens(64);
  return options;
}

class BackendHarness {
 public:
  BackendHarness(const RandomModel& model, const CudaBackendOptions& options)
      : tokens_per_block_(options.tokens_per_block) {
    backend_ = *CudaBackend::Create(model.config(), model.checkpoint(), options);
    backend_->SetCopyListener([this] {
      const std::lock_guard<std::mutex> lock(mu_);
      news_ = true;
      called_.notify_all();
    });
  }

  Backend& backend() { return *backend_; }

  CopyId Start(LinkDirection direction, std::vector<Copy::Pair> pairs) {
    return Start(direction, std::move(pairs), Copy());
  }
  // The next copy that ends, whichever it is.
  CopyResult TakeOne() {
    while (results_.empty()) {
      for (CopyResult& result : backend_->TakeFinishedCopies()) {
        results_.push_back(std::move(result));
      }
      if (!results_.empty()) break;
      std::unique_lock<std::mutex> lock(mu_);
      called_.wait(lock, [this] { return news_; });
      news_ = false;
    }
    CopyResult result = std::move(results_.front());
    results_.erase(results_.begin());
    return result;
  }
  // REQUIRES: no other copy is under way.
  CopyResult Wait(CopyId id) {
    CopyResult result = TakeOne();
    EXPECT_TRUE(results_.empty());
    EXPECT_EQ(result.id, id);
    return result;
  }
  // Between device and host.
  CopyResult Memory(LinkDirection direction, std::vector<Copy::Pair> pairs) {
    return Wait(Start(direction, std::move(pairs)));
  }
  // Blocks [0, pairs) of `s`, from or to the store.
  CopyResult Storage(LinkDirection direction, const Sequence& s, std::vector<Copy::Pair> pairs) {
    const size_t width = tokens_per_block_.size();
    Copy copy;
    Hash128 parent = RootHash(7, 0);
    for (size_t b = 0; b < pairs.size(); ++b) {
      const auto tokens = std::span<const TokenId>(s.tokens).subspan(b * width, width);
      BlockIdentity identity;
      identity.hash = BlockHash(parent, tokens);
      identity.first = b == 0;
      if (b > 0) identity.parent = parent;
      parent = identity.hash;
      copy.identities.push_back(identity);
      if (direction == LinkDirection::kDiskToHost) continue;
      copy.tokens.insert(copy.tokens.end(), tokens.begin(), tokens.end());
    }
    return Wait(Start(direction, std::move(pairs), std::move(copy)));
  }

 private:
  CopyId Start(LinkDirection direction, std::vector<Copy::Pair> pairs, Copy copy) {
    copy.id = CopyId(++copies_);
    copy.direction = direction;
    copy.blocks = std::move(pairs);
    backend_->StartCopies({&copy, 1});
    return copy.id;
  }

  const Tokens tokens_per_block_;
  std::mutex mu_;
  std::condition_variable called_;
  bool news_ = false;
  int64_t copies_ = 0;
  std::vector<CopyResult> results_;   // not taken yet
  std::unique_ptr<Backend> backend_;  // last: its listener uses the others until it is gone
};

}  // namespace sluice::testing
