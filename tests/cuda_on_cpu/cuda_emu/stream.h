// Streams, events, and the operations queued in them. All guarded by Machine::mutex.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "cuda_emu/runtime_types.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {

// Parts of the machine that do one thing at a time on the modelled clock.
enum class Engine { kHostToDevice, kDeviceToHost, kDeviceToDevice, kCompute };
inline constexpr size_t kEngines = 4;

// One execution of cudaEventRecord. Waits refer to the record that was the latest when they were
// issued, whatever happens to the event later.
struct EventRecord {
  bool done = false;
  double time_us = 0;
  SyncPoint point;
};

enum class OperationKind { kCopy, kKernel, kHostFunction, kRecord, kWait, kFree };

struct Operation {
  OperationKind kind{};
  std::string name;
  std::function<void()> run;  // empty: nothing to do but be passed
  bool on_engine = false;
  Engine engine{};
  double cost_us = 0;
  size_t bytes = 0;
  std::shared_ptr<EventRecord> record;  // of kRecord and kWait
  double queued_us = 0;
  uint64_t sequence = 0;
  SyncPoint queued;
};

}  // namespace cuda_emu

// The types behind cudaStream_t and cudaEvent_t.
struct CUstream_st {
  int id = 0;  // 0: the legacy default stream
  unsigned flags = 0;
  int priority = 0;  // lower goes first
  uint64_t random_priority = 0;
  std::deque<std::shared_ptr<cuda_emu::Operation>> queue;
  bool busy = false;  // an operation of it runs
  bool closing = false;
  double time_us = 0;                                    // end of its last operation
  std::array<uint64_t, cuda_emu::kEngines> last_turn{};  // when an engine last served it
  void* context = nullptr;
  cuda_emu::SyncPoint point;
  std::thread worker;

  bool idle() const { return queue.empty() && !busy; }
  // Whether something that may touch memory is under way.
  bool has_work() const {
    for (const auto& operation : queue) {
      if (operation->kind != cuda_emu::OperationKind::kWait &&
          operation->kind != cuda_emu::OperationKind::kRecord) {
        return true;
      }
    }
    return busy;
  }
  std::string Name() const { return id == 0 ? "null" : "s" + std::to_string(id); }
};

struct CUevent_st {
  unsigned flags = 0;
  std::shared_ptr<cuda_emu::EventRecord> record;
};
