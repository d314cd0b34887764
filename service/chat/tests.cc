// Tests: what may follow "is".
#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/match.h"
#include "scheduler/base/status_macros.h"
#include "service/chat/builtins.h"
#include "service/chat/text.h"

namespace sluice::jinja {
namespace {

using Kind = Value::Kind;

bool IsSequence(const Value& v) {
  return v.is_string() || v.is(Kind::kList) || v.is(Kind::kDict) || v.is_undefined();
}

using KindTest = bool (*)(const Value&);
constexpr std::pair<std::string_view, KindTest> kKindTests[] = {
    {"defined", [](const Value& v) { return !v.is_undefined(); }},
    {"undefined", [](const Value& v) { return v.is_undefined(); }},
    {"none", [](const Value& v) { return v.is_none(); }},
    {"boolean", [](const Value& v) { return v.is(Kind::kBool); }},
    {"true", [](const Value& v) { return v.is(Kind::kBool) && v.truthy(); }},
    {"false", [](const Value& v) { return v.is(Kind::kBool) && !v.truthy(); }},
    {"integer", [](const Value& v) { return v.is(Kind::kInt); }},
    {"float", [](const Value& v) { return v.is(Kind::kFloat); }},
    {"number", [](const Value& v) { return v.is_number(); }},
    {"string", [](const Value& v) { return v.is_string(); }},
    {"mapping", [](const Value& v) { return v.is(Kind::kDict); }},
    {"iterable", IsSequence},
    {"sequence", IsSequence},
    {"callable", [](const Value& v) { return v.is(Kind::kFunction); }},
};

constexpr std::string_view kEqualTests[] = {"equalto", "eq", "sameas"};
constexpr std::string_view kOrderTests[] = {"lt", "lessthan", "le", "gt", "greaterthan", "ge"};
constexpr std::string_view kOtherTests[] = {"odd", "even",  "divisibleby", "ne",
                                            "in",  "upper", "lower"};

template <class Names>
bool Contains(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

absl::StatusOr<bool> Order(std::string_view name, const Value& subject, const Value& argument) {
  const bool swap = name[0] == 'g';
  const Value& a = swap ? argument : subject;
  const Value& b = swap ? subject : argument;
  SLUICE_ASSIGN_OR_RETURN(const bool less, Less(a, b));
  return less || (name[1] == 'e' && name.size() == 2 && Equal(a, b));
}

}  // namespace

bool IsTest(std::string_view name) {
  return Contains(kEqualTests, name) || Contains(kOrderTests, name) ||
         Contains(kOtherTests, name) ||
         std::any_of(std::begin(kKindTests), std::end(kKindTests),
                     [&](const auto& test) { return test.first == name; });
}

absl::StatusOr<bool> ApplyTest(std::string_view name, const Value& subject,
                               const Arguments& arguments) {
  for (const auto& [known, test] : kKindTests) {
    if (known == name) return test(subject);
  }
  if (name == "upper" || name == "lower") {
    const std::string text = ToText(subject);
    return (name == "upper" ? Upper(text) : Lower(text)) == text;
  }
  if (name == "odd" || name == "even") {
    SLUICE_ASSIGN_OR_RETURN(const int64_t number, WholeNumber(subject, "the subject"));
    return (number % 2 != 0) == (name == "odd");
  }
  const Value* argument = arguments.Get(0, "other");
  if (argument == nullptr) return TemplateError("the test '", name, "' needs an argument");
  if (name == "in") return Includes(*argument, subject);
  if (name == "ne") return !Equal(subject, *argument);
  if (Contains(kEqualTests, name)) return Equal(subject, *argument);
  if (Contains(kOrderTests, name)) return Order(name, subject, *argument);
  SLUICE_ASSIGN_OR_RETURN(const int64_t number, WholeNumber(subject, "the subject"));
  SLUICE_ASSIGN_OR_RETURN(const int64_t by, WholeNumber(*argument, "divisibleby's argument"));
  if (by == 0) return TemplateError("divisibleby 0");
  return by == -1 || number % by == 0;
}

absl::StatusOr<bool> Includes(const Value& container, const Value& value) {
  switch (container.kind()) {
    case Kind::kString:
      if (!value.is_string()) return TemplateError("'in' a string needs a string on its left");
      return absl::StrContains(container.string(), value.string());
    case Kind::kList:
      return std::any_of(container.list().begin(), container.list().end(),
                         [&](const Value& element) { return Equal(element, value); });
    case Kind::kDict:
      return value.is_string() && container.Find(value.string()) != nullptr;
    case Kind::kUndefined:
      return false;
    default:
      return TemplateError("'in' ", KindName(container));
  }
}

}  // namespace sluice::jinja
