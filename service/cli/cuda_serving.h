// What `serve --backend=cuda` asks of the CUDA backend.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/model/model_config.h"
#include "scheduler/base/units.h"
#include "scheduler/cost/coefficients.h"
#include "scheduler/cost/model_profile.h"
#include "service/config/serve_config.h"

namespace sluice {

// `memory` is what this process may use of the host's. Loading the weights is told in the log.
// REQUIRES: config.Validate().ok().
CudaBackendOptions MakeCudaOptions(const ServeConfig& config, const ModelConfig& model,
                                   Tokens max_model_len, Bytes memory,
                                   std::function<absl::Time()> clock);

// How fast the link is, from the calibration file at `path`, empty: at the default place; defaults
// where that is missing or of no GPU. Says so in the log. Returns what ReadCalibration() does for a
// path that is given.
absl::StatusOr<CudaLinkRates> CalibratedCudaLink(const std::string& path);

// What attention reads on the device, for what steps cost.
NumberFormat CudaKvFormat(const CudaConfig& config);

// What a token is on the link: a share of a block as it is on the host (`host`), scales included.
void PriceCudaKv(const KvGeometry& host, CostCoefficients& cost);

// What quantized weights save of reading them. Rates of products are left to be learned: which
// device multiplies in 8 bits shows when it serves.
void PriceCudaWeights(const CudaConfig& config, const ModelConfig& model, CostCoefficients& cost);

// The built-in hardware profile that is nearest to a device of this description.
std::string CudaHardwareProfile(std::string_view device);

}  // namespace sluice
