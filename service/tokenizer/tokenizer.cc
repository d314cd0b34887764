#include "service/tokenizer/tokenizer.h"

#include <algorithm>
#include <deque>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/tokenizer/added_tokens.h"
#include "service/tokenizer/bpe.h"
#include "service/tokenizer/decoder.h"
#include "service/tokenizer/json_node.h"
#include "service/tokenizer/normalizer.h"
#include "service/tokenizer/post_processor.h"
#include "service/tokenizer/pre_tokenizer.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

// Nesting of a tokenizer.json. Real files have 8 or so; readers recurse over it.
constexpr int kMaxDepth = 64;

int JsonDepth(std::string_view json) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

class TokenizerImpl : public Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<TokenizerImpl>> Parse(const JsonNode& root) {
    std::unique_ptr<TokenizerImpl> out(new TokenizerImpl());
    SLUICE_ASSIGN_OR_RETURN(out->normalizer_, ParseNormalizer(Member(root, "normalizer")));
    SLUICE_ASSIGN_OR_RETURN(out->pre_tokenizer_, ParsePreTokenizer(Member(root, "pre_tokenizer")));
    SLUICE_ASSIGN_OR_RETURN(const JsonNode model, root.Get("model"));
    SLUICE_ASSIGN_OR_RETURN(out->bpe_, Bpe::Parse(model, out->pre_tokenizer_->byte_level()));
    SLUICE_ASSIGN_OR_RETURN(
        out->added_, AddedTokens::Parse(root.Find("added_tokens"), *out->bpe_, *out->normalizer_));
    SLUICE_ASSIGN_OR_RETURN(out->post_,
                            ParsePostProcessor(Member(root, "post_processor"), out->vocab_size()));
    SLUICE_ASSIGN_OR_RETURN(out->decoder_, ParseDecoder(Member(root, "decoder")));
    return out;
  }

  std::vector<TokenId> Encode(std::string_view text, bool add_special,
                              bool parse_special) const override {
    std::vector<TokenId> ids;
    if (add_special) ids = post_.before;
    if (IsValidUtf8(text)) {
      EncodeText(text, parse_special, &ids);
    } else {
      EncodeText(ReplaceInvalidUtf8(text), parse_special, &ids);
    }
    if (add_special) ids.insert(ids.end(), post_.after.begin(), post_.after.end());
    return ids;
  }

  std::string Decode(const std::vector<TokenId>& ids, bool skip_special) const override {
    std::vector<std::string> tokens;
    tokens.reserve(ids.size());
    for (const TokenId id : ids) {
      const std::optional<std::string_view> text = ShownText(id, skip_special);
      if (text.has_value()) tokens.emplace_back(*text);
    }
    return DecodeTokens(decoder_, std::move(tokens));
  }

  std::optional<std::string> TokenText(TokenId id) const override {
    const std::optional<std::string_view> text = ShownText(id, /*skip_special=*/false);
    if (!text.has_value()) return std::nullopt;
    return std::string(*text);
  }

  std::optional<TokenId> TokenToId(std::string_view text) const override {
    if (const AddedToken* token = added_->Find(text)) return token->id;
    return bpe_->Find(text);
  }

  bool IsSpecial(TokenId id) const override {
    const AddedToken* token = added_->Find(id);
    return token != nullptr && token->special;
  }

  int32_t vocab_size() const override { return std::max(bpe_->size(), added_->end_id()); }

  std::unique_ptr<Incremental> NewIncremental(bool skip_special) const override {
    return std::make_unique<IncrementalImpl>(*this, skip_special);
  }

 private:
  class IncrementalImpl : public Incremental {
   public:
    IncrementalImpl(const TokenizerImpl& tokenizer, bool skip_special)
        : tokenizer_(tokenizer), skip_special_(skip_special), stream_(tokenizer.decoder_) {}

    std::string Push(TokenId id) override {
      const std::optional<std::string_view> text = tokenizer_.ShownText(id, skip_special_);
      return text.has_value() ? stream_.Push(*text) : std::string();
    }
    std::string Finish() override { return stream_.Finish(); }

   private:
    const TokenizerImpl& tokenizer_;
    const bool skip_special_;
    StreamDecoder stream_;
  };

  TokenizerImpl() = default;

  // A component that may be null or missing.
  static JsonNode Member(const JsonNode& root, std::string_view key) {
    static const nlohmann::json kNull;
    return root.Find(key).value_or(JsonNode(kNull, ""));
  }

  // The vocabulary entry, if there is one and it is not a special one to be skipped.
  std::optional<std::string_view> ShownText(TokenId id, bool skip_special) const {
    if (const AddedToken* token = added_->Find(id)) {
      if (skip_special && token->special) return std::nullopt;
      return token->content;
    }
    return bpe_->Text(id);
  }

  // REQUIRES: `text` is valid UTF-8.
  void EncodeText(std::string_view text, bool parse_special, std::vector<TokenId>* ids) const {
    for (const Segment& raw : added_->raw_finder().Cut(text, parse_special)) {
      if (raw.token != nullptr) {
        ids->push_back(raw.token->id);
        continue;
      }
      const std::string normalized =
          normalizer_->Normalize(std::string(text.substr(raw.begin, raw.end - raw.begin)));
      for (const Segment& segment : added_->normalized_finder().Cut(normalized, parse_special)) {
        if (segment.token != nullptr) {
          ids->push_back(segment.token->id);
          continue;
        }
        const bool at_start = raw.begin == 0 && segment.begin == 0;
        EncodePieces(
            std::string_view(normalized).substr(segment.begin, segment.end - segment.begin),
            at_start, ids);
      }
    }
  }

  void EncodePieces(std::string_view text, bool at_start, std::vector<TokenId>* ids) const {
    std::deque<std::string> storage;
    for (const Piece& piece : pre_tokenizer_->Split(text, at_start, &storage)) {
      bpe_->Encode(piece.text, ids);
    }
  }

  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<Bpe> bpe_;
  std::unique_ptr<AddedTokens> added_;
  PostProcessor post_;
  DecoderPlan decoder_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/tokenizer.json");
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrCat(
        path, ": cannot be opened; a model directory needs a Hugging Face tokenizer.json"));
  }
  std::ostringstream content;
  content << file.rdbuf();
  if (file.bad() || content.fail()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));
  }
  return FromJson(content.str(), path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(const std::string& json,
                                                               const std::string& where) {
  if (const int depth = JsonDepth(json); depth > kMaxDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": nested ", depth, " deep; the limit is ", kMaxDepth));
  }
  nlohmann::json document;
  try {
    document = nlohmann::json::parse(json);
  } catch (const nlohmann::json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": not valid JSON: ", e.what()));
  }
  return TokenizerImpl::Parse(JsonNode(document, where));
}

}  // namespace sluice
