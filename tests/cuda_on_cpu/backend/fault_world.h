// FaultWorld: a whole CUDA backend on the emulated device, and stories that it lives through: steps
// and copies of every kind, each of which may be told any number of times.
//
// A story ends at its first failure, after everything that it started has ended, as the engine's
// handling of a failed step does. What it has said until then must be right.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "backend/backend.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/kv/kv_codec.h"
#include "tests/support/backend_sequence.h"
#include "tests/support/random_checkpoint.h"

namespace sluice::cuda {

enum class FaultStory {
  kChunks,   // a prompt in chunks, then decoding
  kSampler,  // several sequences in one step, with every option of sampling
  kSwap,     // blocks go to the host and come back elsewhere while a step waits for them
  kInPlace,  // blocks stay on the host and are attended there
  kRevoke,   // a step beside a copy that nobody needs any more
  kAhead,    // two steps in flight
  kShort,    // one step of a few tokens
};
inline constexpr FaultStory kFaultStories[] = {
    FaultStory::kChunks, FaultStory::kSampler, FaultStory::kSwap, FaultStory::kInPlace,
    FaultStory::kRevoke, FaultStory::kAhead,   FaultStory::kShort};

struct FaultOutcome {
  // What steps that succeeded have drawn, by place in the story: tokens and log-probabilities.
  std::map<std::string, std::vector<double>> said;
  std::vector<absl::Status> failures;  // of steps, sequences and copies
  std::string Text() const;            // of the failures
};

// A machine as the stories need it: a thread per stream, no time taken by kernels.
void ResetFaultMachine(uint64_t seed);

class FaultWorld {
 public:
  explicit FaultWorld(KvCodecKind codec);

  // REQUIRES: no backend.
  absl::Status Start();
  void Stop() { backend_.reset(); }
  Backend& backend() { return *backend_; }

  FaultOutcome Tell(FaultStory story);

 private:
  friend class FaultTeller;

  const testing::RandomModel model_;
  const KvCodecKind codec_;
  std::mutex mu_;
  std::condition_variable called_;
  bool news_ = false;
  int64_t copies_ = 0;                // ids ever
  std::unique_ptr<Backend> backend_;  // last: its listener uses the others until it is gone
};

}  // namespace sluice::cuda
