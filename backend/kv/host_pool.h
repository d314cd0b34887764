// HostPool: the memory of the host tier, one region straight from the kernel.
//
//   Create ──> (usable at once) ──> [thread: chunk by chunk, the kernel gives the pages] ──> ready
//
// Exact: the region is the size asked for, rounded up to a page (4 KiB), and starts on a huge page,
// so that the kernel can use those throughout (madvise). Nobody waits for pages: a thread asks the
// kernel for them (MADV_POPULATE_WRITE, which leaves alone what others write meanwhile), and a
// block used before its turn is given its pages on the spot.
//
// Thread-safe once created.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "scheduler/base/units.h"

namespace sluice {

// Where and how host memory is had.
struct HostMemoryOptions {
  static constexpr int kAnyNode = -1;   // wherever the kernel puts it
  static constexpr int kAutoNode = -2;  // the node of the CPUs this process may use, if it is one

  int numa_node = kAnyNode;  // the kernel goes elsewhere only when the node is full
  bool lock = false;         // keep it out of swap; a refusal is told, and no error
  bool touch = false;        // in the background; off: pages come as blocks are first used
  // Tells a person what came of it; called by Create() and by the background thread. May be empty.
  std::function<void(const std::string&)> info;
  std::function<void(const std::string&)> warn;
  std::function<absl::Time()> clock = absl::Now;
};

class HostPool {
 public:
  // Returns RESOURCE_EXHAUSTED, naming `what` and the size, if the machine has not that much
  // memory; INVALID_ARGUMENT naming the nodes there are for one that is not.
  static absl::StatusOr<HostPool> Create(Bytes size, const HostMemoryOptions& options,
                                         std::string_view what);

  HostPool();
  ~HostPool();  // the thread stops after the chunk under way
  HostPool(HostPool&& other) noexcept;
  HostPool& operator=(HostPool&& other) noexcept;

  std::byte* data() const { return data_; }
  Bytes size() const { return size_; }

  // What the kernel has given to anybody's touch; O(pages). For tests and reports.
  Bytes Resident() const;
  // Whether the background has done its part.
  bool touched() const;
  // Blocks until then. Not needed before use.
  void WaitUntilTouched() const;

 private:
  class Toucher;

  std::byte* data_ = nullptr;
  Bytes size_;
  std::unique_ptr<Toucher> toucher_;  // null: nothing to touch; goes before the memory
};

// "0", "0, 1": the NUMA nodes with memory this process may use; empty if that cannot be told.
std::string NumaNodes();

}  // namespace sluice
