#include "service/tokenizer/json_node.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler/base/status_macros.h"

namespace sluice {

JsonNode::JsonNode(const nlohmann::json& root, std::string where)
    : JsonNode(&root, std::move(where), "") {}

JsonNode::JsonNode(const nlohmann::json* value, std::string where, std::string path)
    : value_(value), where_(std::move(where)), path_(std::move(path)) {}

absl::StatusOr<JsonNode> JsonNode::Get(std::string_view key) const {
  if (!value_->is_object()) {
    return Invalid(absl::StrCat("want an object, have ", value_->type_name()));
  }
  const auto it = value_->find(std::string(key));
  if (it == value_->end()) return Invalid(absl::StrCat("'", std::string(key), "' is missing"));
  return JsonNode(&*it, where_,
                  path_.empty() ? std::string(key) : absl::StrCat(path_, ".", std::string(key)));
}

std::optional<JsonNode> JsonNode::Find(std::string_view key) const {
  absl::StatusOr<JsonNode> node = Get(key);
  if (!node.ok() || node->is_null()) return std::nullopt;
  return *std::move(node);
}

absl::StatusOr<std::vector<JsonNode>> JsonNode::Elements() const {
  if (!value_->is_array()) {
    return Invalid(absl::StrCat("want an array, have ", value_->type_name()));
  }
  std::vector<JsonNode> elements;
  elements.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    elements.push_back(JsonNode(&(*value_)[i], where_, absl::StrCat(path_, "[", i, "]")));
  }
  return elements;
}

absl::StatusOr<std::string> JsonNode::String(std::string_view key) const {
  SLUICE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  if (!node.value_->is_string()) {
    return node.Invalid(absl::StrCat("want a string, have ", node.value_->type_name()));
  }
  return node.value_->get_ref<const std::string&>();
}

absl::StatusOr<bool> JsonNode::BoolOr(std::string_view key, bool otherwise) const {
  const std::optional<JsonNode> node = Find(key);
  if (!node.has_value()) return otherwise;
  if (!node->value_->is_boolean()) {
    return node->Invalid(absl::StrCat("want true or false, have ", node->value_->type_name()));
  }
  return node->value_->get<bool>();
}

absl::StatusOr<int64_t> JsonNode::Int(std::string_view key) const {
  SLUICE_ASSIGN_OR_RETURN(const JsonNode node, Get(key));
  if (!node.value_->is_number_integer()) {
    return node.Invalid(absl::StrCat("want an integer, have ", node.value_->type_name()));
  }
  return node.value_->get<int64_t>();
}

absl::Status JsonNode::Invalid(std::string_view problem) const {
  return absl::InvalidArgumentError(absl::StrCat(Place(), std::string(problem)));
}

absl::Status JsonNode::Unimplemented(std::string_view component) const {
  return absl::UnimplementedError(
      absl::StrCat(Place(), std::string(component),
                   " is not supported; service/tokenizer/README.md lists what is"));
}

absl::Status JsonNode::Annotate(const absl::Status& status) const {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(Place(), status.message()));
}

std::string JsonNode::Place() const {
  return path_.empty() ? absl::StrCat(where_, ": ") : absl::StrCat(where_, ": ", path_, ": ");
}

}  // namespace sluice
