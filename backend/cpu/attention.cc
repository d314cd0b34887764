#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/attention_chunk.h"
#include "scheduler/base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// Rows held in registers at once: half as many where there are 16 registers, not 32.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
inline constexpr int kRegisterRows = 4;
#else
inline constexpr int kRegisterRows = 2;
#endif

// Scores of kRows queries against kVectors vectors of tokens. kFetch: what lies `ahead` bytes
// further on is wanted soon.
template <bool kNarrow, int kRows, int kVectors, bool kFetch>
HWY_INLINE void ScoreBlock(const float* HWY_RESTRICT q, int64_t q_stride,
                           const uint32_t* HWY_RESTRICT keys, int64_t key_words, int64_t units,
                           int64_t ahead, float* HWY_RESTRICT scores) {
  const DF d;
  const DU du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  // Two sums per score, of even and of odd units or dimensions: a shorter chain of additions.
  VF even[kRows][kVectors];
  VF odd[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) even[r][v] = odd[r][v] = hn::Zero(d);
  }
  for (int64_t u = 0; u < units; ++u, keys += key_words) {
    VF low[kVectors];
    VF high[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const VU pair = hn::LoadU(du, keys + v * lanes);
      if (kFetch) hwy::Prefetch(reinterpret_cast<const std::byte*>(keys + v * lanes) + ahead);
      low[v] = kNarrow ? LowHalf(pair) : hn::BitCast(d, pair);
      if (kNarrow) high[v] = HighHalf(pair);
    }
    for (int r = 0; r < kRows; ++r) {
      const float* row = q + r * q_stride + (kNarrow ? 2 * u : u);
      const VF q0 = hn::Set(d, row[0]);
      for (int v = 0; v < kVectors; ++v) even[r][v] = hn::MulAdd(q0, low[v], even[r][v]);
      if (kNarrow) {
        const VF q1 = hn::Set(d, row[1]);
        for (int v = 0; v < kVectors; ++v) odd[r][v] = hn::MulAdd(q1, high[v], odd[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(hn::Add(even[r][v], odd[r][v]), d, scores + r * kChunk + v * lanes);
    }
  }
}

template <bool kNarrow, int kRows, bool kFetch>
HWY_INLINE void ScoreRows(const AttentionPiece& piece, const float* q, int64_t q_stride,
                          int64_t units, float* scores) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
  int64_t t = 0;
  for (; t + 2 * lanes <= piece.tokens; t += 2 * lanes) {
    ScoreBlock<kNarrow, kRows, 2, kFetch>(q, q_stride, piece.keys + t, piece.key_words, units,
                                          piece.key_ahead, scores + t);
  }
  for (; t < piece.tokens; t += lanes) {
    ScoreBlock<kNarrow, kRows, 1, kFetch>(q, q_stride, piece.keys + t, piece.key_words, units,
                                          piece.key_ahead, scores + t);
  }
}

// sums[row] = sums[row] * correction + sum over the chunk's tokens of score * V, for kVectors
// vectors of 32-bit V lanes at `word` (each two sums wide if narrow: even and odd dimensions
// apart).
template <bool kNarrow, int kRows, int kVectors, bool kFetch>
HWY_INLINE void SumBlock(const AttentionChunk& chunk, const float* HWY_RESTRICT scores,
                         const float* HWY_RESTRICT corrections, int64_t word,
                         float* HWY_RESTRICT sums, int64_t sum_stride) {
  constexpr int kWide = kNarrow ? 2 * kVectors : kVectors;
  const DF d;
  const DU du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  VF acc[kRows][kWide];
  for (int r = 0; r < kRows; ++r) {
    const VF correction = hn::Set(d, corrections[r]);
    for (int w = 0; w < kWide; ++w) {
      acc[r][w] = hn::Mul(hn::LoadU(d, sums + r * sum_stride + w * lanes), correction);
    }
  }
  const float* column = scores;  // of the token at hand
  for (int64_t i = 0; i < chunk.count; ++i) {
    const AttentionPiece& piece = chunk.pieces[i];
    const uint32_t* values = piece.values + word;
    for (int64_t t = 0; t < piece.visible; ++t, values += piece.value_words) {
      VF v[kWide];
      for (int k = 0; k < kVectors; ++k) {
        const VU pair = hn::LoadU(du, values + k * lanes);
        if (kFetch)
          hwy::Prefetch(reinterpret_cast<const std::byte*>(values + k * lanes) + piece.value_ahead);
        if (kNarrow) {
          v[2 * k] = LowHalf(pair);
          v[2 * k + 1] = HighHalf(pair);
        } else {
          v[k] = hn::BitCast(d, pair);
        }
      }
      for (int r = 0; r < kRows; ++r) {
        const VF p = hn::Set(d, column[r * kChunk + t]);
        for (int w = 0; w < kWide; ++w) acc[r][w] = hn::MulAdd(p, v[w], acc[r][w]);
      }
    }
    column += piece.tokens;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int w = 0; w < kWide; ++w) {
      hn::StoreU(acc[r][w], d, sums + r * sum_stride + w * lanes);
    }
  }
}

template <bool kNarrow, int kRows, bool kFetch>
HWY_INLINE void SumRows(const AttentionChunk& chunk, const float* scores, const float* corrections,
                        float* sums, int64_t sum_stride) {
  constexpr int kVectors = kNarrow ? 2 : 4;
  constexpr int64_t kWidth = kNarrow ? 2 : 1;  // sums per 32-bit lane
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
  int64_t w = 0;
  for (; w + kVectors * lanes <= chunk.value_words; w += kVectors * lanes) {
    SumBlock<kNarrow, kRows, kVectors, kFetch>(chunk, scores, corrections, w, sums + w * kWidth,
                                               sum_stride);
  }
  for (; w < chunk.value_words; w += lanes) {
    SumBlock<kNarrow, kRows, 1, kFetch>(chunk, scores, corrections, w, sums + w * kWidth,
                                        sum_stride);
  }
}

// Turns a chunk's scores of one row into weights relative to the new maximum. The first `visible`
// tokens count; the others get weight zero.
HWY_INLINE void SoftmaxRow(float* HWY_RESTRICT scores, int64_t tokens, int64_t visible,
                           float* HWY_RESTRICT maximum, float* HWY_RESTRICT correction,
                           float* HWY_RESTRICT weights) {
  const DF d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const VF lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  VF top = hn::Set(d, *maximum);
  for (int64_t t = 0; t < tokens; t += lanes) {
    VF s = hn::LoadU(d, scores + t);
    if (t + lanes > visible) {
      const VF left = hn::Set(d, static_cast<float>(visible - t));
      s = hn::IfThenElse(hn::Lt(hn::Iota(d, 0.0F), left), s, lowest);
      hn::StoreU(s, d, scores + t);
    }
    top = hn::Max(top, s);
  }
  top = hn::MaxOfLanes(d, top);
  VF sum = hn::LoadU(d, weights);
  *correction = 1.0F;
  if (hn::GetLane(top) != *maximum) {  // seldom after the first chunks
    const VF scale = Exp2(hn::Sub(hn::Set(d, *maximum), top));
    sum = hn::Mul(sum, scale);
    *correction = hn::GetLane(scale);
    *maximum = hn::GetLane(top);
  }
  for (int64_t t = 0; t < tokens; t += lanes) {
    const VF p = Exp2(hn::Sub(hn::LoadU(d, scores + t), top));
    hn::StoreU(p, d, scores + t);
    sum = hn::Add(sum, p);
  }
  hn::StoreU(sum, d, weights);
}

// Calls fn.template operator()<kBlock>(row) over `rows` rows in blocks of kLargest, then 4, 2, 1.
template <int kLargest, class Fn>
HWY_INLINE void ForRowBlocks(int64_t rows, int64_t row, const Fn& fn) {
  for (; row + kLargest <= rows; row += kLargest) fn(row, std::integral_constant<int, kLargest>());
  if constexpr (kLargest > 1) {
    if (row < rows) ForRowBlocks<kLargest / 2>(rows, row, fn);
  }
}

template <bool kNarrow>
void AttendChunk(const AttentionScratchView& s, const KvLayout& layout, const AttentionChunk& chunk,
                 const int64_t* limits, int64_t rows) {
  int64_t offset = 0;
  for (int64_t i = 0; i < chunk.count; ++i) {
    const AttentionPiece& piece = chunk.pieces[i];
    ForRowBlocks<kRegisterRows>(rows, 0, [&](int64_t row, auto block) HWY_ATTR {
      constexpr int kRows = decltype(block)::value;
      const float* q = s.queries + row * s.stride;
      float* scores = s.scores + row * kChunk + offset;
      if (row == 0) {
        ScoreRows<kNarrow, kRows, true>(piece, q, s.stride, layout.units(), scores);
      } else {
        ScoreRows<kNarrow, kRows, false>(piece, q, s.stride, layout.units(), scores);
      }
    });
    offset += piece.tokens;
  }
  for (int64_t r = 0; r < rows; ++r) {
    SoftmaxRow(s.scores + r * kChunk, offset, limits[r] - chunk.start, s.maxima + r,
               s.corrections + r, s.weights + r * kMaxLanes);
  }
  ForRowBlocks<kRegisterRows>(rows, 0, [&](int64_t row, auto block) HWY_ATTR {
    constexpr int kRows = decltype(block)::value;
    const float* scores = s.scores + row * kChunk;
    float* sums = s.sums + row * s.stride;
    if (row == 0) {
      SumRows<kNarrow, kRows, true>(chunk, scores, s.corrections + row, sums, s.stride);
    } else {
      SumRows<kNarrow, kRows, false>(chunk, scores, s.corrections + row, sums, s.stride);
    }
  });
}

// Divides by the sum of weights, puts dimensions back in order and stores elements.
template <bool kNarrow>
void FinishRow(const AttentionScratchView& s, const KvLayout& layout, int64_t r, void* out,
               int64_t at) {
  const DF d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  float total = 0;
  for (int64_t i = 0; i < lanes; ++i) total += s.weights[r * kMaxLanes + i];
  const VF scale = hn::Set(d, 1.0F / total);
  const float* sums = s.sums + r * s.stride;
  float* ordered = s.queries + r * s.stride;  // the row's query is no longer needed
  for (int64_t i = 0; i < layout.value_stride(); i += kNarrow ? 2 * lanes : lanes) {
    const VF a = hn::Mul(hn::LoadU(d, sums + i), scale);
    if (kNarrow) {
      const VF b = hn::Mul(hn::LoadU(d, sums + i + lanes), scale);
      hn::StoreInterleaved2(a, b, d, ordered + i);
    } else {
      hn::StoreU(a, d, ordered + i);
    }
  }
  StoreElements(ordered, layout.head_dim, layout.element, out, at);
}

template <bool kNarrow>
void Attend(const AttentionInput& in, int64_t kv_head, int64_t row, int64_t rows,
            const AttentionScratchView& s) {
  const KvLayout& layout = *in.layout;
  const int64_t dim = layout.head_dim;
  // Scores are kept in units of log 2, so that weights are powers of two.
  const float scale = 1.44269504088896341F / std::sqrt(static_cast<float>(dim));
  int64_t limits[kAttentionTileRows] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t token = (row + r) / in.group;
    const int64_t head = kv_head * in.group + (row + r) % in.group;
    limits[r] = in.first + token + 1;
    const float* q = in.queries + token * in.query_stride + head * dim;
    for (int64_t i = 0; i < dim; ++i) s.queries[r * s.stride + i] = q[i] * scale;
    std::fill_n(s.sums + r * s.stride, s.stride, 0.0F);
    std::fill_n(s.weights + r * kMaxLanes, kMaxLanes, 0.0F);
    s.maxima[r] = -std::numeric_limits<float>::infinity();
  }
  const int64_t last = limits[rows - 1];  // limits never fall from row to row
  for (int64_t start = 0; start < last; start += kChunk) {
    AttendChunk<kNarrow>(s, layout, MakeChunk(in, s, kv_head, start, last), limits, rows);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t token = (row + r) / in.group;
    const int64_t head = kv_head * in.group + (row + r) % in.group;
    FinishRow<kNarrow>(s, layout, r, in.out, token * in.out_stride + head * dim);
  }
}

void AttendAny(const AttentionInput& in, int64_t kv_head, int64_t row, int64_t rows,
               const AttentionScratchView& s) {
  if (in.layout->element == Element::kBF16) {
    Attend<true>(in, kv_head, row, rows, s);
  } else {
    Attend<false>(in, kv_head, row, rows, s);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(AttendAny);

AttentionScratch::AttentionScratch(const KvLayout& layout)
    : memory_(AttentionScratchView::Floats(layout)) {}

void AttendTile(const AttentionInput& in, int64_t kv_head, int64_t row, int64_t rows,
                AttentionScratch& scratch) {
  SLUICE_CHECK(rows > 0 && rows <= kAttentionTileRows);
  HWY_DYNAMIC_DISPATCH(AttendAny)
  (in, kv_head, row, rows, AttentionScratchView(scratch, *in.layout));
}

}  // namespace sluice
#endif
