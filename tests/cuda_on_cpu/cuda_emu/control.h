// control.h: what a test chooses about the emulated machine, and what it can observe.
//
// One emulated machine per process. Reset() throws everything away (streams, events, memory) and
// starts anew; call it from the test's SetUp, and check Diagnostics() and Leaks() in TearDown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace cuda_emu {

// ---- Configuration ----------------------------------------------------------------------------

// Which ready thread of a block runs next. kPriority lets one warp run as far ahead as it can.
enum class ThreadOrder { kInOrder, kReverse, kRandom, kPriority };
// When the bytes of a cp.async arrive: at once, at the wait, or either, drawn per copy.
enum class AsyncCopies { kEarly, kLate, kRandom };
// Who runs the streams' work. kDeterministic: the host's thread, when it waits, in an order drawn
// from the seed. kEager: the host's thread, as soon as possible. kThreads: one OS thread per
// stream.
enum class Streams { kDeterministic, kEager, kThreads };
// Which ready stream goes next in deterministic mode. kTimed: as the modelled clock says.
enum class StreamOrder { kTimed, kRandom, kCopiesLast, kCopiesFirst, kRoundRobin };

// The cost of copies in one direction; zero bytes_per_second: no cost by size.
struct CopyCost {
  double bytes_per_second = 0;
  double per_copy_us = 0;        // each copy of its own call
  double per_batch_us = 0;       // each cudaMemcpyBatchAsync
  double per_batch_copy_us = 0;  // each copy inside a batch
};

struct Config {
  uint64_t seed = 1;
  // Kernels
  ThreadOrder thread_order = ThreadOrder::kInOrder;
  AsyncCopies async_copies = AsyncCopies::kRandom;
  bool shuffle_blocks = true;  // order of the blocks of a grid
  int block_workers = 1;       // OS threads that share the blocks of a grid
  int approximation_ulps = 0;  // error of ex2, rcp, rsqrt ...; see intrinsic.h
  size_t stack_bytes = 0;      // of a CUDA thread; 0: 64 KiB, 256 KiB under a sanitizer
  // Streams
  Streams streams = Streams::kDeterministic;
  StreamOrder stream_order = StreamOrder::kRandom;
  // Checks
  bool strict = true;          // diagnose what is legal but a mistake
  bool fill_with_nan = true;   // fresh device and shared memory
  bool protect_device = true;  // host code that touches device memory faults (needs pkeys)
  // Diagnose pinned memory and streams that are released while work is under way. CUDA promises to
  // wait for it in cudaFree only.
  bool idle_releases = false;
  // ThreadSanitizer
  bool tsan_order_blocks = false;  // for literal __shared__, one object per OS thread
  int tsan_contexts = 2;           // sets of contexts per stream; blocks take turns
  // Device
  int devices = 1;  // 0: cudaErrorNoDevice
  int driver_version = 13000;
  int compute_major = 9;
  int compute_minor = 0;
  int multiprocessors = 132;
  size_t device_bytes = size_t{1} << 30;  // really allocated when asked for
  size_t shared_bytes = 48 << 10;         // per block, without opt-in
  size_t shared_optin_bytes = 227 << 10;  // per block, with opt-in
  size_t shared_multiprocessor_bytes = 228 << 10;
  size_t pinned_bytes = size_t{1} << 40;  // cudaHostAlloc and cudaHostRegister together
  // Modelled time
  CopyCost host_to_device;
  CopyCost device_to_host;
  CopyCost device_to_device;
  double api_us = 1.0;     // of the host, per call
  double kernel_us = 3.0;  // per kernel; see SetKernelCost
  bool one_kernel_at_a_time = true;
};

const Config& CurrentConfig();
void Reset(const Config& config = Config{});

// CUDA_EMU_SEED of the environment, or 0. It moves every Config::seed, so that the tests of a whole
// program run under other schedules.
uint64_t SeedShift();

struct KernelLaunch {
  const char* name;
  uint64_t blocks;
  unsigned threads;  // per block
  size_t shared_bytes;
};
// Microseconds that a launch takes on the modelled clock.
void SetKernelCost(std::function<double(const KernelLaunch&)> cost);

// ---- Failures ---------------------------------------------------------------------------------

enum class Api {
  kAny,
  kMalloc,
  kHostAlloc,
  kHostRegister,
  kFree,
  kMemcpy,
  kMemcpyBatch,
  kLaunch,
  kStreamCreate,
  kEventCreate,
  kEventRecord,
  kStreamWait,
  kSynchronize,
  kQuery,
  kHostFunction,
  kDevice,
  kFunctionAttribute
};
// The nth call of `api` from now (1: the next) does nothing and returns `error`, a cudaError.
void FailCall(Api api, int nth, int error);
// The same, and `error` sticks: it is what every later call returns.
void FailCallForGood(Api api, int nth, int error);
// Forgets the planned failures of calls that have not come. Returns what kind of call the last one
// that came has ended; nothing if none came since Reset() or the last call of this.
std::optional<Api> EndFailures();
// The nth operation that a stream executes from now fails with `error`, which then is what every
// later call returns.
void FailStreamOperation(int nth, int error);

// ---- Observations -----------------------------------------------------------------------------

// kind: "pageable", "null-stream", "event", "host-function", "copy", "launch", "kernel",
// "deadlock", "stream-deadlock", "free".
struct Diagnostic {
  std::string kind;
  std::string text;
};
std::vector<Diagnostic> Diagnostics();
void ClearDiagnostics();

struct LeakCounts {
  size_t device_allocations = 0;
  size_t host_allocations = 0;
  size_t registrations = 0;
  size_t streams = 0;
  size_t events = 0;
  bool operator==(const LeakCounts&) const = default;
};
LeakCounts Leaks();

// What ran, with its place on the modelled clock.
struct TraceEntry {
  std::string stream;  // "null", "s1", "s2" ... in order of creation
  std::string name;    // "memcpy", "batch[12]", "memset", "host function", the kernel's name
  char kind;           // 'C' copy, 'K' kernel, 'H' host function
  size_t bytes;
  double start_us;
  double end_us;
};
std::vector<TraceEntry> Trace();
// The host's place on the modelled clock, and work that moves it.
double HostMicroseconds();
void SpendHostMicroseconds(double microseconds);

struct Counts {
  uint64_t launches = 0;
  uint64_t blocks = 0;
  uint64_t switches = 0;  // from one CUDA thread to another
  uint64_t block_barriers = 0;
  uint64_t warp_operations = 0;
  uint64_t async_copies = 0;
  uint64_t calls = 0;  // of the API
};
Counts CurrentCounts();

// Accesses per source line, of 32 lanes each. cost: 32-byte sectors of global memory or passes of
// shared memory; ideal: the least possible for the same bytes. cost above ideal means a scattered
// access or a bank conflict.
struct AccessSite {
  std::string where;  // "decode.cu:128"
  std::string kind;   // "global read", "global write", "shared read", "shared write", "ldmatrix"
  uint64_t requests = 0;
  uint64_t cost = 0;
  uint64_t ideal = 0;
};
// Starts or stops counting; both forget what was counted.
void CountAccesses(bool on);
std::vector<AccessSite> AccessReport();

}  // namespace cuda_emu
