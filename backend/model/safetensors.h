// The safetensors format: 8 bytes of header length (little-endian), a JSON header that names each
// tensor with dtype, shape and offsets, then the tensors' bytes.
// (https://github.com/huggingface/safetensors)
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/model/checkpoint.h"

namespace sluice {

struct SafetensorsEntry {
  // Spans the bytes of the file. `view.dtype` is meaningful only if `supported`.
  TensorView view;
  std::string dtype;       // as in the file: "BF16"
  bool supported = false;  // dtype is F32, F16 or BF16
};

// Checks a whole file (already in memory or mapped) and returns its tensors in order of name. As
// the format demands, tensors cover the rest of the file: no overlap, no hole, nothing after the
// last. Returns INVALID_ARGUMENT, starting with `where` and naming the tensor, for anything
// malformed or truncated. A dtype that we cannot compute with is no error here: the model may not
// need it.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensors(std::span<const std::byte> file,
                                                               const std::string& where);

}  // namespace sluice
