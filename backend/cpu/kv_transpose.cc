#include "backend/cpu/kv_transpose.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kv_transpose.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/kv_transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// Part of a matrix of words, and where it goes.
struct Turn {
  const uint32_t* in;
  int64_t in_stride;
  uint32_t* out;
  int64_t out_stride;

  void Word(int64_t row, int64_t column) const {
    out[column * out_stride + row] = in[row * in_stride + column];
  }
  HWY_INLINE void Panel(int64_t row, int64_t column) const {
    TurnPanel<false>(in + row * in_stride + column, in_stride, out + column * out_stride + row,
                     out_stride);
  }
  // Rows [first, last) and columns [left, right): in squares of four words where they fit, whatever
  // the machine has.
  void Rest(int64_t first, int64_t last, int64_t left, int64_t right) const {
    int64_t row = first;
#if HWY_TARGET != HWY_SCALAR
    for (; row + 4 <= last; row += 4) {
      int64_t column = left;
      for (; column + 4 <= right; column += 4) Square(row, column);
      for (; column < right; ++column) {
        for (int64_t r = row; r < row + 4; ++r) Word(r, column);
      }
    }
#endif
    for (; row < last; ++row) {
      for (int64_t column = left; column < right; ++column) Word(row, column);
    }
  }
#if HWY_TARGET != HWY_SCALAR
  HWY_INLINE void Square(int64_t row, int64_t column) const {
    const hn::FixedTag<uint32_t, 4> d4;
    const uint32_t* from = in + row * in_stride + column;
    hn::Vec<decltype(d4)> rows[4];
    for (int64_t i = 0; i < 4; ++i) rows[i] = hn::LoadU(d4, from + i * in_stride);
    TurnBlocks(d4, rows);
    uint32_t* to = out + column * out_stride + row;
    for (int64_t i = 0; i < 4; ++i) hn::StoreU(rows[i], d4, to + i * out_stride);
  }
#endif
};

void TransposeAny(const uint32_t* in, int64_t in_stride, int64_t rows, int64_t columns,
                  uint32_t* out, int64_t out_stride) {
  const Turn turn{in, in_stride, out, out_stride};
  const int64_t whole_rows = rows / kLineWords * kLineWords;
  const int64_t whole_columns = columns / kSide * kSide;
  // Along the lines of the side with the wider stride: the other one is a page, which stays in the
  // first-level cache.
  if (in_stride > out_stride) {
    for (int64_t r = 0; r < whole_rows; r += kLineWords) {
      for (int64_t c = 0; c < whole_columns; c += kSide) turn.Panel(r, c);
    }
  } else {
    for (int64_t c = 0; c < whole_columns; c += kSide) {
      for (int64_t r = 0; r < whole_rows; r += kLineWords) turn.Panel(r, c);
    }
  }
  turn.Rest(0, whole_rows, whole_columns, columns);
  turn.Rest(whole_rows, rows, 0, columns);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(TransposeAny);

void TransposeWords(const uint32_t* in, int64_t in_stride, int64_t rows, int64_t columns,
                    uint32_t* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(TransposeAny)(in, in_stride, rows, columns, out, out_stride);
}

}  // namespace sluice
#endif
