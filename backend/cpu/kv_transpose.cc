#include "backend/cpu/kv_transpose.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/kv_transpose.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR
constexpr int64_t kTile = 1;
HWY_INLINE void TransposeTile(const uint32_t* in, int64_t, uint32_t* out, int64_t) { *out = *in; }
#else
// Four words square: one vector of 128 bits per row, whatever the machine has.
constexpr int64_t kTile = 4;
HWY_INLINE void TransposeTile(const uint32_t* HWY_RESTRICT in, int64_t in_stride,
                              uint32_t* HWY_RESTRICT out, int64_t out_stride) {
  const hn::FixedTag<uint32_t, 4> d4;
  const hn::FixedTag<uint64_t, 2> d2;
  const auto r0 = hn::LoadU(d4, in);
  const auto r1 = hn::LoadU(d4, in + in_stride);
  const auto r2 = hn::LoadU(d4, in + 2 * in_stride);
  const auto r3 = hn::LoadU(d4, in + 3 * in_stride);
  // Two rows each, word by word in turn: columns 0 and 1, columns 2 and 3.
  const auto left01 = hn::BitCast(d2, hn::InterleaveLower(d4, r0, r1));
  const auto left23 = hn::BitCast(d2, hn::InterleaveLower(d4, r2, r3));
  const auto right01 = hn::BitCast(d2, hn::InterleaveUpper(d4, r0, r1));
  const auto right23 = hn::BitCast(d2, hn::InterleaveUpper(d4, r2, r3));
  hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, left01, left23)), d4, out);
  hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, left01, left23)), d4, out + out_stride);
  hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, right01, right23)), d4, out + 2 * out_stride);
  hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, right01, right23)), d4, out + 3 * out_stride);
}
#endif

void TransposeAny(const uint32_t* in, int64_t in_stride, int64_t rows, int64_t columns,
                  uint32_t* out, int64_t out_stride) {
  const int64_t whole_rows = rows / kTile * kTile;
  const int64_t whole_columns = columns / kTile * kTile;
  const auto tile = [&](int64_t r, int64_t c) {
    TransposeTile(in + r * in_stride + c, in_stride, out + c * out_stride + r, out_stride);
  };
  // Along the lines of the side with the wider stride: the other one is a page, which stays in the
  // first-level cache.
  if (in_stride > out_stride) {
    for (int64_t r = 0; r < whole_rows; r += kTile) {
      for (int64_t c = 0; c < whole_columns; c += kTile) tile(r, c);
    }
  } else {
    for (int64_t c = 0; c < whole_columns; c += kTile) {
      for (int64_t r = 0; r < whole_rows; r += kTile) tile(r, c);
    }
  }
  // What does not fill a tile.
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      out[c * out_stride + r] = in[r * in_stride + c];
    }
  }
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
