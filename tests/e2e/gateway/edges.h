// What a gateway relies on without saying: defaults of what it leaves out, loads that move while it
// polls, and how an engine takes its leave. Each function exits at the first thing that is not as
// it should be.
#pragma once

#include "tests/e2e/gateway/engine.h"

namespace sluice::gateway {

// Requests that leave out all they may: max_tokens goes to the end of the context, n is 1, text is
// taken instead of ids; n > 1 without streaming; a field of the future is skipped.
void LeaveOutWhatMayBe(const Channel& channel);

// Polls GetLoads while one request runs, until its tokens show in the throughput.
void PollLoads(const Channel& channel);

// Starts a stream, prints "running", and waits for the engine to begin its drain: not healthy, no
// new requests, alive; the stream comes to its end. Then nobody answers.
void SeeItLeave(const Channel& channel);

}  // namespace sluice::gateway
