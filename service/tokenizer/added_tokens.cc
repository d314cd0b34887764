#include "service/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

bool EndsWithWord(std::string_view text) {
  return !text.empty() &&
         IsWordCharacter(NextCharacter(text.substr(LastCharacterStart(text))).code_point);
}

bool StartsWithWord(std::string_view text) {
  return !text.empty() && IsWordCharacter(NextCharacter(text).code_point);
}

// Bytes of the whitespace at the end of `text`.
size_t TrailingSpace(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t last = LastCharacterStart(text.substr(0, end));
    if (!IsWhitespace(NextCharacter(text.substr(last)).code_point)) break;
    end = last;
  }
  return text.size() - end;
}

size_t LeadingSpace(std::string_view text) {
  size_t size = 0;
  while (size < text.size()) {
    const Utf8Unit c = NextCharacter(text.substr(size));
    if (!IsWhitespace(c.code_point)) break;
    size += c.size;
  }
  return size;
}

}  // namespace

void TokenFinder::Add(std::string_view text, const AddedToken* token) {
  if (text.empty()) return;
  can_begin_[static_cast<uint8_t>(text[0])] = true;
  uint32_t node = 0;
  for (const char c : text) {
    const uint64_t key = uint64_t{node} * 256 + static_cast<uint8_t>(c);
    const auto [it, inserted] = edges_.try_emplace(key, static_cast<uint32_t>(token_at_.size()));
    if (inserted) token_at_.push_back(nullptr);
    node = it->second;
  }
  token_at_[node] = token;
}

TokenFinder::Match TokenFinder::LongestAt(std::string_view text) const {
  Match best;
  uint32_t node = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto it = edges_.find(uint64_t{node} * 256 + static_cast<uint8_t>(text[i]));
    if (it == edges_.end()) break;
    node = it->second;
    if (token_at_[node] != nullptr) best = {i + 1, token_at_[node]};
  }
  return best;
}

size_t TokenFinder::NextCandidate(std::string_view text, size_t from) const {
  while (from < text.size() && !can_begin_[static_cast<uint8_t>(text[from])]) ++from;
  return from;
}

std::vector<Segment> TokenFinder::Cut(std::string_view text, bool parse_special) const {
  std::vector<Segment> segments;
  size_t done = 0;
  for (size_t at = NextCandidate(text, 0); at < text.size();) {
    const Match match = LongestAt(text.substr(at));
    if (match.token == nullptr) {
      at = NextCandidate(text, at + 1);
      continue;
    }
    size_t begin = at;
    size_t end = at + match.size;
    at = end;
    const AddedToken& token = *match.token;
    const bool inside_word = token.single_word && (EndsWithWord(text.substr(0, begin)) ||
                                                   StartsWithWord(text.substr(end)));
    if (!inside_word && (parse_special || !token.special)) {
      if (token.lstrip) begin -= TrailingSpace(text.substr(done, begin - done));
      if (token.rstrip) end += LeadingSpace(text.substr(end));
      if (begin > done) segments.push_back({done, begin, nullptr});
      segments.push_back({begin, end, &token});
      done = at = end;
    }
    at = NextCandidate(text, at);
  }
  if (done < text.size()) segments.push_back({done, text.size(), nullptr});
  return segments;
}

absl::StatusOr<std::unique_ptr<AddedTokens>> AddedTokens::Parse(const std::optional<JsonNode>& node,
                                                                const Bpe& bpe,
                                                                const Normalizer& normalizer) {
  std::unique_ptr<AddedTokens> out(new AddedTokens());
  if (!node.has_value()) return out;
  SLUICE_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, node->Elements());
  for (const JsonNode& element : elements) {
    SLUICE_ASSIGN_OR_RETURN(AddedToken token, out->ReadToken(element, bpe));
    if (token.content.empty()) continue;
    const AddedToken* owned =
        out->tokens_.emplace_back(std::make_unique<AddedToken>(std::move(token))).get();
    out->by_id_[owned->id] = owned;
    out->by_content_[owned->content] = owned;
    out->end_id_ = std::max(out->end_id_, owned->id + 1);
    if (owned->normalized) {
      out->normalized_finder_.Add(normalizer.Normalize(owned->content), owned);
    } else {
      out->raw_finder_.Add(owned->content, owned);
    }
  }
  return out;
}

absl::StatusOr<AddedToken> AddedTokens::ReadToken(const JsonNode& node, const Bpe& bpe) const {
  AddedToken token;
  SLUICE_ASSIGN_OR_RETURN(token.content, node.String("content"));
  SLUICE_ASSIGN_OR_RETURN(const int64_t id, node.Int("id"));
  if (id < 0 || id >= Bpe::kMaxVocab) {
    return node.Invalid(absl::StrCat("id ", id, " is not in 0 to ", Bpe::kMaxVocab - 1));
  }
  token.id = static_cast<TokenId>(id);
  SLUICE_ASSIGN_OR_RETURN(token.special, node.BoolOr("special", false));
  SLUICE_ASSIGN_OR_RETURN(token.normalized, node.BoolOr("normalized", !token.special));
  SLUICE_ASSIGN_OR_RETURN(token.single_word, node.BoolOr("single_word", false));
  SLUICE_ASSIGN_OR_RETURN(token.lstrip, node.BoolOr("lstrip", false));
  SLUICE_ASSIGN_OR_RETURN(token.rstrip, node.BoolOr("rstrip", false));

  const std::optional<TokenId> in_vocab = bpe.Find(token.content);
  if (in_vocab.has_value() && *in_vocab != token.id) {
    return node.Invalid(absl::StrCat("'", token.content, "' has id ", token.id,
                                     ", but model.vocab gives it ", *in_vocab));
  }
  const std::optional<std::string_view> vocab_text = bpe.Text(token.id);
  if (vocab_text.has_value() && *vocab_text != token.content) {
    return node.Invalid(absl::StrCat("id ", token.id, " of '", token.content, "' belongs to '",
                                     std::string(*vocab_text), "' in model.vocab"));
  }
  if (Find(token.id) != nullptr || Find(token.content) != nullptr) {
    return node.Invalid(absl::StrCat("'", token.content, "' (id ", token.id,
                                     ") has an id or a content that an earlier entry has"));
  }
  return token;
}

const AddedToken* AddedTokens::Find(TokenId id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : it->second;
}

const AddedToken* AddedTokens::Find(std::string_view content) const {
  const auto it = by_content_.find(absl::string_view(content.data(), content.size()));
  return it == by_content_.end() ? nullptr : it->second;
}

}  // namespace sluice
