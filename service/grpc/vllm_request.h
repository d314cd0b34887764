// A Generate request of vllm.grpc.engine as one of sluice.v1: the same checks and the same path
// then serve both.
//
// Pure.
#pragma once

#include "absl/status/statusor.h"
#include "sluice/v1/inference.pb.h"
#include "vllm/grpc/engine/vllm_engine.pb.h"

namespace sluice {

// Defaults are those of the protocol, not of the model's generation_config: the gateway has put
// those in already.
// Returns INVALID_ARGUMENT naming what this server cannot do: constrained output, log-probabilities
// of the prompt, logit_bias, images, KV transfer between servers.
absl::StatusOr<v1::GenerateRequest> TranslateVllmRequest(vllm::grpc::engine::GenerateRequest in);

}  // namespace sluice
