// Squares and panels of 32-bit words, turned over in registers. Included once per instruction set
// by Highway's foreach_target; has no meaning elsewhere.
#if defined(SLUICE_BACKEND_CPU_KV_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_BACKEND_CPU_KV_TRANSPOSE_INL_H_
#undef SLUICE_BACKEND_CPU_KV_TRANSPOSE_INL_H_
#else
#define SLUICE_BACKEND_CPU_KV_TRANSPOSE_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DWords = hn::CappedTag<uint32_t, 16>;
using VWords = hn::Vec<DWords>;

// Words of a cache line, and of a vector.
inline constexpr int64_t kLineWords = 16;
inline constexpr auto kSide = static_cast<int64_t>(hn::MaxLanes(DWords()));

// kStream: past the caches. REQUIRES then: `out` is aligned to the vector.
template <bool kStream>
HWY_INLINE void StoreWords(VWords v, uint32_t* out) {
  if constexpr (kStream) {
    hn::Stream(v, DWords(), out);
  } else {
    hn::StoreU(v, DWords(), out);
  }
}

#if HWY_TARGET != HWY_SCALAR
// Four rows: afterwards rows[i] holds, in each block of 128 bits, column i of the square of four
// words that the rows had there.
template <class D>
HWY_INLINE void TurnBlocks(D d, hn::Vec<D>* HWY_RESTRICT rows) {
  const hn::Repartition<uint64_t, D> d2;
  // Two rows each, word by word in turn: columns 0 and 1, columns 2 and 3.
  const auto left01 = hn::BitCast(d2, hn::InterleaveLower(d, rows[0], rows[1]));
  const auto left23 = hn::BitCast(d2, hn::InterleaveLower(d, rows[2], rows[3]));
  const auto right01 = hn::BitCast(d2, hn::InterleaveUpper(d, rows[0], rows[1]));
  const auto right23 = hn::BitCast(d2, hn::InterleaveUpper(d, rows[2], rows[3]));
  rows[0] = hn::BitCast(d, hn::InterleaveLower(d2, left01, left23));
  rows[1] = hn::BitCast(d, hn::InterleaveUpper(d2, left01, left23));
  rows[2] = hn::BitCast(d, hn::InterleaveLower(d2, right01, right23));
  rows[3] = hn::BitCast(d, hn::InterleaveUpper(d2, right01, right23));
}
#endif

// Turns over a square of kSide words.
HWY_INLINE void TurnSquare(VWords* HWY_RESTRICT rows) {
#if HWY_TARGET != HWY_SCALAR
  const DWords d;
  for (int64_t i = 0; i < kSide; i += 4) TurnBlocks(d, rows + i);
  // What is left is to turn over squares of blocks: of two blocks, then of two pairs of blocks.
  if constexpr (kSide == 8) {
    for (int64_t i = 0; i < 4; ++i) {
      const VWords top = rows[i];
      const VWords low = rows[i + 4];
      rows[i] = hn::ConcatLowerLower(d, low, top);
      rows[i + 4] = hn::ConcatUpperUpper(d, low, top);
    }
  } else if constexpr (kSide == 16) {
    for (int64_t i = 0; i < 16; ++i) {
      if (i % 8 >= 4) continue;
      const VWords top = rows[i];
      const VWords low = rows[i + 4];
      rows[i] = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(low), top);
      rows[i + 4] = hn::OddEvenBlocks(low, hn::SwapAdjacentBlocks(top));
    }
    for (int64_t i = 0; i < 8; ++i) {
      const VWords top = rows[i];
      const VWords low = rows[i + 8];
      rows[i] = hn::ConcatLowerLower(d, low, top);
      rows[i + 8] = hn::ConcatUpperUpper(d, low, top);
    }
  }
#else
  (void)rows;
#endif
}

// out[c * out_stride + r] = in[r * in_stride + c] for kLineWords rows r and kSide columns c: every
// row of the result is as long as a cache line, and is written at once. kStream REQUIRES that it is
// one.
template <bool kStream>
HWY_INLINE void TurnPanel(const uint32_t* HWY_RESTRICT in, int64_t in_stride,
                          uint32_t* HWY_RESTRICT out, int64_t out_stride) {
  VWords v[kLineWords];
  for (int64_t r = 0; r < kLineWords; ++r) v[r] = hn::LoadU(DWords(), in + r * in_stride);
  for (int64_t r = 0; r < kLineWords; r += kSide) TurnSquare(v + r);
  for (int64_t c = 0; c < kSide; ++c) {
    for (int64_t r = 0; r < kLineWords; r += kSide) {
      StoreWords<kStream>(v[r + c], out + c * out_stride + r);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif
