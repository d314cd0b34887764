// What `serve --backend=cuda` asks of the CUDA backend.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"
#include "service/config/serve_config.h"

namespace sluice {

// `memory` is what this process may use of the host's. Loading the weights is told in the log.
// REQUIRES: config.Validate().ok().
CudaBackendOptions MakeCudaOptions(const ServeConfig& config, const ModelConfig& model,
                                   Tokens max_model_len, Bytes memory,
                                   std::function<absl::Time()> clock);

// The built-in hardware profile that is nearest to a device of this description.
std::string CudaHardwareProfile(std::string_view device);

}  // namespace sluice
