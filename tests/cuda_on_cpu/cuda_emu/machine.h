// Machine: all state of the emulated GPU and its driver.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda_emu/control.h"
#include "cuda_emu/memory.h"
#include "cuda_emu/runtime.h"
#include "cuda_emu/stream.h"

namespace cuda_emu {

struct PlannedFailure {
  Api api{};
  int calls_left = 0;
  int error = 0;
  bool sticks = false;
};

struct Kernel {
  std::string name;
  BindKernel bind = nullptr;
  size_t parameter_bytes = 0;
};

struct Machine {
  Config config;

  std::mutex mutex;  // guards everything below
  std::condition_variable changed;
  Memory memory;
  std::vector<std::unique_ptr<CUstream_st>> streams;  // [0]: the legacy default stream
  std::vector<std::unique_ptr<CUevent_st>> events;
  std::unordered_map<const void*, size_t> shared_limit;  // by kernel, from cudaFuncSetAttribute
  std::vector<PlannedFailure> failures;
  std::optional<Api> failed_call;  // by the last of them that came
  int operations_to_failure = 0;   // 0: none planned
  int operation_error = 0;
  int sticky_error = 0;

  std::vector<TraceEntry> trace;
  Counts counts;
  std::function<double(const KernelLaunch&)> kernel_cost;
  double host_us = 0;
  std::array<double, kEngines> engine_free_us{};
  std::array<uint64_t, kEngines> engine_turns{};

  uint64_t random = 0;
  uint64_t next_sequence = 1;
  int next_stream = 1;
  bool executing = false;  // deterministic modes: some host thread runs an operation
};

Machine& TheMachine();
void AddCounts(const Counts& counts);

// True while this OS thread runs a cudaLaunchHostFunc callback.
inline thread_local bool in_host_function = false;
inline thread_local int current_device = 0;

// What every API call does first: planned failures, the host's clock, forbidden contexts, no
// device. Returns a cudaError; not 0: return it.
int EnterCall(Api api);
// The same for calls that release something: planned failures of kAny pass them by, and their error
// is returned after the release, as CUDA reports errors of earlier work from them.
int EnterRelease(Api api);
// Remembers an error for cudaGetLastError.
cudaError_t Returned(int error);

}  // namespace cuda_emu
