#include "backend/kv/host_pool.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "backend/kv/numa_memory.h"
#include "scheduler/base/status_macros.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14
#endif

namespace sluice {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
// The kernel is asked for so much at a time: some 10 ms, so that a stop need not wait.
constexpr int64_t kChunk = int64_t{32} << 20;

int64_t RoundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// A mapping of exactly `size` (whole pages) that starts on a huge page; null if there is none.
std::byte* MapAligned(int64_t size) {
  const int64_t all = size + kHugePage;
  void* const mapped = mmap(nullptr, static_cast<size_t>(all), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(mapped);
  const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(begin));
  const int64_t head = RoundUp(address, kHugePage) - address;
  if (head > 0) munmap(begin, static_cast<size_t>(head));
  munmap(begin + head + size, static_cast<size_t>(all - head - size));
  (void)madvise(begin + head, static_cast<size_t>(size), MADV_HUGEPAGE);  // a hint
  return begin + head;
}

void Tell(const std::function<void(const std::string&)>& listener, const std::string& text) {
  if (listener) listener(text);
}

std::string MiBText(int64_t bytes) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  return bytes < kMiB ? absl::StrCat(bytes >> 10, " KiB") : absl::StrCat(bytes / kMiB, " MiB");
}

// Pages are locked as they come, so that a refusal shows at once and costs nothing.
bool Lock(std::byte* data, int64_t size, const HostMemoryOptions& options) {
  if (mlock2(data, static_cast<size_t>(size), MLOCK_ONFAULT) == 0) return true;
  const int error = errno;
  rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string most =
      limit.rlim_cur == RLIM_INFINITY ? "unlimited" : MiBText(static_cast<int64_t>(limit.rlim_cur));
  Tell(options.warn,
       absl::StrCat("host KV pool: not locked in memory: ", std::strerror(error), "; it takes ",
                    MiBText(size), ", and RLIMIT_MEMLOCK is ", most,
                    "; raise it (ulimit -l, LimitMEMLOCK=) or give the process CAP_IPC_LOCK"));
  return false;
}

}  // namespace

// The background thread. Its memory outlives it.
class HostPool::Toucher {
 public:
  Toucher(std::byte* data, int64_t size, HostMemoryOptions options)
      : data_(data), size_(size), options_(std::move(options)), thread_([this] { Run(); }) {}
  ~Toucher() {
    {
      std::lock_guard<std::mutex> lock(mu_);
      stop_ = true;
    }
    thread_.join();
  }

  bool done() {
    std::lock_guard<std::mutex> lock(mu_);
    return done_;
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [this] { return done_; });
  }

 private:
  bool stopping() {
    std::lock_guard<std::mutex> lock(mu_);
    return stop_;
  }

  // Returns 0, or why the kernel gave no more.
  int Populate() {
    for (int64_t at = 0; at < size_ && !stopping(); at += kChunk) {
      const auto count = static_cast<size_t>(std::min(kChunk, size_ - at));
      while (madvise(data_ + at, count, MADV_POPULATE_WRITE) != 0) {
        if (errno != EAGAIN && errno != EINTR) return errno;
      }
    }
    return 0;
  }

  void Run() {
    const absl::Time start = options_.clock();
    const int error = Populate();
    const double took = absl::ToDoubleSeconds(options_.clock() - start);
    if (error != 0) {
      Tell(options_.warn,
           absl::StrCat("host KV pool: not touched in advance (", std::strerror(error),
                        "); the first use of each block is slower"));
    } else if (!stopping()) {
      Tell(options_.info, absl::StrFormat("host KV pool: %s touched in the background in %.2f s",
                                          MiBText(size_), took));
    }
    std::lock_guard<std::mutex> lock(mu_);
    done_ = true;
    changed_.notify_all();
  }

  std::byte* const data_;
  const int64_t size_;
  const HostMemoryOptions options_;

  std::mutex mu_;
  std::condition_variable changed_;
  bool stop_ = false;  // guarded by mu_
  bool done_ = false;  // guarded by mu_

  std::thread thread_;  // last
};

HostPool::HostPool() = default;
HostPool::~HostPool() {
  toucher_.reset();
  const int64_t mapped = RoundUp(size_.value(), sysconf(_SC_PAGESIZE));
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(mapped));
}

HostPool::HostPool(HostPool&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, Bytes(0))),
      toucher_(std::move(other.toucher_)) {}

HostPool& HostPool::operator=(HostPool&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(toucher_, other.toucher_);
  return *this;
}

absl::StatusOr<HostPool> HostPool::Create(Bytes size, const HostMemoryOptions& options,
                                          std::string_view what) {
  SLUICE_ASSIGN_OR_RETURN(const int node, ResolveNumaNode(options.numa_node));
  HostPool pool;
  if (size == Bytes(0)) return pool;
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * page;
  const int64_t mapped = RoundUp(size.value(), page);
  if (size.value() <= physical) pool.data_ = MapAligned(mapped);
  if (pool.data_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot allocate ", MiBText(size.value()), " for ", std::string(what),
                     ": the machine has ", MiBText(physical), " in all; ask for less"));
  }
  pool.size_ = size;
  std::string where;
  if (node >= 0) {
    const absl::Status bound = PreferNumaNode(pool.data_, Bytes(mapped), node);
    if (bound.ok()) {
      where = absl::StrCat(", on NUMA node ", node);
    } else {
      Tell(options.warn, absl::StrCat("host KV pool: ", bound.message()));
    }
  }
  const bool locked = options.lock && Lock(pool.data_, mapped, options);
  if (!where.empty() || locked) {
    Tell(options.info, absl::StrCat("host KV pool: ", MiBText(size.value()), where,
                                    locked ? ", locked in memory" : ""));
  }
  if (options.touch) pool.toucher_ = std::make_unique<Toucher>(pool.data_, mapped, options);
  return pool;
}

Bytes HostPool::Resident() const {
  const int64_t page = sysconf(_SC_PAGESIZE);
  std::vector<unsigned char> pages(static_cast<size_t>(RoundUp(size_.value(), page) / page));
  if (pages.empty() || mincore(data_, size_.size(), pages.data()) != 0) return Bytes(0);
  return Bytes(page * std::count_if(pages.begin(), pages.end(),
                                    [](unsigned char bits) { return (bits & 1) != 0; }));
}

bool HostPool::touched() const { return toucher_ == nullptr || toucher_->done(); }

void HostPool::WaitUntilTouched() const {
  if (toucher_ != nullptr) toucher_->Wait();
}

}  // namespace sluice
