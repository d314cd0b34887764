// LoadMonitor looks at the engine ten times a second, and keeps what it saw ready for everybody who
// asks how loaded the server is: rpcs, the trailers of rpcs, and load report streams.
//
// Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "service/grpc/load_window.h"
#include "service/grpc/orca_report.h"
#include "service/grpc/service_context.h"

namespace sluice {

class LoadMonitor {
 public:
  static constexpr absl::Duration kPeriod = absl::Milliseconds(100);

  // `context` must outlive this.
  explicit LoadMonitor(const ServiceContext& context);
  ~LoadMonitor();  // stops

  // A Generate rpc has ended.
  void NoteEnd(absl::StatusCode code);

  // As of now, with rates over the last second.
  ServerLoad Now();

  // An OrcaLoadReport in wire form, at most a period old.
  std::string OrcaBytes() const;

  // The monitor's thread calls `on_sample` after every sample; null: nobody. It must not block.
  void Listen(std::function<void()> on_sample);

  // Joins the thread; Now() still works.
  void Stop();

 private:
  struct Ends {
    absl::Time at;
    int64_t all = 0;
    int64_t errors = 0;
  };

  void ThreadMain();
  ServerLoad SampleLocked(const EngineLoad& engine, absl::Time now);

  const ServiceContext& context_;

  mutable std::mutex mu_;
  std::condition_variable changed_;
  bool stopping_ = false;            // guarded by mu_
  LoadWindow window_;                // guarded by mu_
  int64_t ends_ = 0;                 // guarded by mu_
  int64_t errors_ = 0;               // guarded by mu_
  std::deque<Ends> history_;         // guarded by mu_; the last second
  std::string orca_;                 // guarded by mu_
  std::function<void()> on_sample_;  // guarded by mu_

  std::thread thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
