#include "scheduler/cost/online_calibration.h"

#include <algorithm>
#include <cmath>

#include "scheduler/base/check.h"

namespace sluice {
namespace {

// `cost` with attention for nothing.
CostCoefficients WithoutAttention(CostCoefficients cost) {
  cost.per_pair = Seconds(0);
  cost.per_context_token = Seconds(0);
  cost.per_in_place_token = Seconds(0);
  cost.per_in_place_read = Seconds(0);
  cost.per_in_place_reread = Seconds(0);
  return cost;
}

// The directions of the host link slow each other down; those of the disk are not modelled so.
bool SharesLink(const CopyObservation& copy) {
  return copy.other_direction_busy && (copy.direction == LinkDirection::kHostToDevice ||
                                       copy.direction == LinkDirection::kDeviceToHost);
}

template <class Vector>
double Sum(const Vector& terms) {
  double sum = 0;
  for (const double term : terms) sum += term;
  return sum;
}

template <class Vector>
void DivideBy(Vector& terms, double divisor) {
  for (double& term : terms) term /= divisor;
}

bool Usable(double predicted, Seconds measured) {
  return std::isfinite(measured.value()) && measured > Seconds(0) && std::isfinite(predicted) &&
         predicted > 0;
}

}  // namespace

OnlineCalibration::OnlineCalibration(const CostCoefficients& start)
    : start_(start),
      unit_pair_(WithoutAttention(start)),
      unit_context_(WithoutAttention(start)),
      current_(start) {
  SLUICE_CHECK(start.Validate().ok());
  unit_pair_.per_pair = Seconds(1);
  unit_context_.per_context_token = Seconds(1);
  copy_filter_.LimitAbove(kDuplex, 1 / start.duplex_share);
}

// AttentionTime() is the largest of three products of a coefficient and a count of the part, or the
// larger of two and a third on top; unit coefficients yield the counts.
OnlineCalibration::StepFilter::Vector OnlineCalibration::StepTerms(
    std::span<const StepPart> parts) const {
  StepFilter::Vector terms{};
  double tokens = 0;
  for (const StepPart& part : parts) {
    tokens += static_cast<double>(part.count.value());
    const Seconds pairs = AttentionTime(unit_pair_, part) * current_.per_pair.value();
    const Seconds context = AttentionTime(unit_context_, part) * current_.per_context_token.value();
    const Seconds in_place = InPlaceTime(current_, part.in_place, part.count, 0);
    if (current_.in_place_on_device) terms[kInPlace] += in_place.value();
    if (!current_.in_place_on_device && in_place > std::max(pairs, context)) {
      terms[kInPlace] += in_place.value();
    } else if (pairs >= context) {
      terms[kPerPair] += pairs.value();
    } else {
      terms[kPerContext] += context.value();
    }
  }
  if (!(tokens > 0)) return {};
  const Seconds compute = current_.per_token * tokens;
  if (compute >= current_.weight_read) {
    terms[kPerToken] = compute.value();
  } else {
    terms[kWeightRead] = current_.weight_read.value();
  }
  if (Sum(terms) < current_.floor.value()) {
    terms = {};
    terms[kFloor] = current_.floor.value();
  }
  terms[kLaunch] = current_.launch.value();
  return terms;
}

Seconds OnlineCalibration::ObserveStep(std::span<const StepPart> parts, Seconds measured) {
  StepFilter::Vector terms = StepTerms(parts);
  const double predicted = Sum(terms);
  if (!Usable(predicted, measured)) {
    ++ignored_;
    return Seconds(0);
  }
  ++steps_;
  step_errors_.Add(Seconds(predicted), measured);
  DivideBy(terms, predicted);
  outliers_ += step_filter_.Observe(terms, std::log(measured.value() / predicted)) ? 0 : 1;
  UpdateStepCoefficients();
  return Seconds(predicted);
}

OnlineCalibration::CopyFilter::Vector OnlineCalibration::CopyTerms(
    const CopyObservation& copy) const {
  CopyFilter::Vector terms{};
  if (copy.bytes < Bytes(1) || copy.runs < 1) return terms;
  const auto direction = static_cast<size_t>(copy.direction);
  const LinkCoefficients& link = current_.links[direction];
  const double share = SharesLink(copy) ? current_.duplex_share : 1;
  const double runs = link.per_run.value() * static_cast<double>(copy.runs);
  const double bytes = link.per_byte.value() * static_cast<double>(copy.bytes.value()) / share;
  const size_t first = direction * kCopyTerms;
  terms[first + kLatency] = link.latency.value();
  if (bytes >= runs) {
    terms[first + kPerByte] = bytes;
  } else {
    terms[first + kPerRun] = runs;
  }
  return terms;
}

Seconds OnlineCalibration::ObserveCopy(const CopyObservation& copy) {
  CopyFilter::Vector terms = CopyTerms(copy);
  const double predicted = Sum(terms);
  if (!Usable(predicted, copy.measured)) {
    ++ignored_;
    return Seconds(0);
  }
  ++copies_;
  copy_errors_.Add(Seconds(predicted), copy.measured);
  DivideBy(terms, predicted);
  if (SharesLink(copy)) {  // a larger share shortens what depends on bytes
    terms[kDuplex] = -terms[static_cast<size_t>(copy.direction) * kCopyTerms + kPerByte];
  }
  outliers_ += copy_filter_.Observe(terms, std::log(copy.measured.value() / predicted)) ? 0 : 1;
  UpdateCopyCoefficients();
  return Seconds(predicted);
}

void OnlineCalibration::UpdateStepCoefficients() {
  current_.launch = start_.launch * step_filter_.factor(kLaunch);
  current_.floor = start_.floor * step_filter_.factor(kFloor);
  current_.weight_read = start_.weight_read * step_filter_.factor(kWeightRead);
  current_.per_token = start_.per_token * step_filter_.factor(kPerToken);
  current_.per_pair = start_.per_pair * step_filter_.factor(kPerPair);
  current_.per_context_token = start_.per_context_token * step_filter_.factor(kPerContext);
  current_.per_in_place_token = start_.per_in_place_token * step_filter_.factor(kInPlace);
  current_.per_in_place_read = start_.per_in_place_read * step_filter_.factor(kInPlace);
  current_.per_in_place_reread = start_.per_in_place_reread * step_filter_.factor(kInPlace);
}

void OnlineCalibration::UpdateCopyCoefficients() {
  for (size_t d = 0; d < current_.links.size(); ++d) {
    const size_t first = d * kCopyTerms;
    LinkCoefficients& link = current_.links[d];
    link.latency = start_.links[d].latency * copy_filter_.factor(first + kLatency);
    link.per_run = start_.links[d].per_run * copy_filter_.factor(first + kPerRun);
    link.per_byte = start_.links[d].per_byte * copy_filter_.factor(first + kPerByte);
  }
  current_.duplex_share = std::min(1.0, start_.duplex_share * copy_filter_.factor(kDuplex));
}

OnlineCalibrationStats OnlineCalibration::stats() const {
  return {steps_, copies_, outliers_, ignored_, step_errors_.Median(), copy_errors_.Median()};
}

}  // namespace sluice
