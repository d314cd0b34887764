// The numbers of a finished sample, as the API reports them.
//
// Pure.
#pragma once

#include <cstdint>

#include "scheduler/stats.h"
#include "sluice/v1/inference.pb.h"

namespace sluice {

// cached_* and computed_tokens sum to prompt_tokens. `output_tokens` is what the client was sent,
// which is less than the engine drew if a stop string ended the sample.
v1::Usage MakeUsage(const RequestStats& stats, int64_t output_tokens);

// Times that never came (no first token) are 0.
v1::Timing MakeTiming(const RequestStats& stats, bool link_emulated);

}  // namespace sluice
