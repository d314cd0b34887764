#include "backend/cpu/kv_transpose.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/backend/cpu/highway_targets.h"

namespace sluice {
namespace {

// Every small size, either side the wider one, with every instruction set of this machine. Words
// around the result must stay as they were.
TEST(KvTransposeTest, PutsEveryWordInItsPlaceAndTouchesNoOther) {
  testing::ForEachHighwayTarget([] {
    for (const int64_t slack : {0, 1, 30}) {
      for (int64_t rows = 1; rows <= 37; ++rows) {
        for (int64_t columns = 1; columns <= 37; ++columns) {
          const int64_t in_stride = columns + slack;
          const int64_t out_stride = rows + (30 - slack);
          std::vector<uint32_t> in(static_cast<size_t>(rows * in_stride));
          for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint32_t>(1000 + i);
          std::vector<uint32_t> out(static_cast<size_t>(columns * out_stride), 7);
          TransposeWords(in.data(), in_stride, rows, columns, out.data(), out_stride);
          for (int64_t c = 0; c < columns; ++c) {
            for (int64_t r = 0; r < out_stride; ++r) {
              const uint32_t want = r < rows ? in[static_cast<size_t>(r * in_stride + c)] : 7;
              ASSERT_EQ(out[static_cast<size_t>(c * out_stride + r)], want)
                  << rows << " x " << columns << " at row " << r << ", column " << c;
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace sluice
