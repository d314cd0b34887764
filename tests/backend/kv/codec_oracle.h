// The KV codecs once more, number by number and in doubles: slow and obvious. Layer slices are
// vectors of numbers here, [K, V][token][kv_head][dim].
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/kv/kv_codec.h"

namespace sluice::testing {

inline float Bf16Bits(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// To nearest, ties to even.
inline float RoundToBf16(double x) {
  const auto narrow = static_cast<float>(x);  // exact for what the codecs produce
  const uint32_t bits = std::bit_cast<uint32_t>(narrow);
  return std::bit_cast<float>((bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U);
}

// The neighbour of x among bf16 numbers in the direction of `up`, or x.
inline float BoundBf16(float x, bool up) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0xffffU) == 0) return x;
  const bool away = up == (x > 0);
  return std::bit_cast<float>((bits & 0xffff0000U) + (away ? 0x10000U : 0U));
}

// All finite, non-negative E4M3 numbers by code.
inline std::vector<double> Fp8Numbers() {
  std::vector<double> numbers;
  for (int code = 0; code < 127; ++code) {
    const int exponent = code >> 3;
    const double mantissa = (code & 7) / 8.0;
    numbers.push_back(exponent == 0 ? std::ldexp(mantissa, -6)
                                    : std::ldexp(1 + mantissa, exponent - 7));
  }
  return numbers;
}

inline double NearestFp8(double x) {
  static const std::vector<double> numbers = Fp8Numbers();
  size_t best = 0;
  for (size_t code = 1; code < numbers.size(); ++code) {
    const double nearer = std::abs(x - numbers[best]) - std::abs(x - numbers[code]);
    if (nearer > 0 || (nearer == 0 && code % 2 == 0)) best = code;
  }
  return numbers[best];
}

// What a group of numbers becomes, and the worst error the header allows for each.
struct OracleGroup {
  std::vector<double> decoded;
  std::vector<double> bound;
};

inline OracleGroup Fp8Group(const std::vector<float>& group) {
  double largest = 0;
  for (const float x : group) largest = std::max(largest, std::abs(static_cast<double>(x)));
  int exponent = kKvLeastFp8Exponent;
  while (std::ldexp(448.0, exponent) < largest) ++exponent;
  OracleGroup out;
  for (const float x : group) {
    const double magnitude = std::abs(static_cast<double>(x));
    const double kept = magnitude < std::ldexp(1.0, -126) ? 0 : magnitude;
    const double decoded = std::ldexp(NearestFp8(std::ldexp(kept, -exponent)), exponent);
    out.decoded.push_back(std::signbit(x) ? -decoded : decoded);
    out.bound.push_back(
        std::max({magnitude / 16, std::ldexp(1.0, exponent - 10), std::ldexp(1.0, -126)}));
  }
  return out;
}

inline OracleGroup IntGroup(const std::vector<float>& group, bool int4) {
  const auto [least, most] = std::minmax_element(group.begin(), group.end());
  const float zero = int4 ? BoundBf16(*least, false) : 0.0F;
  const float range = int4 ? *most - zero : std::max(std::abs(*least), std::abs(*most));
  const float top = int4 ? 15 : 127;
  const float scale = std::max(BoundBf16(range * (1.0F / top), true), kKvLeastScale);
  const float inverse = 1.0F / scale;
  OracleGroup out;
  for (const float x : group) {
    const float steps = (x - zero) * inverse;
    const double code = std::nearbyint(static_cast<double>(steps));
    const float product = static_cast<float>(code * static_cast<double>(scale));
    out.decoded.push_back(static_cast<double>(product + zero));
    // Half a step, and what float arithmetic adds to it.
    out.bound.push_back(0.5 * static_cast<double>(scale) +
                        1e-6 * (static_cast<double>(range) + std::abs(static_cast<double>(zero))));
  }
  return out;
}

// Calls fn(places) for every group of K or V.
inline void ForEachGroup(const KvShape& shape, KvScaleAxis axis, int64_t group,
                         const std::function<void(const std::vector<size_t>&)>& fn) {
  const int64_t tokens = shape.block_tokens;
  const auto place = [&](int64_t token, int64_t head, int64_t dim) {
    return static_cast<size_t>((token * shape.kv_heads + head) * shape.head_dim + dim);
  };
  const bool per_token = axis == KvScaleAxis::kToken;
  const int64_t across = per_token ? tokens : shape.head_dim;
  const int64_t along = per_token ? shape.head_dim : tokens;
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    for (int64_t a = 0; a < across; ++a) {
      for (int64_t start = 0; start < along; start += group) {
        std::vector<size_t> places;
        for (int64_t b = start; b < std::min(along, start + group); ++b) {
          places.push_back(per_token ? place(a, head, b) : place(b, head, a));
        }
        fn(places);
      }
    }
  }
}

struct OracleSlice {
  std::vector<float> decoded;
  std::vector<double> bound;
};

// `group` and `key_axis`: resolved, not defaults.
inline OracleSlice OracleRoundTrip(const KvShape& shape, KvCodecKind kind, int64_t group,
                                   KvScaleAxis key_axis, const std::vector<float>& slice) {
  OracleSlice out{std::vector<float>(slice.size()), std::vector<double>(slice.size())};
  const bool narrow = shape.element == KvElement::kBF16;
  for (int half = 0; half < 2; ++half) {
    const size_t base = half == 0 ? 0 : slice.size() / 2;
    const KvScaleAxis axis = half == 0 ? key_axis : KvScaleAxis::kToken;
    ForEachGroup(shape, axis, group, [&](const std::vector<size_t>& places) {
      std::vector<float> numbers;
      for (const size_t place : places) numbers.push_back(slice[base + place]);
      const OracleGroup coded = kind == KvCodecKind::kFp8
                                    ? Fp8Group(numbers)
                                    : IntGroup(numbers, kind == KvCodecKind::kInt4);
      for (size_t i = 0; i < places.size(); ++i) {
        const size_t at = base + places[i];
        const double x = coded.decoded[i];
        out.decoded[at] = narrow ? RoundToBf16(x) : static_cast<float>(x);
        // Rounding to bf16, 8 significant bits.
        out.bound[at] = coded.bound[i] + (narrow ? std::abs(x) / 256 : 0);
      }
    });
  }
  return out;
}

inline std::vector<std::byte> ToElements(const KvShape& shape, const std::vector<float>& numbers) {
  std::vector<std::byte> bytes(numbers.size() * static_cast<size_t>(shape.element_bytes()));
  if (shape.element == KvElement::kF32) {
    std::memcpy(bytes.data(), numbers.data(), bytes.size());
    return bytes;
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto upper = static_cast<uint16_t>(std::bit_cast<uint32_t>(numbers[i]) >> 16);
    std::memcpy(bytes.data() + 2 * i, &upper, 2);
  }
  return bytes;
}

inline std::vector<float> FromElements(const KvShape& shape, const std::vector<std::byte>& bytes) {
  std::vector<float> numbers(bytes.size() / static_cast<size_t>(shape.element_bytes()));
  if (shape.element == KvElement::kF32) {
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
    return numbers;
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    uint16_t upper = 0;
    std::memcpy(&upper, bytes.data() + 2 * i, 2);
    numbers[i] = Bf16Bits(upper);
  }
  return numbers;
}

}  // namespace sluice::testing
