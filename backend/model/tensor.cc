// DType, TensorView and ReadFloats of checkpoint.h.
#include <bit>
#include <cstring>

#include "backend/model/checkpoint.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

template <class T>
T LoadUnaligned(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

float FromBF16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// IEEE binary16, by its three cases. Selects instead of branches, so that the loop vectorizes;
// integer arithmetic, so that a thread's flush-to-zero mode cannot change the result.
float FromF16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  const uint32_t normal = (magnitude << 13) + (112u << 23);
  const uint32_t inf_or_nan = (magnitude << 13) | 0x7f800000u;
  // magnitude * 2^-24 is exact: at most 10 bits.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
  uint32_t out = magnitude < 0x0400u ? subnormal : normal;
  out = magnitude >= 0x7c00u ? inf_or_nan : out;
  return std::bit_cast<float>(out | sign);
}

}  // namespace

int64_t ElementSize(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
  }
  return "?";
}

int64_t TensorView::elements() const {
  return static_cast<int64_t>(data.size()) / ElementSize(dtype);
}

void ReadFloats(const TensorView& tensor, int64_t first, std::span<float> out) {
  SLUICE_CHECK(first >= 0 && first <= tensor.elements());
  SLUICE_CHECK(static_cast<int64_t>(out.size()) <= tensor.elements() - first);
  const std::byte* in = tensor.data.data() + first * ElementSize(tensor.dtype);
  switch (tensor.dtype) {
    case DType::kF32:
      if (!out.empty()) std::memcpy(out.data(), in, out.size_bytes());
      return;
    case DType::kF16:
      for (size_t i = 0; i < out.size(); ++i) out[i] = FromF16(LoadUnaligned<uint16_t>(in + 2 * i));
      return;
    case DType::kBF16:
      for (size_t i = 0; i < out.size(); ++i) {
        out[i] = FromBF16(LoadUnaligned<uint16_t>(in + 2 * i));
      }
      return;
  }
}

}  // namespace sluice
