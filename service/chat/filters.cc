// Filters: what may follow "|".
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "scheduler/base/status_macros.h"
#include "service/chat/builtins.h"
#include "service/chat/text.h"

namespace sluice::jinja {
namespace {

using Kind = Value::Kind;
using Result = absl::StatusOr<Value>;

Result Trim(const Value& subject, const Arguments& arguments) {
  const Value* chars = arguments.Get(0, "chars");
  std::optional<std::string_view> set;
  if (chars != nullptr && chars->is_string()) set = chars->string();
  return std::string(Strip(ToText(subject), set, Side::kBoth));
}

// Arguments as Hugging Face has them: (ensure_ascii=False, indent=None, separators=None,
// sort_keys=False).
Result ToJsonText(const Value& subject, const Arguments& arguments) {
  if (subject.is_undefined()) return TemplateError("tojson of undefined");
  JsonLayout layout;
  if (const Value* indent = arguments.Get(1, "indent"); indent != nullptr && !indent->is_none()) {
    SLUICE_ASSIGN_OR_RETURN(const int64_t width, WholeNumber(*indent, "indent"));
    if (width < 0 || width > 16) return TemplateError("tojson: indent is not in [0, 16]");
    layout.indent = static_cast<int>(width);
    layout.between_items.resize(1);  // without the space
  }
  if (const Value* both = arguments.Get(2, "separators"); both != nullptr && !both->is_none()) {
    const bool texts = both->is(Kind::kList) && both->list().size() == 2 &&
                       both->list()[0].is_string() && both->list()[1].is_string();
    if (!texts) return TemplateError("tojson: separators are not two strings");
    layout.between_items = both->list()[0].string();
    layout.after_key = both->list()[1].string();
  }
  for (const auto& [index, name] :
       {std::pair<size_t, const char*>(0, "ensure_ascii"), {3, "sort_keys"}}) {
    const Value* on = arguments.Get(index, name);
    if (on != nullptr && on->truthy()) return TemplateError("tojson: ", name, " is not supported");
  }
  return ToJson(subject, layout);
}

Result LengthOf(const Value& subject, const Arguments& /*arguments*/) {
  switch (subject.kind()) {
    case Kind::kUndefined:
      return int64_t{0};
    case Kind::kString:
      return Length(subject.string());
    case Kind::kList:
      return static_cast<int64_t>(subject.list().size());
    case Kind::kDict:
      return static_cast<int64_t>(subject.dict().size());
    default:
      return TemplateError(KindName(subject), " has no length");
  }
}

Result Default(const Value& subject, const Arguments& arguments) {
  const Value* value = arguments.Get(0, "default_value");
  const Value* boolean = arguments.Get(1, "boolean");
  const bool falsy_too = boolean != nullptr && boolean->truthy();
  if (!subject.is_undefined() && (!falsy_too || subject.truthy())) return subject;
  return value == nullptr ? Value("") : *value;
}

Result UpperText(const Value& subject, const Arguments&) { return Upper(ToText(subject)); }
Result LowerText(const Value& subject, const Arguments&) { return Lower(ToText(subject)); }
Result TitleText(const Value& subject, const Arguments&) { return Title(ToText(subject)); }
Result CapitalText(const Value& subject, const Arguments&) { return Capitalize(ToText(subject)); }
Result AsText(const Value& subject, const Arguments&) { return ToText(subject); }

Result ListOf(const Value& subject, const Arguments&) {
  SLUICE_ASSIGN_OR_RETURN(List list, Elements(subject));
  return list;
}

Result First(const Value& subject, const Arguments&) {
  SLUICE_ASSIGN_OR_RETURN(const List list, Elements(subject));
  return list.empty() ? Value(Undefined{"the list is empty, so it has no first element"})
                      : list.front();
}

Result Last(const Value& subject, const Arguments&) {
  SLUICE_ASSIGN_OR_RETURN(const List list, Elements(subject));
  return list.empty() ? Value(Undefined{"the list is empty, so it has no last element"})
                      : list.back();
}

Result Reverse(const Value& subject, const Arguments&) {
  SLUICE_ASSIGN_OR_RETURN(List list, Elements(subject));
  std::reverse(list.begin(), list.end());
  if (!subject.is_string()) return list;
  std::string text;
  for (const Value& character : list) text += character.string();
  return text;
}

Result Items(const Value& subject, const Arguments& arguments) {
  if (subject.is_undefined()) return List();
  if (!subject.is(Kind::kDict)) return TemplateError("items of ", KindName(subject));
  return CallMethod(subject, "items", arguments);
}

// `value.name` or `value[name]`, along a dotted path.
Value Member(Value value, std::string_view path) {
  while (!path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    const Value* found = value.is(Kind::kDict) ? value.Find(path.substr(0, dot)) : nullptr;
    if (found == nullptr) {
      return Undefined{Cat("'", path.substr(0, dot), "' is not there")};
    }
    Value next = *found;
    value = std::move(next);
    path.remove_prefix(std::min(path.size(), dot + 1));
  }
  return value;
}

// The argument `attribute`, which is a name; empty if it was not given.
absl::StatusOr<std::string> AttributeName(const Arguments& arguments, size_t index) {
  const Value* attribute = arguments.Get(index, "attribute");
  if (attribute == nullptr || attribute->is_none()) return std::string();
  if (attribute->is_string()) return attribute->string();
  return TemplateError("the argument 'attribute' is ", KindName(*attribute), ", not a string");
}

Result Join(const Value& subject, const Arguments& arguments) {
  const Value* separator = arguments.Get(0, "d");
  SLUICE_ASSIGN_OR_RETURN(const std::string attribute, AttributeName(arguments, 1));
  SLUICE_ASSIGN_OR_RETURN(const List list, Elements(subject));
  std::string out;
  for (const Value& element : list) {
    if (&element != &list.front() && separator != nullptr) out += ToText(*separator);
    out += ToText(attribute.empty() ? element : Member(element, attribute));
    SLUICE_RETURN_IF_ERROR(CheckTextSize(out.size()));
  }
  return out;
}

Result ReplaceIn(const Value& subject, const Arguments& arguments) {
  return CallMethod(ToText(subject), "replace", arguments);
}

// The arguments after the first `skip`.
Arguments Rest(const Arguments& arguments, size_t skip) {
  Arguments rest = arguments;
  rest.positional.erase(
      rest.positional.begin(),
      rest.positional.begin() + static_cast<int64_t>(std::min(skip, rest.positional.size())));
  return rest;
}

Result Map(const Value& subject, const Arguments& arguments) {
  SLUICE_ASSIGN_OR_RETURN(const List list, Elements(subject));
  List out;
  if (!arguments.positional.empty() && arguments.positional[0].is_string()) {
    const std::string& filter = arguments.positional[0].string();
    if (!IsFilter(filter)) return TemplateError("map: no filter '", filter, "'");
    for (const Value& element : list) {
      SLUICE_ASSIGN_OR_RETURN(Value mapped, ApplyFilter(filter, element, Rest(arguments, 1)));
      out.push_back(std::move(mapped));
    }
    return out;
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string attribute, AttributeName(arguments, 0));
  if (attribute.empty()) return TemplateError("map: neither a filter nor attribute=");
  const Value* otherwise = arguments.Get(9, "default");
  for (const Value& element : list) {
    Value member = Member(element, attribute);
    if (member.is_undefined() && otherwise != nullptr) member = *otherwise;
    out.push_back(std::move(member));
  }
  return out;
}

// The elements for which `test` gives `wanted`, where `skip` arguments come before the test.
Result SelectElements(const Value& subject, const Arguments& arguments, bool by_attribute,
                      bool wanted) {
  SLUICE_ASSIGN_OR_RETURN(const List list, Elements(subject));
  const size_t skip = by_attribute ? 1 : 0;
  const Value* name = arguments.Get(0, "attribute");
  if (by_attribute && (name == nullptr || !name->is_string())) {
    return TemplateError("selectattr and rejectattr need the name of an attribute");
  }
  const Value* test = arguments.Get(skip, "test");
  if (test != nullptr && (!test->is_string() || !IsTest(test->string()))) {
    return TemplateError("no test '", ToText(*test), "'");
  }
  List out;
  for (const Value& element : list) {
    const Value value = by_attribute ? Member(element, name->string()) : element;
    bool passes = value.truthy();
    if (test != nullptr) {
      SLUICE_ASSIGN_OR_RETURN(passes, ApplyTest(test->string(), value, Rest(arguments, skip + 1)));
    }
    if (passes == wanted) out.push_back(element);
  }
  return out;
}

Result Select(const Value& subject, const Arguments& arguments) {
  return SelectElements(subject, arguments, false, true);
}
Result Reject(const Value& subject, const Arguments& arguments) {
  return SelectElements(subject, arguments, false, false);
}
Result SelectAttribute(const Value& subject, const Arguments& arguments) {
  return SelectElements(subject, arguments, true, true);
}
Result RejectAttribute(const Value& subject, const Arguments& arguments) {
  return SelectElements(subject, arguments, true, false);
}

Result ToInteger(const Value& subject, const Arguments& arguments) {
  const Value* otherwise = arguments.Get(0, "default");
  double number = 0;
  int64_t integer = 0;
  if (subject.is_integer()) return subject.integer();
  if (subject.is_string() && absl::SimpleAtoi(subject.string(), &integer)) return integer;
  const bool parsed = subject.is(Kind::kFloat)
                          ? (number = subject.number(), true)
                          : subject.is_string() && absl::SimpleAtod(subject.string(), &number);
  if (parsed && std::fabs(number) < 9e18) return static_cast<int64_t>(number);
  return otherwise == nullptr ? Value(int64_t{0}) : *otherwise;
}

Result ToFloat(const Value& subject, const Arguments& arguments) {
  const Value* otherwise = arguments.Get(0, "default");
  double number = 0;
  if (subject.is_number()) return subject.number();
  if (subject.is_string() && absl::SimpleAtod(subject.string(), &number)) return number;
  return otherwise == nullptr ? Value(0.0) : *otherwise;
}

Result Absolute(const Value& subject, const Arguments&) {
  if (subject.is(Kind::kFloat)) return std::fabs(subject.number());
  SLUICE_ASSIGN_OR_RETURN(const int64_t number, WholeNumber(subject, "abs: the subject"));
  return number < 0 && number != INT64_MIN ? -number : number;
}

Result Indent(const Value& subject, const Arguments& arguments) {
  int64_t width = 4;
  if (const Value* given = arguments.Get(0, "width"); given != nullptr) {
    SLUICE_ASSIGN_OR_RETURN(width, WholeNumber(*given, "indent: width"));
  }
  if (width < 0 || width > 64) return TemplateError("indent: width is not in [0, 64]");
  const Value* first = arguments.Get(1, "first");
  const Value* blank = arguments.Get(2, "blank");
  const std::string space(static_cast<size_t>(width), ' ');
  const std::string text = ToText(subject);
  std::string out;
  bool begin = first != nullptr && first->truthy();  // what follows gets the indent
  for (const std::string_view line : Split(text, "\n", -1, false)) {
    if (!out.empty() || line.data() != text.data()) out += '\n';
    if (begin && (!line.empty() || (blank != nullptr && blank->truthy()))) out += space;
    out += line;
    begin = true;
    SLUICE_RETURN_IF_ERROR(CheckTextSize(out.size()));
  }
  return out;
}

Result Extreme(const Value& subject, bool largest) {
  SLUICE_ASSIGN_OR_RETURN(const List list, Elements(subject));
  if (list.empty()) return Value(Undefined{"the list is empty"});
  Value best = list.front();
  for (const Value& element : list) {
    SLUICE_ASSIGN_OR_RETURN(const bool better, largest ? Less(best, element) : Less(element, best));
    if (better) best = element;
  }
  return best;
}
Result Min(const Value& subject, const Arguments&) { return Extreme(subject, false); }
Result Max(const Value& subject, const Arguments&) { return Extreme(subject, true); }

// Dicts by key, ignoring case, as Jinja does.
Result DictSort(const Value& subject, const Arguments& arguments) {
  if (!arguments.positional.empty() || !arguments.named.empty()) {
    return TemplateError("dictsort with arguments is not supported");
  }
  if (!subject.is(Kind::kDict)) return TemplateError("dictsort of ", KindName(subject));
  Dict sorted = subject.dict();
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return Lower(a.first) < Lower(b.first); });
  List out;
  for (auto& [key, value] : sorted) out.push_back(List{Value(key), std::move(value)});
  return out;
}

Result Unique(const Value& subject, const Arguments&) {
  SLUICE_ASSIGN_OR_RETURN(const List list, Elements(subject));
  if (list.size() > 1000) return TemplateError("unique: more than 1000 elements");
  List out;
  for (const Value& element : list) {
    const auto equal = [&](const Value& other) { return Equal(element, other); };
    if (std::none_of(out.begin(), out.end(), equal)) out.push_back(element);
  }
  return out;
}

Result Same(const Value& subject, const Arguments&) { return subject; }

using FilterFunction = Result (*)(const Value&, const Arguments&);
constexpr std::pair<std::string_view, FilterFunction> kFilters[] = {
    {"abs", Absolute},
    {"capitalize", CapitalText},
    {"count", LengthOf},
    {"d", Default},
    {"default", Default},
    {"dictsort", DictSort},
    {"first", First},
    {"float", ToFloat},
    {"indent", Indent},
    {"int", ToInteger},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", LengthOf},
    {"list", ListOf},
    {"lower", LowerText},
    {"map", Map},
    {"max", Max},
    {"min", Min},
    {"reject", Reject},
    {"rejectattr", RejectAttribute},
    {"replace", ReplaceIn},
    {"reverse", Reverse},
    {"safe", Same},
    {"select", Select},
    {"selectattr", SelectAttribute},
    {"string", AsText},
    {"title", TitleText},
    {"tojson", ToJsonText},
    {"trim", Trim},
    {"unique", Unique},
    {"upper", UpperText},
};

FilterFunction FindFilter(std::string_view name) {
  for (const auto& [known, filter] : kFilters) {
    if (known == name) return filter;
  }
  return nullptr;
}

}  // namespace

bool IsFilter(std::string_view name) { return FindFilter(name) != nullptr; }

absl::StatusOr<Value> ApplyFilter(std::string_view name, const Value& subject,
                                  const Arguments& arguments) {
  return FindFilter(name)(subject, arguments);
}

}  // namespace sluice::jinja
