// Backend executes what the scheduler decided: steps of the model and copies of KV blocks. It knows
// a device, not clients or policies. Implementations: backend/cpu (the default), backend/reference.
//
// Threads: Run(), Launch(), Wait() and StartCopies() are called by one thread (the engine's); the
// other methods by any.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "backend/activity.h"
#include "scheduler/base/units.h"
#include "scheduler/step.h"

namespace sluice {

struct BackendInfo {
  std::string name;    // "cpu"
  std::string device;  // for people: "AVX-512 bf16, 2 threads"
  std::string dtype;   // of weights and KV: "bf16" or "f32"
  KvGeometry geometry;
  Blocks device_blocks;
  Blocks host_blocks;
  Blocks disk_blocks;                  // 0: no disk tier
  Tier storage_tier = Tier::kDisk;     // what that is: kDisk, or kRemote
  std::string storage_place = "disk";  // for people; also "remote" and "disk+remote"
  std::string disk;                    // how it moves bytes: "io_uring, O_DIRECT"
  // What a block takes where that is not what moves over the link (geometry.bytes_per_block, which
  // is also what it takes on the host): on the device, on the disk. 0: it is.
  Bytes device_block_bytes;
  Bytes disk_block_bytes;
  std::string host_codec = "raw";  // what blocks are on the host: "int8-kt128-vt128-v1"
  int32_t layers = 0;
  int32_t vocab_size = 0;
  // Stated link bandwidth in bytes per second; 0 = as fast as memory. True `emulated`: copies are
  // slowed down to it, and whoever shows a link figure says so.
  double link_bytes_per_second = 0;
  bool link_emulated = false;
  // Runs sequences some of whose blocks stay in host memory (SequenceWork::host_blocks).
  bool attends_in_place = false;
  // Steps that may be launched before the oldest of them is waited for. With 2, a step may be one
  // of Scheduler::PlanAhead().
  int max_steps_in_flight = 1;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const BackendInfo& info() const = 0;

  // Calls `on_done` (on any thread, briefly) whenever TakeFinishedCopies() has something new.
  // Call once, before the first StartCopies(). What it refers to must outlive the backend.
  virtual void SetCopyListener(std::function<void()> on_done) = 0;

  // Queues copies and returns at once. Classes are served in order, copies of one class first come
  // first served, in bounded slices. Every copy gets exactly one result.
  virtual void StartCopies(std::span<const Copy> copies) = 0;

  // Copies that nobody needs any more (StepPlan::revoked). Those that have not ended yet end soon,
  // with CANCELLED unless all their bytes were in place; other ids are ignored. A backend that
  // cannot take copies back lets them end in their time.
  virtual void RevokeCopies(std::span<const CopyId> /*copies*/) {}

  // These slots of the disk tier hold nothing any more (EvictResult::disk_slots); the bytes are
  // forgotten before any copy started later. Engine thread.
  virtual void ForgetDiskBlocks(std::span<const BlockId> /*slots*/) {}

  // Takes the results that have come in since the last call.
  virtual std::vector<CopyResult> TakeFinishedCopies() = 0;

  // Runs the sequences of `plan` (not its copies) and blocks until done. Layer i of a sequence
  // waits for layer i of its `loads` only.
  // REQUIRES: no step is in flight.
  virtual StepResult Run(const StepPlan& plan) = 0;

  // Run() in two halves, for backends that need not wait in between. Wait() blocks until the oldest
  // step in flight is done. Steps run in the order they were launched, each after the one before; a
  // step behind one that fails as a whole fails, too. `plan` stays until Wait().
  // REQUIRES: Launch(): fewer than max_steps_in_flight are in flight; Wait(): one is.
  // By default Wait() does it all.
  virtual void Launch(const StepPlan& plan) { launched_.push_back(&plan); }
  virtual StepResult Wait() {
    const StepPlan* const plan = launched_.front();
    launched_.pop_front();
    return Run(*plan);
  }

  // How the time since start was spent, up to now.
  virtual ActivitySnapshot activity() = 0;

 private:
  std::deque<const StepPlan*> launched_;  // by Launch(), not run yet
};

}  // namespace sluice
