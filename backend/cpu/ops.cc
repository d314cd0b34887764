#include "backend/cpu/ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/ops.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "backend/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

int64_t LaneCount() { return static_cast<int64_t>(hn::Lanes(DF())); }

void ToElementsImpl(const float* x, int64_t n, Element element, void* out, int64_t at) {
  StoreElements(x, n, element, out, at);
}

float InverseRms(const float* HWY_RESTRICT x, int64_t n, float eps) {
  const DF d;
  const int64_t lanes = LaneCount();
  VF a = hn::Zero(d);
  VF b = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const VF u = hn::LoadU(d, x + i);
    const VF v = hn::LoadU(d, x + i + lanes);
    a = hn::MulAdd(u, u, a);
    b = hn::MulAdd(v, v, b);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  for (; i < n; ++i) sum += x[i] * x[i];
  return 1.0F / std::sqrt(sum / static_cast<float>(n) + eps);
}

// Vectors of a row at a time: fn(i, count) for the next `count` <= kMaxRun floats at i.
inline constexpr int64_t kRun = 64;

void RmsNormImpl(const float* x, const float* weight, int64_t n, float eps, Element element,
                 void* out, int64_t at) {
  const DF d;
  const int64_t lanes = LaneCount();
  const float scale = InverseRms(x, n, eps);
  HWY_ALIGN float run[kRun];
  for (int64_t i = 0; i < n; i += kRun) {
    const int64_t count = std::min(kRun, n - i);
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes) {
      const VF v = hn::Mul(hn::LoadU(d, x + i + j), hn::Set(d, scale));
      hn::Store(hn::Mul(v, hn::LoadU(d, weight + i + j)), d, run + j);
    }
    for (; j < count; ++j) run[j] = x[i + j] * scale * weight[i + j];
    StoreElements(run, count, element, out, at + i);
  }
}

void RmsNormInPlaceImpl(float* x, const float* weight, int64_t n, float eps) {
  const float scale = InverseRms(x, n, eps);
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] * scale * weight[i];
}

void RopeImpl(float* HWY_RESTRICT x, const float* HWY_RESTRICT cosine,
              const float* HWY_RESTRICT sine, int64_t half) {
  const DF d;
  const int64_t lanes = LaneCount();
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const VF a = hn::LoadU(d, x + i);
    const VF b = hn::LoadU(d, x + half + i);
    const VF c = hn::LoadU(d, cosine + i);
    const VF s = hn::LoadU(d, sine + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i];
    const float b = x[half + i];
    x[i] = a * cosine[i] - b * sine[i];
    x[half + i] = b * cosine[i] + a * sine[i];
  }
}

HWY_INLINE VF Silu(VF x) {
  const DF d;
  const VF one = hn::Set(d, 1.0F);
  const VF e = ExpNegative(hn::Neg(hn::Abs(x)));  // at most 1: no overflow on either side
  const VF sigmoid_numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
  return hn::Div(hn::Mul(x, sigmoid_numerator), hn::Add(one, e));
}

void SwiGluImpl(const float* gate, const float* up, int64_t n, Element element, void* out,
                int64_t at) {
  const DF d;
  const int64_t lanes = LaneCount();
  HWY_ALIGN float run[kRun];
  HWY_ALIGN float padded[2][16] = {};
  for (int64_t i = 0; i < n; i += kRun) {
    const int64_t count = std::min(kRun, n - i);
    int64_t j = 0;
    for (; j + lanes <= count; j += lanes) {
      const VF g = Silu(hn::LoadU(d, gate + i + j));
      hn::Store(hn::Mul(g, hn::LoadU(d, up + i + j)), d, run + j);
    }
    if (j < count) {
      std::copy_n(gate + i + j, count - j, padded[0]);
      std::copy_n(up + i + j, count - j, padded[1]);
      hn::StoreU(hn::Mul(Silu(hn::Load(d, padded[0])), hn::Load(d, padded[1])), d, padded[0]);
      std::copy_n(padded[0], count - j, run + j);
    }
    StoreElements(run, count, element, out, at + i);
  }
}

void AddToImpl(float* HWY_RESTRICT y, const float* HWY_RESTRICT x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

float CheckedMaxImpl(const float* x, int64_t n) {
  const DF d;
  const int64_t lanes = LaneCount();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  VF top = hn::Set(d, -kInfinity);
  VF taint = hn::Zero(d);  // NaN once any input was NaN or infinite upwards
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const VF v = hn::LoadU(d, x + i);
    top = hn::Max(top, v);
    taint = hn::Add(taint, hn::Mul(hn::Max(v, hn::Zero(d)), hn::Zero(d)));
    taint = hn::IfThenElse(hn::IsNaN(v), v, taint);
  }
  float maximum = hn::GetLane(hn::MaxOfLanes(d, top));
  bool bad = !hn::AllFalse(d, hn::IsNaN(taint));
  for (; i < n; ++i) {
    bad = bad || std::isnan(x[i]);
    maximum = std::max(maximum, x[i]);
  }
  if (bad || std::isinf(maximum)) return std::numeric_limits<float>::quiet_NaN();
  return maximum;
}

double ExpSumImpl(const float* x, int64_t n, float maximum, float scale, float* out) {
  const DF d;
  const int64_t lanes = LaneCount();
  const VF top = hn::Set(d, maximum);
  const VF factor = hn::Set(d, scale);
  HWY_ALIGN float padded[16];
  double sum = 0;
  for (int64_t run = 0; run < n; run += 1024) {  // float sums of short runs, double over runs
    const int64_t end = std::min(n, run + 1024);
    VF part = hn::Zero(d);
    int64_t i = run;
    for (; i + lanes <= end; i += lanes) {
      const VF e = ExpNegative(hn::Mul(hn::Sub(hn::LoadU(d, x + i), top), factor));
      hn::StoreU(e, d, out + i);
      part = hn::Add(part, e);
    }
    if (i < end) {
      std::fill_n(padded, 16, -std::numeric_limits<float>::infinity());
      std::copy_n(x + i, end - i, padded);
      const VF e = ExpNegative(hn::Mul(hn::Sub(hn::Load(d, padded), top), factor));
      part = hn::Add(part, e);
      hn::Store(e, d, padded);
      std::copy_n(padded, end - i, out + i);
    }
    sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, part)));
  }
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(ToElementsImpl);
HWY_EXPORT(RmsNormImpl);
HWY_EXPORT(RmsNormInPlaceImpl);
HWY_EXPORT(RopeImpl);
HWY_EXPORT(SwiGluImpl);
HWY_EXPORT(AddToImpl);
HWY_EXPORT(CheckedMaxImpl);
HWY_EXPORT(ExpSumImpl);

void ToElements(const float* x, int64_t n, Element element, void* out, int64_t at) {
  HWY_DYNAMIC_DISPATCH(ToElementsImpl)(x, n, element, out, at);
}

void RmsNorm(const float* x, const float* weight, int64_t n, float eps, Element element, void* out,
             int64_t at) {
  HWY_DYNAMIC_DISPATCH(RmsNormImpl)(x, weight, n, eps, element, out, at);
}

void RmsNormInPlace(float* x, const float* weight, int64_t n, float eps) {
  HWY_DYNAMIC_DISPATCH(RmsNormInPlaceImpl)(x, weight, n, eps);
}

void Rope(float* x, const float* cosine, const float* sine, int64_t half) {
  HWY_DYNAMIC_DISPATCH(RopeImpl)(x, cosine, sine, half);
}

void SwiGlu(const float* gate, const float* up, int64_t n, Element element, void* out, int64_t at) {
  HWY_DYNAMIC_DISPATCH(SwiGluImpl)(gate, up, n, element, out, at);
}

void AddTo(float* y, const float* x, int64_t n) { HWY_DYNAMIC_DISPATCH(AddToImpl)(y, x, n); }

float CheckedMax(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(CheckedMaxImpl)(x, n); }

double ExpSum(const float* x, int64_t n, float maximum, float scale, float* out) {
  return HWY_DYNAMIC_DISPATCH(ExpSumImpl)(x, n, maximum, scale, out);
}

RopeTable::RopeTable(const ModelConfig& config, Tokens positions) : half_(config.head_dim / 2) {
  const std::vector<double> frequencies =
      RopeInverseFrequencies(config.rope, config.head_dim, config.max_position_embeddings);
  const double factor = config.rope.attention_factor;
  cosine_.reserve(positions.size() * frequencies.size());
  sine_.reserve(positions.size() * frequencies.size());
  for (int64_t position = 0; position < positions.value(); ++position) {
    for (const double frequency : frequencies) {
      const double angle = static_cast<double>(position) * frequency;
      cosine_.push_back(static_cast<float>(std::cos(angle) * factor));
      sine_.push_back(static_cast<float>(std::sin(angle) * factor));
    }
  }
}

}  // namespace sluice
#endif
