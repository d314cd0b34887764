// The small float formats against a table search: a code is right if no other code is nearer, and
// of two equally near ones the even one is taken.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "cuda_emu/small_float.h"

namespace cuda_emu {
namespace {

// All finite values >= 0 of a format, in order: value of code i at index i.
std::vector<double> Values(int exponent_bits, int mantissa_bits, int bias, uint32_t largest) {
  std::vector<double> values;
  for (uint32_t code = 0; code <= largest; ++code) {
    const auto exponent = static_cast<int>(code >> mantissa_bits);
    const double mantissa =
        static_cast<double>(code & ((1u << mantissa_bits) - 1)) / std::exp2(mantissa_bits);
    EXPECT_LT(exponent, 1 << exponent_bits);
    values.push_back(exponent == 0 ? mantissa * std::exp2(1 - bias)
                                   : (1 + mantissa) * std::exp2(exponent - bias));
  }
  return values;
}

uint32_t Nearest(const std::vector<double>& values, double x) {
  const auto above =
      static_cast<size_t>(std::lower_bound(values.begin(), values.end(), x) - values.begin());
  if (above == 0) return 0;
  if (above == values.size()) return static_cast<uint32_t>(above);  // beyond the largest
  const double low = x - values[above - 1];
  const double high = values[above] - x;
  if (low != high) return static_cast<uint32_t>(low < high ? above - 1 : above);
  return static_cast<uint32_t>(above % 2 == 0 ? above : above - 1);
}

float RandomFloat(std::mt19937* random, int least, int greatest) {
  const int exponent =
      least + static_cast<int>((*random)() % static_cast<unsigned>(greatest - least));
  const float mantissa = 1 + static_cast<float>((*random)() % (1u << 16)) / (1u << 16);
  return std::ldexp(mantissa, exponent);
}

TEST(SmallFloat, HalfRoundsToTheNearestOfAllCodes) {
  const std::vector<double> values = Values(5, 10, 15, 0x7bff);
  const double halfway = (values.back() + std::exp2(16)) / 2;  // from here on: infinity
  std::mt19937 random(3);
  for (int i = 0; i < 200000; ++i) {
    const float x = RandomFloat(&random, -27, 17);
    const uint32_t expected = x >= halfway ? 0x7c00 : std::min(Nearest(values, x), 0x7bffu);
    ASSERT_EQ(FloatToHalf(x), expected) << x;
    ASSERT_EQ(FloatToHalf(-x), expected | 0x8000) << x;
  }
}

TEST(SmallFloat, EveryHalfCodeDecodesToItsValueAndBack) {
  const std::vector<double> values = Values(5, 10, 15, 0x7bff);
  for (uint16_t code = 0; code <= 0x7bff; ++code) {
    ASSERT_EQ(HalfToFloat(code), static_cast<float>(values[code]));
    ASSERT_EQ(FloatToHalf(HalfToFloat(code)), code);
  }
  EXPECT_TRUE(std::isinf(HalfToFloat(0x7c00)));
  EXPECT_TRUE(std::isnan(HalfToFloat(0x7e00)));
  EXPECT_EQ(FloatToHalf(std::numeric_limits<float>::quiet_NaN()), 0x7fff);
}

TEST(SmallFloat, Bfloat16IsTheNearestOfTheUpperHalves) {
  std::mt19937 random(4);
  for (int i = 0; i < 200000; ++i) {
    const float x = RandomFloat(&random, -100, 100);
    const uint32_t low = std::bit_cast<uint32_t>(x) >> 16;
    const double below = static_cast<double>(x) - Bfloat16ToFloat(static_cast<uint16_t>(low));
    const double above = static_cast<double>(Bfloat16ToFloat(static_cast<uint16_t>(low + 1))) - x;
    const uint32_t expected = below < above ? low : below > above ? low + 1 : low + low % 2;
    ASSERT_EQ(FloatToBfloat16(x), expected) << x;
  }
  EXPECT_EQ(FloatToBfloat16(std::numeric_limits<float>::quiet_NaN()), 0x7fff);
  EXPECT_EQ(FloatToBfloat16(std::numeric_limits<float>::infinity()), 0x7f80);
  EXPECT_EQ(FloatToBfloat16(std::numeric_limits<float>::max()), 0x7f80);
}

struct Fp8Case {
  __nv_fp8_interpretation_t kind;
  std::vector<double> values;
  uint8_t overflow;  // without saturation
};

TEST(SmallFloat, Fp8RoundsToTheNearestAndSaturates) {
  const Fp8Case cases[] = {{__NV_E4M3, Values(4, 3, 7, 0x7e), 0x7f},
                           {__NV_E5M2, Values(5, 2, 15, 0x7b), 0x7c}};
  std::mt19937 random(5);
  for (const Fp8Case& c : cases) {
    const auto largest = static_cast<uint32_t>(c.values.size() - 1);
    // The value that the next code would have, were there one.
    const double step = c.values[largest] - c.values[largest - 1];
    for (int i = 0; i < 100000; ++i) {
      const float x = RandomFloat(&random, -20, 18);
      const bool over = x > c.values[largest] + step / 2 ||
                        (x == c.values[largest] + step / 2 && largest % 2 == 1);
      const uint32_t nearest = std::min(Nearest(c.values, x), largest);
      ASSERT_EQ(__nv_cvt_float_to_fp8(x, __NV_SATFINITE, c.kind), nearest) << x;
      ASSERT_EQ(__nv_cvt_float_to_fp8(x, __NV_NOSAT, c.kind), over ? c.overflow : nearest) << x;
      ASSERT_EQ(__nv_cvt_float_to_fp8(-x, __NV_SATFINITE, c.kind), nearest | 0x80) << x;
    }
    for (uint32_t code = 0; code <= largest; ++code) {
      EXPECT_EQ(HalfToFloat(__nv_cvt_fp8_to_halfraw(static_cast<uint8_t>(code), c.kind).x),
                static_cast<float>(c.values[code]));
    }
  }
}

TEST(SmallFloat, PairsKeepTheirOrder) {
  const __nv_bfloat162 b = __floats2bfloat162_rn(1, 2);
  EXPECT_EQ(__bfloat1622float2(b).x, 1);
  EXPECT_EQ(__bfloat1622float2(b).y, 2);
  const __nv_fp8x2_storage_t codes = __nv_cvt_float2_to_fp8x2({1, -2}, __NV_SATFINITE, __NV_E4M3);
  const __half2_raw halves = __nv_cvt_fp8x2_to_halfraw2(codes, __NV_E4M3);
  EXPECT_EQ(HalfToFloat(halves.x), 1);
  EXPECT_EQ(HalfToFloat(halves.y), -2);
}

}  // namespace
}  // namespace cuda_emu
