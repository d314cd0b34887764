#include "service/access/token_table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kMaxTenantBytes = 64;  // as in inference.proto
constexpr char kTenantCharacters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

absl::Status Refuse(size_t line, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", what));
}

absl::Status CheckWords(const std::vector<absl::string_view>& words, size_t line) {
  if (words.size() < 2 || words.size() > 3) {
    return Refuse(line, absl::StrCat(words.size(), " words; want TOKEN TENANT [admin]"));
  }
  const auto printable = [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); };
  if (words[0].size() < TokenTable::kLeastTokenBytes ||
      !std::all_of(words[0].begin(), words[0].end(), printable)) {
    return Refuse(line, absl::StrCat("the token has ", words[0].size(), " bytes; want at least ",
                                     TokenTable::kLeastTokenBytes,
                                     ", printable ASCII (openssl rand -hex 32)"));
  }
  if (words[1].size() > kMaxTenantBytes ||
      words[1].find_first_not_of(kTenantCharacters) != absl::string_view::npos) {
    return Refuse(line, "the tenant is not 1 to 64 characters of [A-Za-z0-9._-]");
  }
  if (words.size() == 3 && words[2] != "admin") {
    return Refuse(line, "the third word is not \"admin\"");
  }
  return absl::OkStatus();
}

}  // namespace

bool EqualInConstantTime(absl::string_view secret, absl::string_view guess) {
  // volatile: the compiler must not see that the first difference decides.
  volatile unsigned char difference = secret.size() == guess.size() ? 0 : 1;
  for (size_t i = 0; i < guess.size(); ++i) {
    const char c = secret.empty() ? '\0' : secret[i % secret.size()];
    difference = static_cast<unsigned char>(difference | static_cast<unsigned char>(c ^ guess[i]));
  }
  return difference == 0;
}

absl::StatusOr<TokenTable> TokenTable::Parse(absl::string_view text) {
  TokenTable table;
  size_t line = 0;
  for (absl::string_view row : absl::StrSplit(text, '\n')) {
    ++line;
    row = absl::StripAsciiWhitespace(row);
    if (row.empty() || row.front() == '#') continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(row, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    SLUICE_RETURN_IF_ERROR(CheckWords(words, line));
    if (table.Find(words[0]).has_value()) return Refuse(line, "the token is there twice");
    table.entries_.push_back(
        {std::string(words[0]),
         {.authenticated = true, .tenant = std::string(words[1]), .admin = words.size() == 3}});
  }
  if (table.entries_.empty()) {
    return absl::InvalidArgumentError("no token in it; nobody could use the server");
  }
  return table;
}

std::optional<Caller> TokenTable::Find(absl::string_view token) const {
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    if (EqualInConstantTime(entry.token, token)) found = &entry;
  }
  if (found == nullptr) return std::nullopt;
  return found->caller;
}

}  // namespace sluice
