#include "scheduler/link/link_options.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

absl::Status OutOfRange(absl::string_view name, double value, absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat("link option ", name, " is ", value, "; want ", want));
}

bool Natural(double value) { return value >= 0 && !std::isinf(value); }
bool IsShare(double value) { return value > 0 && value <= 1; }

absl::Status ValidateLine(size_t index, const LineOptions& line) {
  const auto name = [&](absl::string_view field) {
    return absl::StrCat("lines[", index, "].", field);
  };
  if (!Natural(line.rate.value())) {
    return OutOfRange(name("rate"), line.rate.value(), "0 (unpaced) or more bytes per second");
  }
  if (!Natural(line.per_run.value())) {
    return OutOfRange(name("per_run"), line.per_run.value(), "0 or more seconds");
  }
  if (!Natural(line.latency.value())) {
    return OutOfRange(name("latency"), line.latency.value(), "0 or more seconds");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LinkSchedulerOptions::Validate() const {
  if (layers < 1) return OutOfRange("layers", layers, "at least 1");
  if (layer_bytes < Bytes(1)) {
    return OutOfRange("layer_bytes", static_cast<double>(layer_bytes.value()), "at least 1");
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    if (absl::Status status = ValidateLine(i, lines[i]); !status.ok()) return status;
  }
  if (!IsShare(duplex_share)) {
    return OutOfRange("duplex_share", duplex_share, "more than 0 and at most 1");
  }
  if (!IsShare(write_back_share)) {
    return OutOfRange("write_back_share", write_back_share, "more than 0 and at most 1");
  }
  if (slice_time <= absl::ZeroDuration()) {
    return OutOfRange("slice_time", absl::ToDoubleSeconds(slice_time), "more than 0 seconds");
  }
  if (slice_bytes < Bytes(1)) {
    return OutOfRange("slice_bytes", static_cast<double>(slice_bytes.value()), "at least 1");
  }
  if (promote_after < absl::ZeroDuration()) {
    return OutOfRange("promote_after", absl::ToDoubleSeconds(promote_after), "0 or more seconds");
  }
  return absl::OkStatus();
}

}  // namespace sluice
