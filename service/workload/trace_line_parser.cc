#include "service/workload/trace_line_parser.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 30U;
constexpr int64_t kMaxMilliseconds = int64_t{1} << 50U;  // 35,000 years; exact as a double
constexpr int64_t kMaxTenant = (int64_t{1} << 16U) - 1;
constexpr int64_t kMaxPriority = 100;  // as in the API

// Reads keys of one line and words what is wrong with them.
class LineReader {
 public:
  LineReader(const nlohmann::json& object, const std::string& where)
      : object_(object), where_(where) {}

  bool Has(const char* key) const {
    const auto it = object_.find(key);
    return it != object_.end() && !it->is_null();
  }

  absl::Status Error(const char* key, const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(where_, ": ", key, ": ", what));
  }

  absl::StatusOr<int64_t> Required(const char* key, int64_t min, int64_t max) const {
    const auto it = object_.find(key);
    if (it == object_.end()) return Error(key, "is missing; every line needs it");
    const bool fits = it->is_number_integer() &&
                      (!it->is_number_unsigned() ||
                       it->get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
    if (!fits || it->get<int64_t>() < min || it->get<int64_t>() > max) {
      return Error(key, absl::StrCat(it->dump().substr(0, kShown), " is not a whole number in [",
                                     min, ", ", max, "]"));
    }
    return it->get<int64_t>();
  }

  absl::StatusOr<int64_t> Optional(const char* key, int64_t otherwise, int64_t min,
                                   int64_t max) const {
    if (!Has(key)) return otherwise;
    return Required(key, min, max);
  }

  absl::StatusOr<std::string> Text(const char* key) const {
    const nlohmann::json& value = object_.at(key);
    if (value.is_string()) return value.get<std::string>();
    return Error(key, absl::StrCat(value.dump().substr(0, kShown), " is not a string"));
  }

  absl::StatusOr<std::vector<uint64_t>> Ids(const char* key) const {
    const nlohmann::json& value = object_.at(key);
    if (!value.is_array() || value.empty()) {
      return Error(key, absl::StrCat(value.dump().substr(0, kShown),
                                     " is not a list of at least one block id"));
    }
    std::vector<uint64_t> ids;
    ids.reserve(value.size());
    for (const nlohmann::json& id : value) {
      if (!id.is_number_unsigned()) {
        return Error(key, absl::StrCat("entry ", ids.size(), ": ", id.dump().substr(0, kShown),
                                       " is not a whole number in [0, 2^64)"));
      }
      ids.push_back(id.get<uint64_t>());
    }
    return ids;
  }

 private:
  static constexpr size_t kShown = 60;  // of a bad value, in messages

  const nlohmann::json& object_;
  const std::string& where_;
};

absl::Status ReadSessionForm(const LineReader& reader, int64_t index, ParsedTraceLine* line) {
  SLUICE_ASSIGN_OR_RETURN(line->session, reader.Text("session"));
  SLUICE_ASSIGN_OR_RETURN(line->turn, reader.Optional("turn", 0, 0, kMaxTokens));
  if (line->block_hashes.has_value()) return absl::OkStatus();  // they say what is shared
  SLUICE_ASSIGN_OR_RETURN(line->shared_prefix_tokens,
                          reader.Optional("shared_prefix_tokens", 0, 0, line->input_tokens));
  if (!reader.Has("ref")) return absl::OkStatus();
  if (index == 0) {
    return reader.Error("ref", "names a line, but the first line has none before it; use null");
  }
  SLUICE_ASSIGN_OR_RETURN(line->ref, reader.Required("ref", 0, index - 1));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ParsedTraceLine> ParseTraceLine(std::string_view text, const std::string& where,
                                               int64_t index) {
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", std::string(text.substr(0, 60)),
                                                   ": is not a JSON object; want one per line"));
  }
  const LineReader reader(object, where);
  ParsedTraceLine line;
  SLUICE_ASSIGN_OR_RETURN(line.arrival_ms, reader.Required("arrival_ms", 0, kMaxMilliseconds));
  SLUICE_ASSIGN_OR_RETURN(line.input_tokens, reader.Required("input_tokens", 1, kMaxTokens));
  SLUICE_ASSIGN_OR_RETURN(line.output_tokens, reader.Required("output_tokens", 0, kMaxTokens));
  if (line.output_tokens == 0) line.output_tokens = 1;
  SLUICE_ASSIGN_OR_RETURN(line.tenant, reader.Optional("tenant", 0, 0, kMaxTenant));
  SLUICE_ASSIGN_OR_RETURN(line.priority,
                          reader.Optional("priority", 0, -kMaxPriority, kMaxPriority));
  if (reader.Has("block_hashes")) {
    SLUICE_ASSIGN_OR_RETURN(line.block_hashes, reader.Ids("block_hashes"));
  }
  if (reader.Has("session")) SLUICE_RETURN_IF_ERROR(ReadSessionForm(reader, index, &line));
  if (line.block_hashes.has_value() || line.session.has_value()) {
    SLUICE_ASSIGN_OR_RETURN(line.block_tokens, reader.Required("block_tokens", 1, kMaxTokens));
  }
  return line;
}

}  // namespace sluice
