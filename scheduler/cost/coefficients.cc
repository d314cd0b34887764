#include "scheduler/cost/coefficients.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

absl::Status CheckNumber(absl::string_view name, double value) {
  if (std::isfinite(value) && value >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("cost: ", name, ": ", value, " is not a number of at least 0"));
}

}  // namespace

absl::Status CostCoefficients::Validate() const {
  const std::pair<absl::string_view, double> numbers[] = {
      {"launch", launch.value()},
      {"floor", floor.value()},
      {"weight_read", weight_read.value()},
      {"per_token", per_token.value()},
      {"per_pair", per_pair.value()},
      {"per_context_token", per_context_token.value()},
      {"window_share", window_share},
      {"per_in_place_token", per_in_place_token.value()},
      {"per_in_place_read", per_in_place_read.value()},
      {"per_in_place_reread", per_in_place_reread.value()},
      {"idle_power", idle_power.value()},
      {"compute_power", compute_power.value()},
      {"transfer_power", transfer_power.value()},
  };
  for (const auto& [name, value] : numbers) SLUICE_RETURN_IF_ERROR(CheckNumber(name, value));
  for (const LinkCoefficients& link : links) {
    SLUICE_RETURN_IF_ERROR(CheckNumber("links.per_byte", link.per_byte.value()));
    SLUICE_RETURN_IF_ERROR(CheckNumber("links.per_run", link.per_run.value()));
    SLUICE_RETURN_IF_ERROR(CheckNumber("links.latency", link.latency.value()));
  }
  if (!(per_token > Seconds(0))) {
    return absl::InvalidArgumentError("cost: per_token: is 0; a token cannot be free");
  }
  if (in_place_tile < Tokens(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cost: in_place_tile: ", in_place_tile.value(), ", want at least 1 token"));
  }
  if (layers < 1) {
    return absl::InvalidArgumentError(absl::StrCat("cost: layers: ", layers, ", want at least 1"));
  }
  if (!(duplex_share > 0 && duplex_share <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cost: duplex_share: ", duplex_share, " is not in (0, 1]"));
  }
  if (window_share > 1 || (window_share > 0 && window < Tokens(1))) {
    return absl::InvalidArgumentError(absl::StrCat("cost: window_share: ", window_share,
                                                   " with a window of ", window.value(),
                                                   " tokens; want at most 1 and at least 1 token"));
  }
  return absl::OkStatus();
}

double AttentionPairs(Tokens first, Tokens count) {
  const double n = AsDouble(count);
  return n * AsDouble(first) + n * (n + 1) / 2;
}

double WindowedAttentionPairs(Tokens first, Tokens count, Tokens window) {
  // The first `ramp` new tokens see fewer tokens than the window holds.
  const Tokens ramp = std::clamp(window - first, Tokens(0), count);
  const double growing = ramp > Tokens(0) ? AttentionPairs(first, ramp) : 0;
  return growing + AsDouble(count - ramp) * AsDouble(window);
}

Seconds InPlaceTime(const CostCoefficients& cost, Tokens in_place, Tokens fresh, double decodes) {
  if (cost.in_place_on_device) {
    const int64_t tile = cost.in_place_tile.value();
    const auto tiles = static_cast<double>((fresh.value() + tile - 1) / tile);
    const double first = std::min(tiles, 1.0);
    const Seconds each =
        cost.per_in_place_read * (first + decodes) + cost.per_in_place_reread * (tiles - first);
    return each * AsDouble(in_place);
  }
  return cost.per_in_place_token * (AsDouble(in_place) * (AsDouble(fresh) + decodes));
}

Seconds AttentionTime(const CostCoefficients& cost, const StepPart& part) {
  // The device's kernels attend to all of the context, wherever it is; the host's cores to what
  // they have.
  const Tokens local = cost.in_place_on_device ? part.first : part.first - part.in_place;
  const double full = 1 - cost.window_share;
  double pairs = full * AttentionPairs(local, part.count);
  double context = full * AsDouble(local + part.count);
  if (cost.window_share > 0) {
    pairs += cost.window_share * WindowedAttentionPairs(local, part.count, cost.window);
    context += cost.window_share * AsDouble(std::min(local + part.count, cost.window + part.count));
  }
  const Seconds device = std::max(cost.per_pair * pairs, cost.per_context_token * context);
  const Seconds host = InPlaceTime(cost, part.in_place, part.count, 0);
  // The host attends to its part beside the device, layer by layer.
  return cost.in_place_on_device ? device + host : std::max(device, host);
}

Seconds StepEstimate::time() const {
  if (tokens_ == Tokens(0)) return Seconds(0);
  const Seconds linear = std::max(cost_->weight_read, cost_->per_token * AsDouble(tokens_));
  return cost_->launch + std::max(cost_->floor, linear + attention_);
}

Seconds PrefillTime(const CostCoefficients& cost, Tokens first, Tokens count) {
  return cost.per_token * AsDouble(count) + AttentionTime(cost, {first, count, Tokens(0)});
}

Seconds PrefillTimeAlone(const CostCoefficients& cost, Tokens first, Tokens count, Tokens chunk) {
  Seconds sum;
  for (Tokens at; at < count; at += chunk) {
    StepEstimate step(cost);
    step.Add({first + at, std::min(chunk, count - at), Tokens(0)});
    sum += step.time();
  }
  return sum;
}

Seconds CopyTime(const LinkCoefficients& link, Bytes bytes, int64_t runs) {
  return link.latency + std::max(link.per_run * static_cast<double>(runs),
                                 link.per_byte * static_cast<double>(bytes.value()));
}

}  // namespace sluice
