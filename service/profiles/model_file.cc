// ModelProfile from its file.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "backend/model/json_fields.h"
#include "scheduler/base/status_macros.h"
#include "service/profiles/profile_files.h"
#include "service/profiles/strict_object.h"

namespace sluice {
namespace {

using nlohmann::json;
using Presence = StrictObject::Presence;

constexpr int64_t kMost = 1'000'000'000;

// The object under `key`, read by `read`; with its source, which is returned.
template <typename Read>
std::string Section(StrictObject& top, const char* key, Read read,
                    Presence presence = Presence::kRequired) {
  const json* object = top.Object(key, presence);
  if (object == nullptr) return "";
  StrictObject in = top.Nested(*object, key);
  read(in);
  const std::string source = in.String("source");
  in.RejectUnknown();
  return absl::StrCat(key, ": ", source, ". ");
}

void ReadShape(StrictObject& in, ModelProfile& m) {
  m.layers = in.Int("layers", 1, 10'000);
  m.hidden = in.Int("hidden", 1, kMost);
  m.heads = in.Int("heads", 1, 10'000);
  m.kv_heads = in.Int("kv_heads", 1, 10'000);
  m.head_dim = in.Int("head_dim", 1, kMost);
  m.value_head_dim = in.Int("value_head_dim", 1, kMost);
  m.max_context = static_cast<int64_t>(in.Quantity("max_context", UnitKind::kTokens));
}

void ReadLatent(StrictObject& in, ModelProfile& m) {
  m.latent_dim = in.Int("dim", 1, kMost);
  m.latent_value_dim = in.Int("value_dim", 1, kMost);
}

void ReadWindow(StrictObject& in, ModelProfile& m) {
  m.windowed_layers = in.Int("layers", 1, 10'000);
  m.window = static_cast<int64_t>(in.Quantity("size", UnitKind::kTokens));
}

void ReadParameters(StrictObject& in, ModelProfile& m) {
  m.total_parameters = in.Quantity("total", UnitKind::kParameters);
  m.active_parameters = in.Quantity("active", UnitKind::kParameters);
  m.prefill_parameters = in.Quantity("prefill", UnitKind::kParameters);
  m.streamed_parameters = in.Quantity("streamed", UnitKind::kParameters);
  // 0 means "as many as" in a profile; a file states them.
  if (m.prefill_parameters == 0) in.Fail("prefill", "is 0; want at least 1 parameters");
  if (m.streamed_parameters == 0) in.Fail("streamed", "is 0; want at least 1 parameters");
}

void ReadWeights(StrictObject& top, ModelProfile& m) {
  const std::string name = top.String("weights");
  const absl::StatusOr<NumberFormat> format = ParseNumberFormat(name);
  if (format.ok()) {
    m.weights = *format;
  } else {
    top.Fail("weights", std::string(format.status().message()));
  }
}

}  // namespace

absl::StatusOr<ModelProfile> ModelFromJson(const std::string& text, const std::string& where) {
  SLUICE_ASSIGN_OR_RETURN(const json parsed, ParseJsonObject(text, where, /*unique_keys=*/true));
  absl::Status status;
  StrictObject top(parsed, where, status);
  ModelProfile m;
  m.name = top.String("name");
  m.source = Section(top, "shape", [&](StrictObject& in) { ReadShape(in, m); });
  m.source += Section(
      top, "latent_attention", [&](StrictObject& in) { ReadLatent(in, m); }, Presence::kOrNone);
  m.source += Section(
      top, "sliding_window", [&](StrictObject& in) { ReadWindow(in, m); }, Presence::kOrNone);
  m.source += Section(top, "parameters", [&](StrictObject& in) { ReadParameters(in, m); });
  ReadWeights(top, m);
  top.RejectUnknown();
  SLUICE_RETURN_IF_ERROR(status);
  if (const absl::Status valid = m.Validate(); !valid.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", valid.message()));
  }
  return m;
}

}  // namespace sluice
