// Fingerprint of a model: XXH3-128 over what its KV depends on.
#pragma once

#include <map>
#include <string>

#include "backend/model/checkpoint.h"
#include "backend/model/model_config.h"

namespace sluice {

// 32 hex digits over `config` (what shapes the forward pass; not ids or dtype names) and each of
// `tensors`: name, dtype, shape and bytes. Of a large tensor eight evenly spaced samples stand for
// the bytes, so that opening a model reads no more than a few MB. The same however the tensors are
// spread over files.
std::string ModelFingerprint(const ModelConfig& config,
                             const std::map<std::string, const TensorView*>& tensors);

}  // namespace sluice
