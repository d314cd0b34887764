// Execution of stream operations: queueing them, choosing the next, waiting for them.
#pragma once

#include <functional>
#include <memory>

#include "cuda_emu/machine.h"

namespace cuda_emu {

// Puts an operation at the end of a stream (null: the legacy default stream). Returns a cudaError.
int Enqueue(cudaStream_t stream, std::shared_ptr<Operation> operation);

// The stream behind a handle, or null if there is none such. REQUIRES: m.mutex held.
CUstream_st* FindStream(Machine* m, cudaStream_t handle);
CUevent_st* FindEvent(Machine* m, cudaEvent_t handle);

// Waits until done() holds; done is called with the mutex held. In deterministic modes the waiting
// host thread does the streams' work meanwhile. Returns the sticky error, if any.
int WaitUntil(const std::function<bool()>& done);
int WaitForStream(CUstream_st* stream);
int WaitForAllStreams();
// What the legacy default stream waits for: itself and streams without cudaStreamNonBlocking.
int WaitForBlockingStreams();

// What a query does before it looks: in deterministic modes time passes. REQUIRES: lock held.
void Progress(std::unique_lock<std::mutex>* lock);
// Whether the host may know of something that ended at time_us: with StreamOrder::kTimed only what
// lies in its past.
bool Visible(const Machine& m, double time_us);

}  // namespace cuda_emu
