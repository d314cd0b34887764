#include "service/tokenizer/post_processor.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {
namespace {

class Parser {
 public:
  explicit Parser(TokenId vocab_size) : vocab_size_(vocab_size) {}

  absl::Status Add(const JsonNode& node) {
    SLUICE_ASSIGN_OR_RETURN(const std::string type, node.Type());
    if (type == "ByteLevel") return absl::OkStatus();
    if (type == "TemplateProcessing") return AddTemplate(node);
    if (type != "Sequence") return node.Unimplemented(absl::StrCat("post-processor '", type, "'"));
    SLUICE_ASSIGN_OR_RETURN(const JsonNode list, node.Get("processors"));
    SLUICE_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.Elements());
    for (const JsonNode& element : elements) SLUICE_RETURN_IF_ERROR(Add(element));
    return absl::OkStatus();
  }

  PostProcessor Finish() { return std::move(out_); }

 private:
  absl::Status AddTemplate(const JsonNode& node) {
    if (std::exchange(has_template_, true)) {
      return node.Unimplemented("a second TemplateProcessing");
    }
    SLUICE_ASSIGN_OR_RETURN(const JsonNode single, node.Get("single"));
    SLUICE_ASSIGN_OR_RETURN(const std::vector<JsonNode> pieces, single.Elements());
    bool seen_text = false;
    for (const JsonNode& piece : pieces) {
      if (const std::optional<JsonNode> text = piece.Find("Sequence"); text.has_value()) {
        SLUICE_ASSIGN_OR_RETURN(const std::string id, text->String("id"));
        if (id != "A" || std::exchange(seen_text, true)) {
          return piece.Unimplemented("a single template that is not one sequence A");
        }
        continue;
      }
      SLUICE_ASSIGN_OR_RETURN(const JsonNode special, piece.Get("SpecialToken"));
      SLUICE_ASSIGN_OR_RETURN(const std::string id, special.String("id"));
      SLUICE_ASSIGN_OR_RETURN(const JsonNode table, node.Get("special_tokens"));
      SLUICE_ASSIGN_OR_RETURN(const JsonNode entry, table.Get(id));
      SLUICE_RETURN_IF_ERROR(AddIds(entry, seen_text ? &out_.after : &out_.before));
    }
    if (!seen_text) return single.Invalid("there is no Sequence A");
    return absl::OkStatus();
  }

  absl::Status AddIds(const JsonNode& entry, std::vector<TokenId>* out) const {
    SLUICE_ASSIGN_OR_RETURN(const JsonNode list, entry.Get("ids"));
    SLUICE_ASSIGN_OR_RETURN(const std::vector<JsonNode> ids, list.Elements());
    for (const JsonNode& id : ids) {
      const bool valid = id.value().is_number_integer() && id.value().get<int64_t>() >= 0 &&
                         id.value().get<int64_t>() < vocab_size_;
      if (!valid) {
        return id.Invalid(
            absl::StrCat("id ", id.value().dump(), " is not in 0 to ", vocab_size_ - 1));
      }
      out->push_back(id.value().get<TokenId>());
    }
    return absl::OkStatus();
  }

  const TokenId vocab_size_;
  bool has_template_ = false;
  PostProcessor out_;
};

}  // namespace

absl::StatusOr<PostProcessor> ParsePostProcessor(const JsonNode& node, TokenId vocab_size) {
  Parser parser(vocab_size);
  if (!node.is_null()) SLUICE_RETURN_IF_ERROR(parser.Add(node));
  return parser.Finish();
}

}  // namespace sluice
