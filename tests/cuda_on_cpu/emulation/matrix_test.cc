// mma and ldmatrix against a second statement of their layouts: the (thread, value) strides that
// CUTLASS publishes in its MMA traits (cute/atom/mma_traits_sm80.hpp).
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <random>

#include "tests/cuda_on_cpu/emulated_test.h"
#include "tests/cuda_on_cpu/emulation/toy_kernels.h"

namespace sluice {
namespace {

using toy::Product;

// Offset of value v of lane t: lane digits in base 4 (4, 8), value digits as listed.
struct Strides {
  std::array<int, 2> thread;  // of t % 4 and t / 4
  std::array<int, 3> shape;   // of the value's digits
  std::array<int, 3> value;   // their strides

  int At(int lane, int v) const {
    int offset = lane % 4 * thread[0] + lane / 4 * thread[1];
    for (size_t digit = 0; digit < 3; ++digit) {
      offset += v % shape[digit] * value[digit];
      v /= shape[digit];
    }
    return offset;
  }
};

struct Shape {
  int depth;   // k
  int packed;  // elements of a word
  Strides a;   // offset m + 16 k
  Strides b;   // offset n + 8 k
  Strides c;   // offset m + 16 n
};
// SM80_16x8x16: ALayout ((4,8),(2,2,2)) : ((32,1),(16,8,128)), BLayout ((4,8),(2,2)) : ((16,1),
// (8,64)), CLayout ((4,8),(2,2)) : ((32,1),(16,8)).
const Shape kShape16 = {16,
                        2,
                        {{32, 1}, {2, 2, 2}, {16, 8, 128}},
                        {{16, 1}, {2, 2, 1}, {8, 64, 0}},
                        {{32, 1}, {2, 2, 1}, {16, 8, 0}}};
// SM80_16x8x32: ALayout ((4,8),(4,2,2)) : ((64,1),(16,8,256)), BLayout ((4,8),(4,2)) : ((32,1),
// (8,128)).
const Shape kShape32 = {32,
                        4,
                        {{64, 1}, {4, 2, 2}, {16, 8, 256}},
                        {{32, 1}, {4, 2, 1}, {8, 128, 0}},
                        {{32, 1}, {2, 2, 1}, {16, 8, 0}}};

uint32_t Encode(Product product, int value) {
  const auto f = static_cast<float>(value);
  switch (product) {
    case Product::kBf16:
      return __bfloat16_as_ushort(__float2bfloat16(f));
    case Product::kF16:
      return __half_as_ushort(__float2half(f));
    case Product::kS8:
      break;
  }
  return static_cast<uint8_t>(value);
}

uint32_t AccumulatorBits(Product product, int value) {
  return product == Product::kS8 ? static_cast<uint32_t>(value)
                                 : std::bit_cast<uint32_t>(static_cast<float>(value));
}

std::vector<uint32_t> Fragments(Product product, const Shape& shape, const Strides& strides,
                                int words, const std::vector<int>& matrix) {
  std::vector<uint32_t> fragments(static_cast<size_t>(32 * words), 0);
  for (int lane = 0; lane < 32; ++lane) {
    for (int v = 0; v < words * shape.packed; ++v) {
      const int bits = 32 / shape.packed;
      const int value = matrix[static_cast<size_t>(strides.At(lane, v))];
      fragments[static_cast<size_t>(lane * words + v / shape.packed)] |=
          Encode(product, value) << (bits * (v % shape.packed));
    }
  }
  return fragments;
}

class MmaTest : public EmulatedTest, public ::testing::WithParamInterface<Product> {};

TEST_P(MmaTest, EqualsAMatrixProductLaidOutByCutlassStrides) {
  const Product product = GetParam();
  const Shape& shape = product == Product::kS8 ? kShape32 : kShape16;
  std::mt19937 random(5);
  const auto draw = [&random](int size) {
    std::vector<int> values(static_cast<size_t>(size));
    for (int& v : values) v = static_cast<int>(random() % 17) - 8;
    return values;
  };
  const std::vector<int> a = draw(16 * shape.depth);
  const std::vector<int> b = draw(8 * shape.depth);
  const std::vector<int> c = draw(16 * 8);
  std::vector<uint32_t> c_bits(128);
  for (int i = 0; i < 128; ++i) {
    c_bits[static_cast<size_t>(i)] =
        AccumulatorBits(product, c[static_cast<size_t>(shape.c.At(i / 4, i % 4))]);
  }
  const DeviceArray<uint32_t> da(Fragments(product, shape, shape.a, 4, a));
  const DeviceArray<uint32_t> db(Fragments(product, shape, shape.b, 2, b));
  const DeviceArray<uint32_t> dc(c_bits);
  const DeviceArray<uint32_t> dd(128);
  const TestStream stream;
  ASSERT_CUDA_OK(toy::RawMma(product, da.data(), db.data(), dc.data(), dd.data(), stream));
  ASSERT_CUDA_OK(stream.Synchronize());
  const std::vector<uint32_t> d = dd.Get();
  for (int i = 0; i < 128; ++i) {
    const int at = shape.c.At(i / 4, i % 4);
    const int m = at % 16;
    const int n = at / 16;
    int expected = c[static_cast<size_t>(at)];
    for (int k = 0; k < shape.depth; ++k) {
      expected += a[static_cast<size_t>(m + 16 * k)] * b[static_cast<size_t>(n + 8 * k)];
    }
    EXPECT_EQ(d[static_cast<size_t>(i)], AccumulatorBits(product, expected))
        << "row " << m << " column " << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MmaTest,
                         ::testing::Values(Product::kBf16, Product::kF16, Product::kS8));

class LdmatrixTest : public EmulatedTest {};

// TVM's statement: word w of row r of a matrix belongs to lane 4 r + w; transposed, element (r, c)
// belongs to lane 4 c + r / 2, half r % 2.
TEST_F(LdmatrixTest, GivesEachLaneItsElementsPlainAndTransposed) {
  for (const int count : {1, 2, 4}) {
    const DeviceArray<uint32_t> plain(static_cast<size_t>(32 * count));
    const DeviceArray<uint32_t> transposed(static_cast<size_t>(32 * count));
    const TestStream stream;
    ASSERT_CUDA_OK(toy::RawLdmatrix(count, false, plain.data(), stream));
    ASSERT_CUDA_OK(toy::RawLdmatrix(count, true, transposed.data(), stream));
    ASSERT_CUDA_OK(stream.Synchronize());
    const std::vector<uint32_t> p = plain.Get();
    const std::vector<uint32_t> t = transposed.Get();
    for (int matrix = 0; matrix < count; ++matrix) {
      for (int row = 0; row < 8; ++row) {
        for (int column = 0; column < 8; ++column) {
          const auto element = static_cast<uint32_t>((matrix * 8 + row) * 8 + column);
          const int lane = 4 * row + column / 2;
          const int turned = 4 * column + row / 2;
          EXPECT_EQ(p[static_cast<size_t>(lane * count + matrix)] >> (16 * (column % 2)) & 0xffff,
                    element);
          EXPECT_EQ(t[static_cast<size_t>(turned * count + matrix)] >> (16 * (row % 2)) & 0xffff,
                    element);
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice
