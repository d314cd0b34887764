// Records what a server is asked for as an anonymous trace: when, how long, for which tenant, and
// which prompts share blocks. No token leaves: a block is written as a hash of its tokens and all
// before them, under a salt that only the running process knows, so nobody can test a guessed
// prompt against the file.
//
// Output lengths are known at a request's end, but lines are sorted by arrival. So requests wait in
// a bounded buffer until all that came before them have ended.
//
// Thread-safe. Hashing (about 1 ns per prompt token) runs outside the lock.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/base/hash.h"
#include "scheduler/base/units.h"
#include "service/workload/trace_writer.h"

namespace sluice {

struct TraceRecorderOptions {
  // How finely sharing is recorded. Smaller blocks show more and make longer lines.
  Tokens block_tokens{64};
  // 128 random bits of the caller's. A new one per recording: files then cannot be joined.
  Hash128 salt = {};
  // Most requests kept in memory. When one more comes, the oldest is written if it has ended and is
  // dropped (and counted) if not: one endless request cannot hold up the recording.
  size_t max_pending = 16384;
};

class TraceRecorder {
 public:
  // Names a request between its arrival and its end.
  using Ticket = uint64_t;

  // Returns what TraceWriter::Create() returns; INVALID_ARGUMENT if max_pending < 1.
  static absl::StatusOr<std::unique_ptr<TraceRecorder>> Create(const std::string& path,
                                                               const TraceRecorderOptions& options);
  ~TraceRecorder();  // closes; errors are lost

  struct Arrival {
    absl::Time at;  // the first one's is the start of the trace
    std::span<const TokenId> prompt;
    uint64_t cache_salt = 0;  // prompts with different ones share nothing
    int32_t tenant = 0;       // an index, not a name
    int32_t priority = 0;
  };
  // Takes down an accepted request. An `at` before an earlier call's is written as that one's, so
  // that lines stay sorted.
  Ticket OnArrival(const Arrival& arrival);

  // The request ended, however it did, after `output` tokens. Ended without any (refused, expired,
  // cancelled while waiting): the line is left out, because replaying it would make up work.
  // Unknown and repeated tickets are ignored.
  void OnFinish(Ticket ticket, Tokens output);

  // Writes what has ended, drops what has not, and closes. Returns the first error of any write.
  absl::Status Close();

  struct Stats {
    int64_t written = 0;
    int64_t dropped = 0;   // not ended when the buffer was full, or at Close()
    int64_t left_out = 0;  // ended without output
  };
  Stats stats() const;

 private:
  struct Pending {
    TraceLine line;
    bool finished = false;
  };

  TraceRecorder(std::unique_ptr<TraceWriter> writer, const TraceRecorderOptions& options);
  std::vector<uint64_t> HashBlocks(const Arrival& arrival) const;
  void PopFrontLocked();  // writes or drops the oldest

  const TraceRecorderOptions options_;
  const std::unique_ptr<TraceWriter> writer_;

  mutable std::mutex mu_;
  std::deque<Pending> pending_;  // guarded by mu_; in order of arrival
  Ticket first_ = 0;             // guarded by mu_; ticket of pending_.front()
  bool started_ = false;         // guarded by mu_
  absl::Time start_;             // guarded by mu_
  absl::Duration latest_;        // guarded by mu_
  absl::Status status_;          // guarded by mu_; the first error
  Stats stats_;                  // guarded by mu_
};

}  // namespace sluice
