// Streams, events and host functions.
#include <algorithm>
#include <memory>

#include "cuda_emu/diagnostic.h"
#include "cuda_emu/execution.h"
#include "cuda_emu/machine.h"
#include "cuda_emu/random.h"
#include "cuda_emu/sanitizer.h"

namespace cuda_emu {
namespace {

std::shared_ptr<Operation> EventOperation(OperationKind kind, std::string name,
                                          std::shared_ptr<EventRecord> record) {
  auto operation = std::make_shared<Operation>();
  operation->kind = kind;
  operation->name = std::move(name);
  operation->record = std::move(record);
  return operation;
}

// The latest record of an event; null if it has none. known: whether the handle is an event.
std::shared_ptr<EventRecord> RecordOf(cudaEvent_t handle, bool* known) {
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  const CUevent_st* const event = FindEvent(&TheMachine(), handle);
  *known = event != nullptr;
  return event == nullptr ? nullptr : event->record;
}

template <class Handle, class List>
bool Erase(List* list, Handle handle) {
  const auto it = std::find_if(list->begin(), list->end(),
                               [handle](const auto& entry) { return entry.get() == handle; });
  if (it == list->end()) return false;
  list->erase(it);
  return true;
}

}  // namespace
}  // namespace cuda_emu

// NOLINTNEXTLINE(google-build-using-namespace): the definitions below are CUDA's, with C linkage.
using namespace cuda_emu;

extern "C" {

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int priority) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kStreamCreate)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  auto fresh = std::make_unique<CUstream_st>();
  fresh->id = m.next_stream++;
  fresh->flags = flags;
  fresh->priority = std::clamp(priority, -5, 0);
  fresh->random_priority = NextRandom(&m.random);
  fresh->context = NewContext();
  *stream = fresh.get();
  m.streams.push_back(std::move(fresh));
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kAny)) return Returned(error);
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  const CUstream_st* const stream = FindStream(&TheMachine(), handle);
  if (stream == nullptr) return Returned(cudaErrorInvalidResourceHandle);
  *priority = stream->priority;
  return cudaSuccess;
}

// Pending work is done first (CUDA does it after the call); the host is not ordered after it.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  const TsanQuiet quiet;
  const int error = EnterRelease(Api::kFree);
  if (error == cudaErrorNotPermitted) return Returned(error);
  Machine& m = TheMachine();
  {
    const std::lock_guard<std::mutex> lock(m.mutex);
    if (handle == nullptr || FindStream(&m, handle) == nullptr) {
      return Returned(cudaErrorInvalidResourceHandle);
    }
    if (m.config.idle_releases && handle->has_work()) {
      AddDiagnostic("free", "stream " + handle->Name() +
                                " is destroyed while work is under way in it: synchronize first");
    }
  }
  WaitUntil([handle] { return handle->idle(); });
  {
    const std::lock_guard<std::mutex> lock(m.mutex);
    handle->closing = true;
    m.changed.notify_all();
  }
  if (handle->worker.joinable()) handle->worker.join();
  const std::lock_guard<std::mutex> lock(m.mutex);
  DropContext(handle->context);
  Erase(&m.streams, handle);
  return Returned(error);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kSynchronize)) return Returned(error);
  CUstream_st* stream = nullptr;
  {
    const std::lock_guard<std::mutex> lock(TheMachine().mutex);
    stream = FindStream(&TheMachine(), handle);
  }
  if (stream == nullptr) return Returned(cudaErrorInvalidResourceHandle);
  return Returned(WaitForStream(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kQuery)) return Returned(error);
  Machine& m = TheMachine();
  std::unique_lock<std::mutex> lock(m.mutex);
  CUstream_st* const stream = FindStream(&m, handle);
  if (stream == nullptr) return Returned(cudaErrorInvalidResourceHandle);
  if (!stream->idle()) Progress(&lock);
  if (m.sticky_error != 0) return Returned(m.sticky_error);
  if (!stream->idle() || !Visible(m, stream->time_us)) return cudaErrorNotReady;
  HappensAfter(&stream->point);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kStreamWait)) return Returned(error);
  bool known = false;
  std::shared_ptr<EventRecord> record = RecordOf(event, &known);
  if (!known) return Returned(cudaErrorInvalidResourceHandle);
  if (record == nullptr) {  // legal, and without effect
    if (CurrentConfig().strict) {
      AddDiagnostic("event", "cudaStreamWaitEvent on an event that was never recorded");
    }
    return cudaSuccess;
  }
  return Returned(Enqueue(stream, EventOperation(OperationKind::kWait, "wait", std::move(record))));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kEventCreate)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  m.events.push_back(std::make_unique<CUevent_st>());
  m.events.back()->flags = flags;
  *event = m.events.back().get();
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const TsanQuiet quiet;
  const int error = EnterRelease(Api::kFree);
  if (error == cudaErrorNotPermitted) return Returned(error);
  const std::lock_guard<std::mutex> lock(TheMachine().mutex);
  if (!Erase(&TheMachine().events, event)) return Returned(cudaErrorInvalidResourceHandle);
  return Returned(error);
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kEventRecord)) return Returned(error);
  auto record = std::make_shared<EventRecord>();
  {
    const std::lock_guard<std::mutex> lock(TheMachine().mutex);
    CUevent_st* const event = FindEvent(&TheMachine(), handle);
    if (event == nullptr || FindStream(&TheMachine(), stream) == nullptr) {
      return Returned(cudaErrorInvalidResourceHandle);
    }
    event->record = record;
  }
  return Returned(
      Enqueue(stream, EventOperation(OperationKind::kRecord, "record", std::move(record))));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kSynchronize)) return Returned(error);
  bool known = false;
  const std::shared_ptr<EventRecord> record = RecordOf(event, &known);
  if (!known) return Returned(cudaErrorInvalidResourceHandle);
  if (record == nullptr) return cudaSuccess;
  const int error = WaitUntil([&record] { return record->done; });
  HappensAfter(&record->point);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  if (m.config.streams != Streams::kThreads) m.host_us = std::max(m.host_us, record->time_us);
  return Returned(error);
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kQuery)) return Returned(error);
  Machine& m = TheMachine();
  std::unique_lock<std::mutex> lock(m.mutex);
  const CUevent_st* const event = FindEvent(&m, handle);
  if (event == nullptr) return Returned(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<EventRecord> record = event->record;
  if (record == nullptr) return cudaSuccess;
  if (!record->done) Progress(&lock);
  if (m.sticky_error != 0) return Returned(m.sticky_error);
  if (!record->done || !Visible(m, record->time_us)) return cudaErrorNotReady;
  HappensAfter(&record->point);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kQuery)) return Returned(error);
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const CUevent_st* const first = FindEvent(&m, start);
  const CUevent_st* const second = FindEvent(&m, end);
  if (first == nullptr || second == nullptr || first->record == nullptr ||
      second->record == nullptr || ((first->flags | second->flags) & cudaEventDisableTiming) != 0) {
    return Returned(cudaErrorInvalidResourceHandle);
  }
  if (!first->record->done || !second->record->done) return cudaErrorNotReady;
  *milliseconds = static_cast<float>((second->record->time_us - first->record->time_us) / 1e3);
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* user_data) {
  const TsanQuiet quiet;
  if (const int error = EnterCall(Api::kHostFunction)) return Returned(error);
  auto operation = std::make_shared<Operation>();
  operation->kind = OperationKind::kHostFunction;
  operation->name = "host function";
  operation->run = [=] {
    in_host_function = true;
    function(user_data);
    in_host_function = false;
  };
  return Returned(Enqueue(stream, std::move(operation)));
}

}  // extern "C"
