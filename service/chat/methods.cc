// Methods of strings, lists, dicts and loops.
#include <algorithm>
#include <array>
#include <utility>

#include "scheduler/base/status_macros.h"
#include "service/chat/builtins.h"
#include "service/chat/text.h"

namespace sluice::jinja {
namespace {

using Kind = Value::Kind;

constexpr std::array kStringMethods = {
    "strip",      "lstrip", "rstrip",       "startswith",   "endswith", "split",   "rsplit",
    "splitlines", "upper",  "lower",        "capitalize",   "title",    "replace", "join",
    "find",       "count",  "removeprefix", "removesuffix", "isdigit"};
constexpr std::array kDictMethods = {"get", "items", "keys", "values"};
constexpr std::array kListMethods = {"index", "count"};

template <class Names>
bool Contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The argument as a string; nothing if it was not given, or is none.
absl::StatusOr<std::optional<std::string_view>> OptionalText(const Arguments& arguments,
                                                             size_t index, std::string_view name) {
  const Value* value = arguments.Get(index, name);
  if (value == nullptr || value->is_none()) return std::optional<std::string_view>();
  if (!value->is_string()) {
    return TemplateError("the argument '", name, "' is ", KindName(*value), ", not a string");
  }
  return std::optional<std::string_view>(value->string());
}

absl::StatusOr<std::string_view> Text(const Arguments& arguments, size_t index,
                                      std::string_view name) {
  SLUICE_ASSIGN_OR_RETURN(const std::optional<std::string_view> text,
                          OptionalText(arguments, index, name));
  if (text.has_value()) return *text;
  return TemplateError("the argument '", name, "' is missing");
}

absl::StatusOr<int64_t> IntegerOr(const Arguments& arguments, size_t index, std::string_view name,
                                  int64_t otherwise) {
  const Value* value = arguments.Get(index, name);
  return value == nullptr ? otherwise : WholeNumber(*value, name);
}

Value ListOf(const std::vector<std::string_view>& parts) {
  List list;
  list.reserve(parts.size());
  for (const std::string_view part : parts) list.emplace_back(std::string(part));
  return list;
}

absl::StatusOr<Value> Affix(std::string_view text, const Arguments& arguments, bool start) {
  const auto matches = [&](std::string_view affix) {
    return start ? text.starts_with(affix) : text.ends_with(affix);
  };
  const Value* affix = arguments.Get(0, "affix");
  if (affix == nullptr || !affix->is(Kind::kList)) {
    SLUICE_ASSIGN_OR_RETURN(const std::string_view one, Text(arguments, 0, "affix"));
    return matches(one);
  }
  for (const Value& one : affix->list()) {
    if (one.is_string() && matches(one.string())) return true;
  }
  return false;
}

absl::StatusOr<Value> SplitText(const std::string& text, const Arguments& arguments, bool right) {
  SLUICE_ASSIGN_OR_RETURN(const auto separator, OptionalText(arguments, 0, "sep"));
  SLUICE_ASSIGN_OR_RETURN(const int64_t most, IntegerOr(arguments, 1, "maxsplit", -1));
  if (separator.has_value() && separator->empty()) return TemplateError("empty separator");
  if (right && !separator.has_value()) return TemplateError("rsplit() without a separator");
  return ListOf(Split(text, separator, most, right));
}

absl::StatusOr<Value> ReplaceText(const std::string& text, const Arguments& arguments) {
  SLUICE_ASSIGN_OR_RETURN(const std::string_view from, Text(arguments, 0, "old"));
  SLUICE_ASSIGN_OR_RETURN(const std::string_view to, Text(arguments, 1, "new"));
  SLUICE_ASSIGN_OR_RETURN(const int64_t most, IntegerOr(arguments, 2, "count", -1));
  if (from.empty()) return TemplateError("replace() of an empty text");
  SLUICE_RETURN_IF_ERROR(
      CheckTextSize(text.size() + static_cast<size_t>(CountOf(text, from)) * to.size()));
  return Replace(text, from, to, most);
}

absl::StatusOr<Value> Join(const std::string& separator, const Arguments& arguments) {
  const Value* list = arguments.Get(0, "iterable");
  if (list == nullptr) return TemplateError("join() without a list");
  SLUICE_ASSIGN_OR_RETURN(const List elements, Elements(*list));
  std::string out;
  for (const Value& element : elements) {
    if (!element.is_string()) return TemplateError("join() of ", KindName(element));
    if (&element != &elements.front()) out += separator;
    out += element.string();
    SLUICE_RETURN_IF_ERROR(CheckTextSize(out.size()));
  }
  return out;
}

absl::StatusOr<Value> StripText(const std::string& text, const Arguments& arguments, Side side) {
  SLUICE_ASSIGN_OR_RETURN(const auto set, OptionalText(arguments, 0, "chars"));
  return std::string(Strip(text, set, side));
}

absl::StatusOr<Value> WithoutAffix(const std::string& text, const Arguments& arguments,
                                   bool start) {
  SLUICE_ASSIGN_OR_RETURN(const std::string_view affix, Text(arguments, 0, "affix"));
  if (start && text.starts_with(affix)) return text.substr(affix.size());
  if (!start && text.ends_with(affix)) return text.substr(0, text.size() - affix.size());
  return text;
}

absl::StatusOr<Value> Find(const std::string& text, const Arguments& arguments) {
  SLUICE_ASSIGN_OR_RETURN(const std::string_view part, Text(arguments, 0, "sub"));
  const size_t at = text.find(part);
  if (at == std::string::npos) return int64_t{-1};
  return Length(std::string_view(text).substr(0, at));
}

bool IsDigits(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

absl::StatusOr<Value> StringMethod(const std::string& text, std::string_view name,
                                   const Arguments& arguments) {
  if (name == "strip") return StripText(text, arguments, Side::kBoth);
  if (name == "lstrip") return StripText(text, arguments, Side::kLeft);
  if (name == "rstrip") return StripText(text, arguments, Side::kRight);
  if (name == "startswith") return Affix(text, arguments, true);
  if (name == "endswith") return Affix(text, arguments, false);
  if (name == "split") return SplitText(text, arguments, false);
  if (name == "rsplit") return SplitText(text, arguments, true);
  if (name == "splitlines") return ListOf(SplitLines(text));
  if (name == "upper") return Upper(text);
  if (name == "lower") return Lower(text);
  if (name == "capitalize") return Capitalize(text);
  if (name == "title") return Title(text);
  if (name == "replace") return ReplaceText(text, arguments);
  if (name == "join") return Join(text, arguments);
  if (name == "find") return Find(text, arguments);
  if (name == "removeprefix") return WithoutAffix(text, arguments, true);
  if (name == "removesuffix") return WithoutAffix(text, arguments, false);
  if (name == "isdigit") return IsDigits(text);
  SLUICE_ASSIGN_OR_RETURN(const std::string_view part, Text(arguments, 0, "sub"));  // count
  return CountOf(text, part);
}

absl::StatusOr<Value> DictMethod(const Value& dict, std::string_view name,
                                 const Arguments& arguments) {
  if (name == "get") {
    const Value* key = arguments.Get(0, "key");
    const Value* otherwise = arguments.Get(1, "default");
    if (key == nullptr) return TemplateError("get() without a key");
    const Value* found = key->is_string() ? dict.Find(key->string()) : nullptr;
    if (found != nullptr) return *found;
    return otherwise == nullptr ? Value() : *otherwise;
  }
  List out;
  for (const auto& [key, value] : dict.dict()) {
    if (name == "items") {
      out.push_back(List{key, value});
    } else {
      out.push_back(name == "keys" ? Value(key) : value);
    }
  }
  return out;
}

absl::StatusOr<Value> ListMethod(const List& list, std::string_view name,
                                 const Arguments& arguments) {
  const Value* wanted = arguments.Get(0, "value");
  if (wanted == nullptr) return TemplateError(name, "() without an argument");
  const auto equal = [&](const Value& element) { return Equal(element, *wanted); };
  if (name == "count") return int64_t{std::count_if(list.begin(), list.end(), equal)};
  const auto found = std::find_if(list.begin(), list.end(), equal);
  if (found != list.end()) return int64_t{found - list.begin()};
  return TemplateError("index(): ", ToText(*wanted), " is not in the list");
}

}  // namespace

bool HasMethod(const Value& subject, std::string_view name) {
  switch (subject.kind()) {
    case Kind::kString:
      return Contains(kStringMethods, name);
    case Kind::kDict:
      return Contains(kDictMethods, name);
    case Kind::kList:
      return Contains(kListMethods, name);
    case Kind::kLoop:
      return name == "cycle";
    default:
      return false;
  }
}

absl::StatusOr<Value> CallMethod(const Value& subject, std::string_view name,
                                 const Arguments& arguments) {
  if (!HasMethod(subject, name)) {
    return TemplateError(KindName(subject), " has no method '", name, "' (or it is not supported)");
  }
  if (subject.is_string()) return StringMethod(subject.string(), name, arguments);
  if (subject.is(Kind::kDict)) return DictMethod(subject, name, arguments);
  if (subject.is(Kind::kList)) return ListMethod(subject.list(), name, arguments);
  const List& values = arguments.positional;  // loop.cycle
  if (values.empty()) return TemplateError("cycle() without values");
  return values[static_cast<size_t>(subject.loop().index0) % values.size()];
}

}  // namespace sluice::jinja
