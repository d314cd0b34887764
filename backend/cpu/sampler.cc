#include "backend/cpu/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "backend/cpu/ops.h"
#include "scheduler/base/check.h"

namespace sluice {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

// SplitMix64's output function (Steele, Lea & Flood 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

TokenId FirstOf(std::span<const float> logits, float value) {
  return static_cast<TokenId>(std::find(logits.begin(), logits.end(), value) - logits.begin());
}

// Calls fn(token, times) for every distinct token; sorts `tokens`.
template <class Fn>
void ForEachDistinct(std::vector<TokenId>& tokens, const Fn& fn) {
  std::sort(tokens.begin(), tokens.end());
  for (size_t i = 0; i < tokens.size();) {
    size_t end = i + 1;
    while (end < tokens.size() && tokens[end] == tokens[i]) ++end;
    fn(tokens[i], end - i);
    i = end;
  }
}

}  // namespace

double UniformDraw(uint64_t seed, int64_t index) {
  const uint64_t bits = Mix(Mix(seed) ^ (static_cast<uint64_t>(index) * 0xd1342543de82ef95U));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

absl::StatusOr<SampledToken> Sampler::Sample(std::span<float> logits, const SampleInput& input) {
  const SamplingParams& params = *input.params;
  float maximum = CheckedMax(logits.data(), static_cast<int64_t>(logits.size()));
  if (std::isnan(maximum)) {
    return absl::InternalError("the model's logits are not finite; is the checkpoint damaged?");
  }
  const bool report = params.logprobs >= 0;
  if (report) ReportLogprobs(logits, maximum, params.logprobs);

  const bool mask = input.output_index < params.min_tokens && !params.stop_ids.empty();
  if (params.has_penalties() || mask) {
    if (params.has_penalties()) ApplyPenalties(logits, input);
    if (mask) {
      for (const TokenId stop : params.stop_ids) {
        if (stop >= 0 && static_cast<size_t>(stop) < logits.size()) {
          logits[static_cast<size_t>(stop)] = kMasked;
        }
      }
    }
    maximum = CheckedMax(logits.data(), static_cast<int64_t>(logits.size()));
    if (std::isnan(maximum)) {
      return absl::InternalError("penalties and min_tokens leave no token to draw");
    }
  }
  SampledToken sampled;
  sampled.token = params.temperature == 0.0F
                      ? FirstOf(logits, maximum)
                      : Draw(logits, maximum, params, UniformDraw(params.seed, input.output_index));
  if (report) {
    sampled.logprob = static_cast<float>(
        static_cast<double>(raw_[static_cast<size_t>(sampled.token)]) - log_sum_);
    sampled.top = top_;
  }
  return sampled;
}

void Sampler::ReportLogprobs(std::span<const float> logits, float maximum, int32_t count) {
  const auto n = static_cast<int64_t>(logits.size());
  raw_.assign(logits.begin(), logits.end());
  weights_.resize(logits.size());
  log_sum_ = std::log(ExpSum(logits.data(), n, maximum, 1.0F, weights_.data())) +
             static_cast<double>(maximum);
  top_.clear();
  if (count == 0) return;
  const size_t kept = std::min(logits.size(), static_cast<size_t>(count));
  SortTop(logits, kept);
  for (size_t i = 0; i < kept; ++i) {
    const double logit = static_cast<double>(logits[static_cast<size_t>(order_[i])]);
    top_.push_back({order_[i], static_cast<float>(logit - log_sum_)});
  }
}

void Sampler::ApplyPenalties(std::span<float> logits, const SampleInput& input) {
  const SamplingParams& params = *input.params;
  const auto known = [&](TokenId token) {
    return token >= 0 && static_cast<size_t>(token) < logits.size();
  };
  if (params.repetition_penalty != 1.0F) {
    seen_.assign(input.tokens.begin(), input.tokens.end());
    ForEachDistinct(seen_, [&](TokenId token, size_t /*times*/) {
      if (!known(token)) return;
      float& logit = logits[static_cast<size_t>(token)];
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    });
  }
  if (params.presence_penalty == 0.0F && params.frequency_penalty == 0.0F) return;
  SLUICE_CHECK(input.prompt <= static_cast<int64_t>(input.tokens.size()));
  seen_.assign(input.tokens.begin() + input.prompt, input.tokens.end());
  ForEachDistinct(seen_, [&](TokenId token, size_t times) {
    if (!known(token)) return;
    logits[static_cast<size_t>(token)] -=
        params.presence_penalty + params.frequency_penalty * static_cast<float>(times);
  });
}

// Puts the `count` likeliest tokens first in order_, likeliest first, lower id first among equals.
void Sampler::SortTop(std::span<const float> logits, size_t count) {
  order_.resize(logits.size());
  std::iota(order_.begin(), order_.end(), 0);
  const auto likelier = [&](TokenId a, TokenId b) {
    const float la = logits[static_cast<size_t>(a)];
    const float lb = logits[static_cast<size_t>(b)];
    return la != lb ? la > lb : a < b;
  };
  const auto end = order_.begin() + static_cast<std::ptrdiff_t>(count);
  if (end != order_.end()) std::nth_element(order_.begin(), end, order_.end(), likelier);
  std::sort(order_.begin(), end, likelier);
}

TokenId Sampler::Draw(std::span<const float> logits, float maximum, const SamplingParams& params,
                      double uniform) {
  weights_.resize(logits.size());
  const float scale = std::min(1.0F / params.temperature, std::numeric_limits<float>::max());
  const double mass =
      ExpSum(logits.data(), static_cast<int64_t>(logits.size()), maximum, scale, weights_.data());
  const bool cut = (params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size()) ||
                   params.top_p < 1.0F || params.min_p > 0.0F;
  if (cut) return DrawFromTop(logits, mass, params, uniform);
  double left = uniform * mass;
  TokenId last = 0;  // rounding may leave a little: then the last token that can be drawn
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] <= 0.0F) continue;
    last = static_cast<TokenId>(i);
    left -= static_cast<double>(weights_[i]);
    if (left < 0) break;
  }
  return last;
}

// Draws among the likeliest tokens that top_k, top_p and min_p leave. `mass` is the sum of
// weights_.
TokenId Sampler::DrawFromTop(std::span<const float> logits, double mass,
                             const SamplingParams& params, double uniform) {
  const size_t vocab = logits.size();
  const bool top_k = params.top_k > 0 && static_cast<size_t>(params.top_k) < vocab;
  const auto weight = [&](size_t rank) {
    return static_cast<double>(weights_[static_cast<size_t>(order_[rank])]);
  };
  // Without top_k a sorted prefix is grown until it holds everything top_p and min_p can leave.
  size_t sorted = top_k ? static_cast<size_t>(params.top_k) : std::min<size_t>(vocab, 256);
  size_t kept = 0;
  double kept_mass = 0;
  while (true) {
    SortTop(logits, sorted);
    if (top_k) {
      mass = 0;
      for (size_t i = 0; i < sorted; ++i) mass += weight(i);
    }
    kept = 0;
    kept_mass = 0;
    const double enough = static_cast<double>(params.top_p) * mass;
    bool complete = false;
    while (kept < sorted && !complete) {
      // The likeliest weight is exp(0) = 1, so min_p is a bound on the weight itself.
      if (kept > 0 && weight(kept) < static_cast<double>(params.min_p)) {
        complete = true;
        break;
      }
      kept_mass += weight(kept++);
      complete = params.top_p < 1.0F && kept_mass >= enough;
    }
    if (complete || top_k || sorted == vocab) break;
    sorted = std::min(vocab, sorted * 8);
  }
  double left = uniform * kept_mass;
  for (size_t i = 0; i < kept; ++i) {
    left -= weight(i);
    if (left < 0) return order_[i];
  }
  return order_[kept - 1];
}

}  // namespace sluice
