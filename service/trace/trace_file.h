// TraceFile: writes everything an EngineTrace sees to a file, from a thread of its own, up to a
// bounded size. The file is complete JSON once Close() has returned.
//
// Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"
#include "service/trace/engine_trace.h"
#include "service/trace/trace_text.h"

namespace sluice {

class TraceFile {
 public:
  struct Stats {
    int64_t events = 0;  // written
    int64_t lost = 0;    // overwritten before they could be written
    bool full = false;   // the limit was reached: what came later is missing
  };

  // `trace` must outlive this. Times in the file count from `origin`.
  // Returns UNAVAILABLE naming the file if it cannot be written.
  static absl::StatusOr<std::unique_ptr<TraceFile>> Create(const std::string& path,
                                                           const EngineTrace& trace, Bytes limit,
                                                           absl::Time origin,
                                                           const std::string& device,
                                                           const std::string& storage = "disk");
  ~TraceFile();  // Close(), unless done

  // Writes what is left and ends the file. Returns UNAVAILABLE if anything could not be written.
  absl::Status Close();

  Stats stats() const;

 private:
  TraceFile(const std::string& path, const EngineTrace& trace, Bytes limit, absl::Time origin,
            const std::string& device, const std::string& storage);

  void ThreadMain();
  void WriteNew();

  const std::string path_;
  const EngineTrace& trace_;
  const int64_t limit_;

  // The thread's, then Close()'s.
  TraceText text_;
  std::ofstream file_;
  int64_t written_ = 0;
  uint64_t next_ = 0;

  mutable std::mutex mu_;
  std::condition_variable stop_;
  bool stopping_ = false;  // guarded by mu_
  Stats stats_;            // guarded by mu_

  std::thread thread_;  // last: everything above is ready when it starts
};

}  // namespace sluice
