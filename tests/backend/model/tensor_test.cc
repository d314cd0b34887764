#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backend/model/checkpoint.h"
#include "gtest/gtest.h"

namespace sluice {
namespace {

// A float from its parts, the slow way: (-1)^sign * fraction * 2^exponent.
double FromParts(bool sign, double fraction, int exponent) {
  const double value = std::ldexp(fraction, exponent);
  return sign ? -value : value;
}

// What a small float format with these field widths means; NaN for NaN.
double SlowValue(uint32_t bits, int exponent_bits, int fraction_bits) {
  const bool sign = (bits >> (exponent_bits + fraction_bits)) != 0;
  const int exponent = static_cast<int>((bits >> fraction_bits) & ((1u << exponent_bits) - 1));
  const double fraction = (bits & ((1u << fraction_bits) - 1)) / std::ldexp(1.0, fraction_bits);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) {
    if (fraction != 0) return std::numeric_limits<double>::quiet_NaN();
    return FromParts(sign, std::numeric_limits<double>::infinity(), 0);
  }
  if (exponent == 0) return FromParts(sign, fraction, 1 - bias);
  return FromParts(sign, 1 + fraction, exponent - bias);
}

TensorView ViewOf(DType dtype, const void* data, size_t elements) {
  TensorView view;
  view.dtype = dtype;
  view.shape = {static_cast<int64_t>(elements)};
  view.data = {static_cast<const std::byte*>(data),
               elements * static_cast<size_t>(ElementSize(dtype))};
  return view;
}

void ExpectAllPatternsExact(DType dtype, int exponent_bits, int fraction_bits) {
  std::vector<uint16_t> patterns(65536);
  for (size_t i = 0; i < patterns.size(); ++i) patterns[i] = static_cast<uint16_t>(i);
  std::vector<float> floats(patterns.size());
  ReadFloats(ViewOf(dtype, patterns.data(), patterns.size()), 0, floats);
  for (size_t i = 0; i < patterns.size(); ++i) {
    const double want = SlowValue(static_cast<uint32_t>(i), exponent_bits, fraction_bits);
    const auto have = static_cast<double>(floats[i]);
    ASSERT_EQ(std::isnan(want), std::isnan(have)) << i;
    ASSERT_EQ((i & 0x8000) != 0, std::signbit(floats[i])) << i;
    if (std::isnan(want)) continue;
    ASSERT_EQ(want, have) << i;
  }
}

TEST(ReadFloatsTest, AllF16PatternsAreExact) { ExpectAllPatternsExact(DType::kF16, 5, 10); }

TEST(ReadFloatsTest, AllBF16PatternsAreExact) { ExpectAllPatternsExact(DType::kBF16, 8, 7); }

TEST(ReadFloatsTest, F32IsCopiedBitForBit) {
  std::vector<uint32_t> patterns = {0,          0x80000000, 1,          0x7f800000, 0xff800000,
                                    0x7fc12345, 0x7f812345, 0x3f800000, 0x00800000};
  std::vector<float> floats(patterns.size());
  ReadFloats(ViewOf(DType::kF32, patterns.data(), patterns.size()), 0, floats);
  EXPECT_EQ(0, std::memcmp(floats.data(), patterns.data(), 4 * patterns.size()));
}

TEST(ReadFloatsTest, ReadsUnalignedRangesFromTheMiddle) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    SCOPED_TRACE(DTypeName(dtype));
    const auto size = static_cast<size_t>(ElementSize(dtype));
    // Element i of the tensor is 2^i; it starts at an odd address.
    std::vector<std::byte> bytes(1 + 8 * size);
    for (uint32_t i = 0; i < 8; ++i) {
      const auto f32 = std::bit_cast<uint32_t>(std::ldexp(1.0f, static_cast<int>(i)));
      const uint32_t bits = dtype == DType::kF32    ? f32
                            : dtype == DType::kBF16 ? f32 >> 16
                                                    : (15 + i) << 10;
      std::memcpy(&bytes[1 + i * size], &bits, size);
    }
    const TensorView view = ViewOf(dtype, bytes.data() + 1, 8);
    EXPECT_EQ(view.elements(), 8);
    std::vector<float> floats(4);
    ReadFloats(view, 3, floats);
    EXPECT_EQ(floats, (std::vector<float>{8, 16, 32, 64}));
    ReadFloats(view, 8, {});  // nothing, at the end: fine
  }
}

TEST(ReadFloatsDeathTest, ARangeOutsideTheTensorIsOurBug) {
  const std::vector<float> data(4);
  std::vector<float> out(3);
  const TensorView view = ViewOf(DType::kF32, data.data(), data.size());
  EXPECT_DEATH(ReadFloats(view, 2, out), "CHECK failed");
  EXPECT_DEATH(ReadFloats(view, -1, out), "CHECK failed");
  EXPECT_DEATH(ReadFloats(view, 5, {}), "CHECK failed");
}

}  // namespace
}  // namespace sluice
