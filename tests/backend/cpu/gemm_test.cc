// Matrix products against a double loop, and the promise that a row's result does not depend on
// the rows around it.
#include "backend/cpu/gemm.h"

#include <cmath>
#include <cstring>
#include <mutex>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backend/cpu/panel_product.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/backend/cpu/highway_targets.h"
#include "tests/support/status_matchers.h"

namespace sluice {
namespace {

using testing::IsOk;

// A random matrix with the same rounding in floats and in elements.
class Matrix {
 public:
  Matrix(int64_t rows, int64_t columns, Element element, uint64_t seed)
      : rows_(rows), columns_(columns), element_(element) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    const auto count = static_cast<size_t>(rows * columns);
    for (size_t i = 0; i < count; ++i) {
      const float v = normal(random);
      narrow_.push_back(FloatToBF16(v));
      floats_.push_back(element == Element::kBF16 ? BF16ToFloat(narrow_.back()) : v);
    }
    // Products read whole blocks of rows.
    floats_.resize(count + static_cast<size_t>(Gemm::kRowBlock * columns));
    narrow_.resize(floats_.size());
  }
  const void* elements(int64_t row) const {
    const int64_t at = row * columns_;
    return element_ == Element::kF32 ? static_cast<const void*>(floats_.data() + at)
                                     : static_cast<const void*>(narrow_.data() + at);
  }
  double at(int64_t r, int64_t c) const {
    return static_cast<double>(floats_[static_cast<size_t>(r * columns_ + c)]);
  }
  void Read(int64_t row, std::span<float> out) const {
    std::copy_n(floats_.begin() + row * columns_, columns_, out.begin());
  }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }

 private:
  int64_t rows_;
  int64_t columns_;
  Element element_;
  std::vector<float> floats_;
  std::vector<uint16_t> narrow_;
};

struct Product {
  std::vector<float> y;  // [rows][outputs]
  int64_t covered = 0;   // elements handed out in tiles
};

Product Multiply(Gemm& gemm, const Matrix& x, int64_t first, int64_t rows, const PackedMatrix& w) {
  Product product;
  product.y.resize(static_cast<size_t>(rows * w.outputs()), NAN);
  std::mutex mu;
  const auto keep = [&](const GemmTile& tile, int) {
    for (int64_t r = 0; r < tile.rows; ++r) {
      std::copy_n(tile.data + r * tile.columns, tile.columns,
                  product.y.begin() + (tile.row + r) * w.outputs() + tile.column);
    }
    std::lock_guard<std::mutex> lock(mu);
    EXPECT_EQ(tile.column % Gemm::kColumnAlignment, 0);
    product.covered += tile.rows * tile.columns;
  };
  EXPECT_THAT(gemm.Multiply(x.elements(first), rows, w, keep), IsOk());
  EXPECT_EQ(product.covered, rows * w.outputs());
  return product;
}

PackedMatrix Pack(Gemm& gemm, const Matrix& w, Element element) {
  auto packed = gemm.Pack(w.rows(), w.columns(), element,
                          [&](int64_t row, std::span<float> out) { w.Read(row, out); });
  EXPECT_THAT(packed, IsOk());
  return *std::move(packed);
}

struct Variant {
  Element element;
  GemmKernels kernels;
};

class GemmTest : public ::testing::TestWithParam<Variant> {
 protected:
  Element element() const { return GetParam().element; }
  GemmKernels kernels() const { return GetParam().kernels; }
};

TEST_P(GemmTest, MatchesADoubleLoopForOddShapes) {
  ThreadPool pool(2, false);
  Gemm gemm(pool, kernels());
  const ThreadPool::CallerScope scope(pool);
  struct Shape {
    int64_t rows, inputs, outputs;
  };
  for (const Shape& s : {Shape{1, 2, 1},
                         {1, 8, 3},
                         {3, 18, 64},
                         {5, 40, 65},
                         {16, 33, 127},
                         {17, 64, 128},
                         {63, 71, 129},
                         {64, 96, 200},
                         {65, 130, 1024},
                         {130, 257, 1031}}) {
    SCOPED_TRACE(absl::StrCat(s.rows, "x", s.inputs, "x", s.outputs));
    const Matrix x(s.rows, s.inputs, element(), 1);
    const Matrix w(s.outputs, s.inputs, element(), 2);
    const PackedMatrix packed = Pack(gemm, w, element());
    const std::vector<float> y = Multiply(gemm, x, 0, s.rows, packed).y;
    const double limit = 2e-6 * std::sqrt(static_cast<double>(s.inputs)) * 4;
    for (int64_t r = 0; r < s.rows; ++r) {
      for (int64_t c = 0; c < s.outputs; ++c) {
        double want = 0;
        for (int64_t k = 0; k < s.inputs; ++k) want += x.at(r, k) * w.at(c, k);
        ASSERT_NEAR(static_cast<double>(y[static_cast<size_t>(r * s.outputs + c)]), want, limit)
            << r << "," << c;
      }
    }
  }
}

TEST_P(GemmTest, ARowIsTheSameBitForBitWhateverItsBatch) {
  ThreadPool pool(2, false);
  Gemm gemm(pool, kernels());
  const ThreadPool::CallerScope scope(pool);
  constexpr int64_t kRows = 200;
  for (const auto& [inputs, outputs] : {std::pair<int64_t, int64_t>{64, 96},
                                        {80, 130},
                                        {2048, 320},
                                        {1024, 1100},
                                        {5632, 128},
                                        {257, 65},
                                        {8192, 64}}) {
    const Matrix x(kRows, inputs, element(), 3);
    const Matrix w(outputs, inputs, element(), 4);
    const PackedMatrix packed = Pack(gemm, w, element());
    const std::vector<float> all = Multiply(gemm, x, 0, kRows, packed).y;
    for (const int64_t rows :
         {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 49, 63, 64, 65, 100, 128, 150}) {
      const int64_t first = rows * 7 % (kRows - rows + 1);
      SCOPED_TRACE(absl::StrCat(inputs, "->", outputs, ", rows ", first, "+", rows));
      const std::vector<float> some = Multiply(gemm, x, first, rows, packed).y;
      ASSERT_EQ(std::memcmp(some.data(), all.data() + first * outputs, some.size() * sizeof(float)),
                0);
    }
  }
}

TEST_P(GemmTest, TheNumberOfThreadsDoesNotChangeABit) {
  const Matrix x(70, 320, element(), 5);
  const Matrix w(1300, 320, element(), 6);
  std::vector<float> want;
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads, false);
    Gemm gemm(pool, kernels());
    const ThreadPool::CallerScope scope(pool);
    const PackedMatrix packed = Pack(gemm, w, element());
    const std::vector<float> y = Multiply(gemm, x, 0, 70, packed).y;
    if (want.empty()) want = y;
    ASSERT_EQ(y, want) << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, GemmTest,
                         ::testing::Values(Variant{Element::kF32, GemmKernels::kAuto},
                                           Variant{Element::kBF16, GemmKernels::kAuto},
                                           Variant{Element::kF32, GemmKernels::kOwn},
                                           Variant{Element::kBF16, GemmKernels::kOwn}),
                         [](const auto& test) {
                           return absl::StrCat(
                               test.param.element == Element::kF32 ? "F32" : "BF16",
                               test.param.kernels == GemmKernels::kAuto ? "Auto" : "Own");
                         });

TEST(PanelProductTest, KeepsItsPromisesOnEveryInstructionSet) {
  testing::ForEachHighwayTarget([] {
    for (const Element element : {Element::kF32, Element::kBF16}) {
      for (const auto& [inputs, outputs] :
           {std::pair<int64_t, int64_t>{2, 1}, {64, 64}, {257, 65}, {1000, 96}}) {
        SCOPED_TRACE(absl::StrCat(inputs, "->", outputs));
        const auto product = MakePanelProduct({inputs, outputs, element});
        ASSERT_TRUE(RowsAreIndependent(*product));

        const Matrix x(13, inputs, element, 7);
        const Matrix w(outputs, inputs, element, 8);
        std::vector<float> plain(static_cast<size_t>(outputs * inputs));
        for (int64_t o = 0; o < outputs; ++o) {
          w.Read(o, {plain.data() + o * inputs, static_cast<size_t>(inputs)});
        }
        std::vector<std::byte> packed(product->packed_bytes());
        ASSERT_THAT(product->Pack(plain.data(), packed.data()), IsOk());
        std::vector<std::byte> scratch(*product->Prepare(13));
        std::vector<float> y(static_cast<size_t>(16 * outputs));
        ASSERT_TRUE(
            product->Multiply(x.elements(0), 13, packed.data(), y.data(), scratch.data(), 0));
        for (int64_t r = 0; r < 13; ++r) {
          for (int64_t o = 0; o < outputs; ++o) {
            double want = 0;
            for (int64_t k = 0; k < inputs; ++k) want += x.at(r, k) * w.at(o, k);
            ASSERT_NEAR(y[static_cast<size_t>(r * outputs + o)], want,
                        1e-5 * std::sqrt(static_cast<double>(inputs)));
          }
        }
      }
    }
  });
}

TEST(GemmStandaloneTest, AMatrixLargerThanTheMachineIsRefused) {
  ThreadPool pool(1, false);
  Gemm gemm(pool);
  const auto packed = gemm.Pack(int64_t{1} << 26, int64_t{1} << 20, Element::kF32,
                                [](int64_t, std::span<float>) { FAIL() << "nothing to read"; });
  EXPECT_THAT(packed, testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                        ::testing::HasSubstr("weights")));
}

}  // namespace
}  // namespace sluice
