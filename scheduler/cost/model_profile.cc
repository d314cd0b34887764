#include "scheduler/cost/model_profile.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"
#include "scheduler/base/status_macros.h"
#include "scheduler/cost/coefficients.h"

namespace sluice {
namespace {

struct Format {
  const char* name;
  double bytes;
};
constexpr std::array<Format, kNumberFormatCount> kFormats = {
    {{"f32", 4}, {"bf16", 2}, {"fp8", 1}, {"int8", 1}, {"int4", 0.5}, {"fp4", 0.5}}};

absl::Status Bad(const ModelProfile& model, absl::string_view field, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat("model ", model.name, ": ", field, ": ", message));
}

absl::Status CheckCount(const ModelProfile& model, absl::string_view field, int64_t value,
                        int64_t min, int64_t max) {
  if (value == 0 && min > 0) return Bad(model, field, "is missing");
  if (value >= min && value <= max) return absl::OkStatus();
  return Bad(model, field, absl::StrCat(value, " is not in [", min, ", ", max, "]"));
}

absl::Status CheckParameters(const ModelProfile& model, absl::string_view field, double value,
                             double min, double max) {
  if (value == 0 && min > 0) return Bad(model, field, "is missing");
  if (value >= min && value <= max) return absl::OkStatus();
  return Bad(model, field, absl::StrCat(value, " is not in [", min, ", ", max, "]"));
}

absl::Status CheckAttention(const ModelProfile& m) {
  constexpr int64_t kMost = 1'000'000;
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "layers", m.layers, 1, 10'000));
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "hidden", m.hidden, 1, kMost));
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "heads", m.heads, 1, 10'000));
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "kv_heads", m.kv_heads, 1, 10'000));
  if (m.heads % m.kv_heads != 0) {
    return Bad(m, "kv_heads", absl::StrCat(m.kv_heads, " does not divide heads, ", m.heads));
  }
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "head_dim", m.head_dim, 1, kMost));
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "value_head_dim", m.value_head_dim, 1, kMost));
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "latent_dim", m.latent_dim, 0, kMost));
  SLUICE_RETURN_IF_ERROR(
      CheckCount(m, "latent_value_dim", m.latent_value_dim, m.latent_dim > 0, m.latent_dim));
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "windowed_layers", m.windowed_layers, 0, m.layers));
  constexpr int64_t kLongest = 1'000'000'000;
  SLUICE_RETURN_IF_ERROR(CheckCount(m, "window", m.window, m.windowed_layers > 0,
                                    m.windowed_layers > 0 ? kLongest : 0));
  return CheckCount(m, "max_context", m.max_context, 1, kLongest);
}

// Beyond any model, and small enough that the bytes of no context overflow.
constexpr double kMostTokenBytes = 1e9;

// Numbers a token leaves in a layer.
int64_t KvNumbers(const ModelProfile& model) {
  if (model.latent_dim > 0) return model.latent_dim;
  return model.kv_heads * (model.head_dim + model.value_head_dim);
}

}  // namespace

double BytesOf(NumberFormat format) { return kFormats[static_cast<size_t>(format)].bytes; }

const char* NumberFormatName(NumberFormat format) {
  return kFormats[static_cast<size_t>(format)].name;
}

absl::StatusOr<NumberFormat> ParseNumberFormat(absl::string_view name) {
  std::string choices;
  for (size_t i = 0; i < kFormats.size(); ++i) {
    if (name == kFormats[i].name) return static_cast<NumberFormat>(i);
    absl::StrAppend(&choices, i == 0 ? "" : ", ", kFormats[i].name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", name, "\" is not a number format; want one of ", choices));
}

absl::Status ModelProfile::Validate() const {
  if (name.empty()) return absl::InvalidArgumentError("model: name: is missing");
  SLUICE_RETURN_IF_ERROR(CheckAttention(*this));
  const double token_bytes =
      KvBytesPerTokenAndLayer(*this, NumberFormat::kF32) * static_cast<double>(layers);
  if (token_bytes > kMostTokenBytes) {
    return Bad(*this, "head_dim",
               absl::StrCat("makes a token's KV ", token_bytes, " bytes in f32; want at most ",
                            kMostTokenBytes));
  }
  constexpr double kMost = 1e15;
  SLUICE_RETURN_IF_ERROR(CheckParameters(*this, "total_parameters", total_parameters, 1, kMost));
  SLUICE_RETURN_IF_ERROR(
      CheckParameters(*this, "active_parameters", active_parameters, 1, total_parameters));
  SLUICE_RETURN_IF_ERROR(
      CheckParameters(*this, "prefill_parameters", prefill_parameters, 0, active_parameters));
  return CheckParameters(*this, "streamed_parameters", streamed_parameters, 0, total_parameters);
}

Flop LinearFlopPerToken(const ModelProfile& model) { return Flop(2 * model.active_parameters); }

Flop AttentionFlopPerPair(const ModelProfile& model) {
  const int64_t dims = model.latent_dim > 0 ? model.latent_dim + model.latent_value_dim
                                            : model.head_dim + model.value_head_dim;
  return Flop(2.0 * static_cast<double>(model.heads * dims));
}

Flop PrefillFlopPerToken(const ModelProfile& model, Tokens first, Tokens count) {
  SLUICE_CHECK(count > Tokens(0));
  const auto windowed = static_cast<double>(model.windowed_layers);
  const double full = static_cast<double>(model.layers) - windowed;
  double pairs = full * AttentionPairs(first, count);
  if (windowed > 0) pairs += windowed * WindowedAttentionPairs(first, count, Tokens(model.window));
  return Flop(2 * model.PrefillParameters()) +
         AttentionFlopPerPair(model) * (pairs / AsDouble(count));
}

double KvBytesPerTokenAndLayer(const ModelProfile& model, NumberFormat kv) {
  return static_cast<double>(KvNumbers(model)) * BytesOf(kv);
}

double KvBytesPerToken(const ModelProfile& model, NumberFormat kv) {
  return KvBytesPerTokenAndLayer(model, kv) *
         static_cast<double>(model.layers - model.windowed_layers);
}

Bytes KvBytes(const ModelProfile& model, NumberFormat kv, Tokens context) {
  const double windowed = static_cast<double>(model.windowed_layers) *
                          AsDouble(std::min(context, Tokens(model.window)));
  const double full = static_cast<double>(model.layers - model.windowed_layers) * AsDouble(context);
  return Bytes(std::llround((full + windowed) * KvBytesPerTokenAndLayer(model, kv)));
}

Bytes WeightBytes(const ModelProfile& model, NumberFormat weights) {
  return Bytes(std::llround(model.total_parameters * BytesOf(weights)));
}

double KappaModel(const ModelProfile& model, NumberFormat kv) {
  const double bytes = KvBytesPerToken(model, kv);
  if (bytes == 0) return std::numeric_limits<double>::infinity();
  return LinearFlopPerToken(model).value() / bytes;
}

}  // namespace sluice
