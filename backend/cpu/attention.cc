#include "backend/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "scheduler/base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/attention.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

#ifndef SLUICE_BACKEND_CPU_ATTENTION_ONCE
#define SLUICE_BACKEND_CPU_ATTENTION_ONCE
namespace sluice {

// Tokens whose scores are kept before they are folded into the sums.
inline constexpr int64_t kChunk = 64;
inline constexpr int64_t kMaxLanes = 16;

// The parts of an AttentionScratch, each aligned to a cache line.
struct AttentionScratchView {
  static size_t Floats(const KvLayout& layout) {
    return static_cast<size_t>(kAttentionTileRows * (Padded(layout) * 2 + kChunk + kMaxLanes * 3) +
                               kMaxLanes);
  }
  static int64_t Padded(const KvLayout& layout) { return (layout.head_dim + 31) / 32 * 32; }

  AttentionScratchView(AttentionScratch& scratch, const KvLayout& layout) {
    stride = Padded(layout);
    auto at = reinterpret_cast<uintptr_t>(scratch.memory_.data());
    float* p = scratch.memory_.data() + ((64 - at % 64) % 64) / sizeof(float);
    const auto take = [&p](int64_t per_row) {
      float* part = p;
      p += kAttentionTileRows * per_row;
      return part;
    };
    queries = take(stride);
    sums = take(stride);
    scores = take(kChunk);
    weights = take(kMaxLanes);
    maxima = take(kMaxLanes);
    corrections = take(kMaxLanes);
  }

  int64_t stride;      // floats per row of queries and sums
  float* queries;      // [row][stride], scaled
  float* sums;         // [row][stride], weighted V so far
  float* scores;       // [row][kChunk]
  float* weights;      // [row][lanes], sum of exp so far, lane by lane
  float* maxima;       // [row]
  float* corrections;  // [row], what the last new maximum scales earlier sums by
};

}  // namespace sluice
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// Rows held in registers at once: half as many where there are 16 registers, not 32.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
inline constexpr int kScoreRows = 8;
inline constexpr int kSumRows = 4;
#else
inline constexpr int kScoreRows = 4;
inline constexpr int kSumRows = 2;
#endif

// Scores of kRows queries against kVectors vectors of tokens.
template <bool kNarrow, int kRows, int kVectors>
HWY_INLINE void ScoreBlock(const float* HWY_RESTRICT q, int64_t q_stride,
                           const uint32_t* HWY_RESTRICT keys, int64_t page_tokens, int64_t units,
                           float* HWY_RESTRICT scores) {
  const DF d;
  const DU du;
  const size_t lanes = hn::Lanes(d);
  VF acc[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::Zero(d);
  }
  for (int64_t u = 0; u < units; ++u, keys += page_tokens) {
    VF low[kVectors];
    VF high[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const VU pair = hn::LoadU(du, keys + static_cast<size_t>(v) * lanes);
      low[v] = kNarrow ? LowHalf(pair) : hn::BitCast(d, pair);
      if (kNarrow) high[v] = HighHalf(pair);
    }
    for (int r = 0; r < kRows; ++r) {
      const float* row = q + r * q_stride + (kNarrow ? 2 * u : u);
      const VF q0 = hn::Set(d, row[0]);
      for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(q0, low[v], acc[r][v]);
      if (kNarrow) {
        const VF q1 = hn::Set(d, row[1]);
        for (int v = 0; v < kVectors; ++v) acc[r][v] = hn::MulAdd(q1, high[v], acc[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      hn::StoreU(acc[r][v], d,
                 scores + r * kChunk + static_cast<int64_t>(static_cast<size_t>(v) * lanes));
    }
  }
}

template <bool kNarrow, int kRows>
HWY_INLINE void ScoreRows(const float* q, int64_t q_stride, const uint32_t* keys,
                          int64_t page_tokens, int64_t units, int64_t tokens, float* scores) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
  int64_t t = 0;
  for (; t + 2 * lanes <= tokens; t += 2 * lanes) {
    ScoreBlock<kNarrow, kRows, 2>(q, q_stride, keys + t, page_tokens, units, scores + t);
  }
  for (; t < tokens; t += lanes) {
    ScoreBlock<kNarrow, kRows, 1>(q, q_stride, keys + t, page_tokens, units, scores + t);
  }
}

// sums[row] = sums[row] * correction + sum over tokens of score * V, for kVectors vectors of 32-bit
// V lanes (each two sums wide if narrow: even and odd dimensions apart).
template <bool kNarrow, int kRows, int kVectors>
HWY_INLINE void SumBlock(const float* HWY_RESTRICT scores, const float* HWY_RESTRICT corrections,
                         const uint32_t* HWY_RESTRICT values, int64_t value_words, int64_t tokens,
                         float* HWY_RESTRICT sums, int64_t sum_stride) {
  constexpr int kWide = kNarrow ? 2 * kVectors : kVectors;
  const DF d;
  const DU du;
  const size_t lanes = hn::Lanes(d);
  VF acc[kRows][kWide];
  for (int r = 0; r < kRows; ++r) {
    const VF correction = hn::Set(d, corrections[r]);
    for (int w = 0; w < kWide; ++w) {
      const float* at =
          sums + r * sum_stride + static_cast<int64_t>(static_cast<size_t>(w) * lanes);
      acc[r][w] = hn::Mul(hn::LoadU(d, at), correction);
    }
  }
  for (int64_t t = 0; t < tokens; ++t, values += value_words) {
    VF v[kWide];
    for (int i = 0; i < kVectors; ++i) {
      const VU pair = hn::LoadU(du, values + static_cast<size_t>(i) * lanes);
      if (kNarrow) {
        v[2 * i] = LowHalf(pair);
        v[2 * i + 1] = HighHalf(pair);
      } else {
        v[i] = hn::BitCast(d, pair);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      const VF p = hn::Set(d, scores[r * kChunk + t]);
      for (int w = 0; w < kWide; ++w) acc[r][w] = hn::MulAdd(p, v[w], acc[r][w]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int w = 0; w < kWide; ++w) {
      hn::StoreU(acc[r][w], d,
                 sums + r * sum_stride + static_cast<int64_t>(static_cast<size_t>(w) * lanes));
    }
  }
}

template <bool kNarrow, int kRows>
HWY_INLINE void SumRows(const float* scores, const float* corrections, const uint32_t* values,
                        int64_t value_words, int64_t tokens, float* sums, int64_t sum_stride) {
  constexpr int kVectors = kNarrow ? 2 : 4;
  constexpr int64_t kWidth = kNarrow ? 2 : 1;  // sums per 32-bit lane
  const auto lanes = static_cast<int64_t>(hn::Lanes(DF()));
  int64_t w = 0;
  for (; w + kVectors * lanes <= value_words; w += kVectors * lanes) {
    SumBlock<kNarrow, kRows, kVectors>(scores, corrections, values + w, value_words, tokens,
                                       sums + w * kWidth, sum_stride);
  }
  for (; w < value_words; w += lanes) {
    SumBlock<kNarrow, kRows, 1>(scores, corrections, values + w, value_words, tokens,
                                sums + w * kWidth, sum_stride);
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
  const VF scale = Exp2(hn::Sub(hn::Set(d, *maximum), top));
  VF sum = hn::Mul(hn::LoadU(d, weights), scale);
  for (int64_t t = 0; t < tokens; t += lanes) {
    const VF p = Exp2(hn::Sub(hn::LoadU(d, scores + t), top));
    hn::StoreU(p, d, scores + t);
    sum = hn::Add(sum, p);
  }
  hn::StoreU(sum, d, weights);
  *maximum = hn::GetLane(top);
  *correction = hn::GetLane(scale);
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
void AttendChunk(const AttentionScratchView& s, const KvLayout& layout, const std::byte* head,
                 int64_t slot, int64_t tokens, int64_t start, const int64_t* limits, int64_t rows) {
  const auto* keys = reinterpret_cast<const uint32_t*>(head) + slot;
  ForRowBlocks<kScoreRows>(rows, 0, [&](int64_t row, auto block) HWY_ATTR {
    ScoreRows<kNarrow, decltype(block)::value>(s.queries + row * s.stride, s.stride, keys,
                                               layout.page_tokens, layout.units(), tokens,
                                               s.scores + row * kChunk);
  });
  for (int64_t r = 0; r < rows; ++r) {
    SoftmaxRow(s.scores + r * kChunk, tokens, limits[r] - start, s.maxima + r, s.corrections + r,
               s.weights + r * kMaxLanes);
  }
  // Tokens beyond the last row's limit may not have been written: never touch their V.
  const int64_t visible = std::min(tokens, limits[rows - 1] - start);
  const int64_t value_words = layout.value_stride() * layout.element_bytes() / 4;
  const auto* values =
      reinterpret_cast<const uint32_t*>(head + layout.key_bytes()) + slot * value_words;
  ForRowBlocks<kSumRows>(rows, 0, [&](int64_t row, auto block) HWY_ATTR {
    SumRows<kNarrow, decltype(block)::value>(s.scores + row * kChunk, s.corrections + row, values,
                                             value_words, visible, s.sums + row * s.stride,
                                             s.stride);
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
  for (int64_t start = 0; start < last; start += layout.page_tokens) {
    const auto page = static_cast<size_t>(start / layout.page_tokens);
    const std::byte* head =
        in.pages + in.blocks[page].value() * layout.page_bytes() + kv_head * layout.head_bytes();
    for (int64_t slot = 0; slot < layout.page_tokens && start + slot < last; slot += kChunk) {
      const int64_t tokens = std::min(kChunk, layout.page_tokens - slot);
      AttendChunk<kNarrow>(s, layout, head, slot, tokens, start + slot, limits, rows);
    }
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
