#include "cuda_emu/execution.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <tuple>

#include "cuda_emu/diagnostic.h"
#include "cuda_emu/random.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

using Lock = std::unique_lock<std::mutex>;
using WallClock = std::chrono::steady_clock;

// StreamOrder::kRandom draws new priorities once in so many operations: a stream runs far ahead.
constexpr uint64_t kPriorityPeriod = 12;

bool Ready(const Operation& o) { return o.kind != OperationKind::kWait || o.record->done; }

double StartTime(const Machine& m, const CUstream_st& stream, const Operation& o) {
  double start = std::max(stream.time_us, o.queued_us);
  if (o.kind == OperationKind::kWait) start = std::max(start, o.record->time_us);
  const bool exclusive = o.engine != Engine::kCompute || m.config.one_kernel_at_a_time;
  if (o.on_engine && exclusive) {
    start = std::max(start, m.engine_free_us[static_cast<size_t>(o.engine)]);
  }
  return start;
}

// Thread mode models costs on the wall clock: an engine is busy for the operation's time.
void SpendWallTime(const Operation& o) {
  if (!o.on_engine || o.cost_us <= 0) return;
  static std::mutex mutex;
  static std::array<WallClock::time_point, kEngines> busy_until;
  std::unique_lock<std::mutex> lock(mutex);
  WallClock::time_point& busy = busy_until[static_cast<size_t>(o.engine)];
  busy = std::max(busy, WallClock::now()) +
         std::chrono::nanoseconds(static_cast<int64_t>(o.cost_us * 1e3));
  const WallClock::time_point until = busy;
  std::condition_variable never;
  never.wait_until(lock, until, [until] { return WallClock::now() >= until; });
}

double WallMicroseconds() {
  return std::chrono::duration<double, std::micro>(WallClock::now().time_since_epoch()).count();
}

// Whether this operation is the one that FailStreamOperation planned, or comes after it.
bool Fails(Machine* m, const Operation& o) {
  const bool counts = o.kind != OperationKind::kRecord && o.kind != OperationKind::kWait;
  if (counts && m->operations_to_failure != 0 && --m->operations_to_failure == 0) {
    if (m->sticky_error == 0) m->sticky_error = m->operation_error;
  }
  return m->sticky_error != 0 && o.kind != OperationKind::kFree;
}

// Does the work of `o` as its stream, with everything announced to the sanitizers.
void RunAsStream(CUstream_st* stream, Operation* o, bool fails, bool own_thread) {
  const ContextScope context(own_thread ? nullptr : stream->context);
  const TsanLoud loud;
  HappensAfter(&o->queued);
  if (o->kind == OperationKind::kWait) HappensAfter(&o->record->point);
  if (o->run && !fails) {
    if (o->kind == OperationKind::kHostFunction) {
      o->run();
    } else {
      const DeviceAccess access;
      o->run();
    }
  }
  if (o->kind == OperationKind::kRecord) HappensBefore(&o->record->point);
  HappensBefore(&stream->point);
}

char TraceKind(OperationKind kind) {
  return kind == OperationKind::kCopy ? 'C' : kind == OperationKind::kKernel ? 'K' : 'H';
}

// After `o` ran: clocks, events, the trace. REQUIRES: mutex held.
void Finish(Machine* m, CUstream_st* stream, Operation* o, double start) {
  const double end = start + o->cost_us;
  stream->time_us = end;
  if (o->on_engine) {
    const auto engine = static_cast<size_t>(o->engine);
    m->engine_free_us[engine] = std::max(m->engine_free_us[engine], end);
    stream->last_turn[engine] = ++m->engine_turns[engine];
  }
  if (o->kind == OperationKind::kRecord) {
    o->record->done = true;
    o->record->time_us = m->config.streams == Streams::kThreads ? WallMicroseconds() : end;
  }
  if (o->on_engine || o->kind == OperationKind::kHostFunction) {
    m->trace.push_back({stream->Name(), o->name, TraceKind(o->kind), o->bytes, start, end});
  }
  stream->busy = false;
  m->executing = false;
  m->changed.notify_all();
}

// Runs the first operation of a stream, without the lock.
void ExecuteFirst(Machine* m, CUstream_st* stream, Lock* lock) {
  const std::shared_ptr<Operation> o = stream->queue.front();
  stream->queue.pop_front();
  const double start = StartTime(*m, *stream, *o);
  const bool fails = Fails(m, *o);
  const bool threads = m->config.streams == Streams::kThreads;
  stream->busy = true;
  if (!threads) m->executing = true;
  lock->unlock();
  RunAsStream(stream, o.get(), fails, threads);
  o->run = nullptr;
  if (threads) SpendWallTime(*o);
  lock->lock();
  Finish(m, stream, o.get(), start);
}

// The smaller goes first.
using Key = std::tuple<double, uint64_t, uint64_t>;

Key OrderKey(const Machine& m, const CUstream_st& stream, const Operation& o) {
  const bool copy = o.on_engine && o.kind == OperationKind::kCopy;
  switch (m.config.stream_order) {
    case StreamOrder::kTimed: {
      // Of what could start at the same time: kernels by stream priority, copies in turn (CUDA:
      // "Stream priorities have no effect on host-to-device and device-to-host operations").
      const auto priority = static_cast<uint64_t>(stream.priority + 64);
      const uint64_t turn = o.on_engine ? stream.last_turn[static_cast<size_t>(o.engine)] : 0;
      return {StartTime(m, stream, o), copy ? turn : priority, o.sequence};
    }
    case StreamOrder::kRandom:
      return {0, stream.random_priority, o.sequence};
    case StreamOrder::kCopiesLast:
      return {0, o.on_engine ? (copy ? 2 : 1) : 0, o.sequence};
    case StreamOrder::kCopiesFirst:
      return {0, o.on_engine ? (copy ? 1 : 2) : 0, o.sequence};
    case StreamOrder::kRoundRobin:
      break;
  }
  return {0, 0, o.sequence};
}

CUstream_st* NextStream(Machine* m) {
  if (m->config.stream_order == StreamOrder::kRandom &&
      NextRandom(&m->random) % kPriorityPeriod == 0) {
    for (auto& stream : m->streams) stream->random_priority = NextRandom(&m->random);
  }
  CUstream_st* best = nullptr;
  Key best_key{};
  for (auto& stream : m->streams) {
    if (stream->queue.empty() || stream->busy || !Ready(*stream->queue.front())) continue;
    const Key key = OrderKey(*m, *stream, *stream->queue.front());
    if (best == nullptr || key < best_key) {
      best = stream.get();
      best_key = key;
    }
  }
  return best;
}

// Deterministic modes: runs one ready operation that starts no later than `horizon_us`.
bool Step(Machine* m, Lock* lock, double horizon_us = std::numeric_limits<double>::infinity()) {
  CUstream_st* const stream = NextStream(m);
  if (stream == nullptr) return false;
  if (StartTime(*m, *stream, *stream->queue.front()) > horizon_us) return false;
  ExecuteFirst(m, stream, lock);
  return true;
}

// Thread mode: one per stream.
void RunStream(CUstream_st* stream) {
  const TsanQuiet quiet;
  Machine& m = TheMachine();
  Lock lock(m.mutex);
  while (true) {
    m.changed.wait(lock, [stream] {
      if (stream->queue.empty()) return stream->closing;
      return Ready(*stream->queue.front());
    });
    if (stream->queue.empty()) return;
    ExecuteFirst(&m, stream, &lock);
  }
}

template <class Chosen>
int WaitForStreams(Chosen chosen) {
  Machine& m = TheMachine();
  const int error = WaitUntil([&] {
    return std::all_of(m.streams.begin(), m.streams.end(),
                       [&](const auto& stream) { return !chosen(*stream) || stream->idle(); });
  });
  const std::lock_guard<std::mutex> lock(m.mutex);
  for (auto& stream : m.streams) {
    if (!chosen(*stream)) continue;
    HappensAfter(&stream->point);
    m.host_us = std::max(m.host_us, stream->time_us);
  }
  return error;
}

}  // namespace

CUstream_st* FindStream(Machine* m, cudaStream_t handle) {
  if (handle == nullptr) return m->streams[0].get();
  for (auto& stream : m->streams) {
    if (stream.get() == handle) return handle;
  }
  return nullptr;
}

CUevent_st* FindEvent(Machine* m, cudaEvent_t handle) {
  for (auto& event : m->events) {
    if (event.get() == handle) return handle;
  }
  return nullptr;
}

int Enqueue(cudaStream_t handle, std::shared_ptr<Operation> operation) {
  Machine& m = TheMachine();
  Lock lock(m.mutex);
  CUstream_st* const stream = FindStream(&m, handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (handle == nullptr && m.config.strict && operation->kind != OperationKind::kFree) {
    AddDiagnostic("null-stream", operation->name + " on the legacy default stream");
  }
  operation->queued_us = m.host_us;
  operation->sequence = m.next_sequence++;
  HappensBefore(&operation->queued);
  stream->queue.push_back(std::move(operation));
  if (m.config.streams == Streams::kThreads) {
    if (!stream->worker.joinable()) stream->worker = std::thread(RunStream, stream);
    m.changed.notify_all();
  } else if (m.config.streams == Streams::kEager) {
    while (!m.executing && Step(&m, &lock)) {
    }
  }
  return cudaSuccess;
}

int WaitUntil(const std::function<bool()>& done) {
  Machine& m = TheMachine();
  Lock lock(m.mutex);
  if (m.config.streams == Streams::kThreads) {
    m.changed.wait(lock, done);
    return m.sticky_error;
  }
  while (!done()) {
    if (m.executing) {
      m.changed.wait(lock);
    } else if (!Step(&m, &lock)) {
      AddDiagnostic("stream-deadlock",
                    "the host waits for work that can never start: it waits for an event that "
                    "nobody will record");
      m.sticky_error = cudaErrorUnknown;
      break;
    }
  }
  return m.sticky_error;
}

int WaitForStream(CUstream_st* stream) {
  const int error = WaitUntil([stream] { return stream->idle(); });
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  HappensAfter(&stream->point);
  m.host_us = std::max(m.host_us, stream->time_us);
  return error;
}

int WaitForAllStreams() {
  return WaitForStreams([](const CUstream_st&) { return true; });
}

int WaitForBlockingStreams() {
  return WaitForStreams(
      [](const CUstream_st& stream) { return (stream.flags & cudaStreamNonBlocking) == 0; });
}

void Progress(Lock* lock) {
  Machine& m = TheMachine();
  if (m.config.streams != Streams::kDeterministic || m.executing) return;
  if (m.config.stream_order == StreamOrder::kTimed) {
    while (!m.executing && Step(&m, lock, m.host_us)) {
    }
  } else if ((NextRandom(&m.random) & 1) != 0) {
    Step(&m, lock);
  }
}

bool Visible(const Machine& m, double time_us) {
  const bool timed =
      m.config.streams != Streams::kThreads && m.config.stream_order == StreamOrder::kTimed;
  return !timed || time_us <= m.host_us;
}

}  // namespace cuda_emu
