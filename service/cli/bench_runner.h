// BenchRunner: sends the requests of a workload and keeps what a client sees of each.
//
// One thread per request under way. Closed loop: `concurrency` threads, each sends its next request
// when the one before has ended. Open loop: requests start at Poisson or given times whatever the
// server does; their times count from the planned arrival, so that a slow server cannot hide its
// queue.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <unordered_set>
#include <vector>

#include "absl/time/time.h"
#include "service/cli/bench_workload.h"
#include "service/cli/client.h"
#include "service/cli/client_call.h"

namespace sluice {

struct BenchLoad {
  int64_t concurrency = 16;    // closed loop; in the open loop, most requests under way
  std::optional<double> rate;  // requests per second: open loop
  // Not empty: open loop at these times, one for each of `num_requests`; `rate` is not used.
  std::vector<absl::Duration> arrivals;
  int64_t first_request = 0;                           // number of the first request
  int64_t num_requests = 0;                            // 0: until `duration` has passed
  absl::Duration duration = absl::InfiniteDuration();  // no request starts later
  uint64_t seed = 1;

  bool open_loop() const { return rate.has_value() || !arrivals.empty(); }
};

// One request.
struct BenchRecord {
  int64_t index = 0;
  grpc::Status status;
  double late_s = 0;  // open loop: started this much after its planned arrival
  double ttft_s = 0;  // 0 without tokens
  double e2e_s = 0;
  double tpot_s = 0;  // mean time per token after the first; 0 with fewer than two
  std::vector<double> token_gaps_s;
  v1::Usage usage;
  v1::Timing timing;
};

class BenchRunner {
 public:
  // REQUIRES: load.arrivals is empty or has num_requests entries.
  BenchRunner(Client& client, const RequestSource& workload, const BenchLoad& load);

  // Runs everything and returns the records in order of completion. `on_progress(done, elapsed)` is
  // called on this thread a few times per second.
  std::vector<BenchRecord> Run(
      const std::function<void(int64_t done, absl::Duration elapsed)>& on_progress);

  // Starts no more requests and cancels those under way. Any thread.
  void Cancel();

  // From the first request's start to the last one's end. After Run().
  absl::Duration elapsed() const { return elapsed_; }

 private:
  struct Job {
    int64_t index = 0;
    absl::Duration start;  // planned, since the run began
  };

  void WorkerMain();
  absl::Duration NextStartLocked();
  // The next request to send, after waiting for its time; nothing when there is none.
  std::optional<Job> NextJob();
  BenchRecord RunJob(const Job& job);

  Client& client_;
  const RequestSource& workload_;
  const BenchLoad load_;
  absl::Duration began_;  // set before the workers start
  absl::Duration elapsed_;

  std::mutex mu_;
  std::condition_variable changed_;
  PoissonArrivals arrivals_;                           // guarded by mu_
  int64_t next_ = 0;                                   // guarded by mu_
  int64_t live_workers_ = 0;                           // guarded by mu_
  bool cancelled_ = false;                             // guarded by mu_
  std::unordered_set<grpc::ClientContext*> contexts_;  // guarded by mu_
  std::vector<BenchRecord> records_;                   // guarded by mu_
};

}  // namespace sluice
