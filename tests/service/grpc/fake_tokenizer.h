// A tokenizer without a file: one token per byte, a few longer ones (some of them pieces of
// characters), and three special ones. Small enough to be obviously right.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "service/tokenizer/tokenizer.h"
#include "service/tokenizer/utf8.h"

namespace sluice::testing {

class FakeTokenizer : public Tokenizer {
 public:
  static constexpr TokenId kBos = 256;
  static constexpr TokenId kEos = 257;
  static constexpr TokenId kSeparator = 258;
  static constexpr TokenId kFirstWord = 259;

  // Longest match first for words; then bytes.
  std::vector<TokenId> Encode(std::string_view text, bool add_special,
                              bool parse_special) const override {
    std::vector<TokenId> ids;
    if (add_special) ids.push_back(kBos);
    for (size_t i = 0; i < text.size();) {
      TokenId best = static_cast<unsigned char>(text[i]);
      size_t length = 1;
      for (TokenId id = parse_special ? kBos : kFirstWord; id < vocab_size(); ++id) {
        const std::string bytes = Bytes(id);
        if (bytes.size() > length && text.substr(i, bytes.size()) == bytes) {
          best = id;
          length = bytes.size();
        }
      }
      ids.push_back(best);
      i += length;
    }
    return ids;
  }

  std::string Decode(const std::vector<TokenId>& ids, bool skip_special) const override {
    std::string bytes;
    for (const TokenId id : ids) {
      if (!skip_special || !IsSpecial(id)) bytes += Bytes(id);
    }
    return ReplaceInvalidUtf8(bytes);
  }

  std::optional<std::string> TokenText(TokenId id) const override {
    if (id < 0 || id >= vocab_size()) return std::nullopt;
    const std::string bytes = Bytes(id);
    if (IsValidUtf8(bytes)) return bytes;
    std::string hex;
    for (const char c : bytes) hex += absl::StrFormat("<%02X>", static_cast<unsigned char>(c));
    return hex;
  }

  std::optional<TokenId> TokenToId(std::string_view text) const override {
    for (TokenId id = 0; id < vocab_size(); ++id) {
      if (TokenText(id) == std::string(text)) return id;
    }
    return std::nullopt;
  }

  bool IsSpecial(TokenId id) const override { return id >= kBos && id < kFirstWord; }

  int32_t vocab_size() const override { return kFirstWord + static_cast<int32_t>(words().size()); }

  std::unique_ptr<Incremental> NewIncremental(bool skip_special) const override {
    return std::make_unique<FakeIncremental>(*this, skip_special);
  }

 private:
  class FakeIncremental : public Incremental {
   public:
    FakeIncremental(const FakeTokenizer& tokenizer, bool skip_special)
        : tokenizer_(tokenizer), skip_special_(skip_special) {}

    std::string Push(TokenId id) override {
      if (id < 0 || id >= tokenizer_.vocab_size()) return "";
      if (skip_special_ && tokenizer_.IsSpecial(id)) return "";
      held_ += tokenizer_.Bytes(id);
      size_t certain = 0;
      while (certain < held_.size()) {
        const Utf8Unit unit = DecodeUtf8(std::string_view(held_).substr(certain));
        if (unit.kind == Utf8Unit::Kind::kIncomplete) break;
        certain += unit.size;
      }
      std::string text = ReplaceInvalidUtf8(held_.substr(0, certain));
      held_.erase(0, certain);
      return text;
    }

    std::string Finish() override { return ReplaceInvalidUtf8(held_); }

   private:
    const FakeTokenizer& tokenizer_;
    const bool skip_special_;
    std::string held_;
  };

  static const std::vector<std::string>& words() {
    static const std::vector<std::string> kWords = {"hello",
                                                    " world",
                                                    "ab",
                                                    "abab",
                                                    "ba",
                                                    "END",
                                                    "NDE",
                                                    "\xC3\xA9",
                                                    "\xE6\x97",
                                                    "\xA5",
                                                    "\xA5"
                                                    "E"};
    return kWords;
  }

  std::string Bytes(TokenId id) const {
    if (id < 0 || id >= vocab_size()) return "";
    if (id < 256) return std::string(1, static_cast<char>(id));
    if (id == kBos) return "<bos>";
    if (id == kEos) return "<eos>";
    if (id == kSeparator) return "<sep>";
    return words()[static_cast<size_t>(id - kFirstWord)];
  }
};

}  // namespace sluice::testing
