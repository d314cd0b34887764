// The reading half of bpe.h: vocabulary and merges from JSON, and the tables made from them.
#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"
#include "service/tokenizer/bpe.h"
#include "service/tokenizer/byte_alphabet.h"
#include "service/tokenizer/utf8.h"

namespace sluice {
namespace {

absl::string_view Key(std::string_view s) { return {s.data(), s.size()}; }

absl::Status RefuseUnlessEmpty(const JsonNode& node, std::string_view key) {
  if (!node.Find(key).has_value()) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(const std::string value, node.String(key));
  if (value.empty()) return absl::OkStatus();
  return node.Unimplemented(absl::StrCat(std::string(key), " '", value, "'"));
}

// The two sides of a merge, "a b" or ["a", "b"].
struct MergeSides {
  std::string_view left;
  std::string_view right;
};

absl::StatusOr<MergeSides> ReadSides(const nlohmann::json& entry) {
  if (entry.is_array()) {
    if (entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string()) {
      return absl::InvalidArgumentError("want an array of two strings");
    }
    return MergeSides{entry[0].get_ref<const std::string&>(),
                      entry[1].get_ref<const std::string&>()};
  }
  if (!entry.is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("want \"a b\" or [\"a\", \"b\"], have ", entry.type_name()));
  }
  const std::string_view text = entry.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", std::string(text), "' is not two tokens with one space between them"));
  }
  return MergeSides{text.substr(0, space), text.substr(space + 1)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Bpe>> Bpe::Parse(const JsonNode& node, bool byte_level) {
  if (node.Find("type").has_value()) {  // files of the first versions have none
    SLUICE_ASSIGN_OR_RETURN(const std::string type, node.Type());
    if (type != "BPE") return node.Unimplemented(absl::StrCat("model '", type, "'"));
  }
  std::unique_ptr<Bpe> bpe(new Bpe());
  bpe->byte_level_ = byte_level;
  SLUICE_RETURN_IF_ERROR(bpe->ReadOptions(node));
  SLUICE_ASSIGN_OR_RETURN(const JsonNode vocab, node.Get("vocab"));
  SLUICE_RETURN_IF_ERROR(bpe->ReadVocab(vocab));
  SLUICE_ASSIGN_OR_RETURN(const JsonNode merges, node.Get("merges"));
  SLUICE_RETURN_IF_ERROR(bpe->ReadMerges(merges));
  if (node.Find("unk_token").has_value()) {
    SLUICE_ASSIGN_OR_RETURN(const std::string unk, node.String("unk_token"));
    bpe->unk_ = bpe->Find(unk);
    if (!bpe->unk_.has_value()) {
      return node.Invalid(absl::StrCat("unk_token '", unk, "' is not in vocab"));
    }
  }
  bpe->IndexUnits();
  bpe->IndexWords();
  return bpe;
}

absl::Status Bpe::ReadOptions(const JsonNode& node) {
  SLUICE_RETURN_IF_ERROR(RefuseUnlessEmpty(node, "continuing_subword_prefix"));
  SLUICE_RETURN_IF_ERROR(RefuseUnlessEmpty(node, "end_of_word_suffix"));
  if (const auto dropout = node.Find("dropout"); dropout.has_value()) {
    if (!dropout->value().is_number()) {
      return dropout->Invalid(absl::StrCat("want a number, have ", dropout->value().type_name()));
    }
    if (dropout->value().get<double>() != 0) return dropout->Unimplemented("a dropout above 0");
  }
  SLUICE_ASSIGN_OR_RETURN(byte_fallback_, node.BoolOr("byte_fallback", false));
  SLUICE_ASSIGN_OR_RETURN(fuse_unk_, node.BoolOr("fuse_unk", false));
  SLUICE_ASSIGN_OR_RETURN(ignore_merges_, node.BoolOr("ignore_merges", false));
  return absl::OkStatus();
}

absl::Status Bpe::ReadVocab(const JsonNode& node) {
  if (!node.value().is_object()) {
    return node.Invalid(absl::StrCat("want an object, have ", node.value().type_name()));
  }
  TokenId end = 0;
  for (const auto& [text, id] : node.value().items()) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= kMaxVocab) {
      return node.Invalid(
          absl::StrCat("id of '", text, "' is ", id.dump(), "; want 0 to ", kMaxVocab - 1));
    }
    end = std::max(end, id.get<TokenId>() + 1);
  }
  texts_.resize(static_cast<size_t>(end));
  for (const auto& [text, id] : node.value().items()) {
    std::optional<std::string>& slot = texts_[id.get<size_t>()];
    if (slot.has_value()) {
      return node.Invalid(
          absl::StrCat("'", *slot, "' and '", text, "' have the same id ", id.get<size_t>()));
    }
    slot = text;
  }
  ids_.reserve(node.value().size());
  for (size_t id = 0; id < texts_.size(); ++id) {
    if (texts_[id].has_value()) ids_[Key(*texts_[id])] = static_cast<TokenId>(id);
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const JsonNode& node) {
  if (!node.value().is_array()) {
    return node.Invalid(absl::StrCat("want an array, have ", node.value().type_name()));
  }
  merges_.reserve(node.value().size());
  uint32_t rank = 0;
  for (size_t i = 0; i < node.value().size(); ++i) {
    const nlohmann::json& entry = node.value()[i];
    // The first line of a merges.txt, which some converters copied.
    if (entry.is_string() && entry.get_ref<const std::string&>().rfind("#version", 0) == 0) {
      continue;
    }
    const absl::StatusOr<MergeSides> sides = ReadSides(entry);
    const absl::Status status =
        sides.ok() ? AddMerge(rank++, sides->left, sides->right) : sides.status();
    if (!status.ok()) return node.Invalid(absl::StrCat("[", i, "]: ", status.message()));
  }
  return absl::OkStatus();
}

absl::Status Bpe::AddMerge(uint32_t rank, std::string_view left, std::string_view right) {
  const std::optional<TokenId> left_id = Find(left);
  const std::optional<TokenId> right_id = Find(right);
  const std::string whole = absl::StrCat(std::string(left), std::string(right));
  const std::optional<TokenId> whole_id = Find(whole);
  if (!left_id.has_value() || !right_id.has_value() || !whole_id.has_value()) {
    const std::string missing(!left_id.has_value() ? left : !right_id.has_value() ? right : whole);
    return absl::InvalidArgumentError(absl::StrCat("token '", missing, "' is not in vocab"));
  }
  const uint64_t key = (static_cast<uint64_t>(static_cast<uint32_t>(*left_id)) << 32) |
                       static_cast<uint32_t>(*right_id);
  merges_[key] = {rank, *whole_id};
  return absl::OkStatus();
}

void Bpe::IndexUnits() {
  for (size_t b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const std::string_view unit = byte_level_ ? ByteAsText(static_cast<uint8_t>(b))
                                              : std::string_view(&byte, b < 0x80 ? 1 : 0);
    unit_ids_[b] = Find(unit).value_or(-1);
    std::array<char, 8> name = {};
    std::snprintf(name.data(), name.size(), "<0x%02X>", static_cast<unsigned>(b));
    fallback_ids_[b] = Find(name.data()).value_or(-1);
  }
}

// Finds the entries that a piece of the same text becomes: with ignore_merges all of them, else
// those that the merges build.
void Bpe::IndexWords() {
  words_text_.resize(texts_.size());
  std::vector<TokenId> encoded;
  for (size_t id = 0; id < texts_.size(); ++id) {
    if (!texts_[id].has_value() || texts_[id]->empty()) continue;
    std::optional<std::string> text = texts_[id];
    if (byte_level_) text = TextAsBytes(*texts_[id]);
    if (!text.has_value()) continue;
    encoded.clear();
    if (!ignore_merges_) EncodeByMerging(*text, &encoded);
    const std::vector<TokenId> itself = {static_cast<TokenId>(id)};
    if (!ignore_merges_ && encoded != itself) continue;
    words_text_[id] = *std::move(text);
    words_[Key(words_text_[id])] = static_cast<TokenId>(id);
    longest_word_ = std::max(longest_word_, words_text_[id].size());
  }
}

}  // namespace sluice
