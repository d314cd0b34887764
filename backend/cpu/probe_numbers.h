// What probes compute with: numbers in [-1, 1), neither denormal nor all alike, which would flatter
// or slow the arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "backend/cpu/element.h"
#include "backend/cpu/gemm.h"

namespace sluice {

std::vector<float> RandomFloats(int64_t count);

// A matrix of such numbers, each row shifted against the one before.
absl::StatusOr<PackedMatrix> PackNumbers(Gemm& gemm, Element element, int64_t outputs,
                                         int64_t inputs);

// Writes `count` of them as elements of `element` to `out`.
void WriteElements(Element element, int64_t count, std::byte* out);

}  // namespace sluice
