#include "service/chat/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sluice::jinja {
namespace {

using Kind = Value::Kind;

// Python's repr() of a float: the shortest digits that read back, with an exponent outside
// [1e-4, 1e16).
std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  const double size = std::fabs(value);
  const bool exponent = size != 0 && (size < 1e-4 || size >= 1e16);
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value,
                    exponent ? std::chars_format::scientific : std::chars_format::fixed);
  std::string text(buffer, end.ptr);
  if (!exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

// Python's repr() of a str, without its rarer escapes.
std::string Quoted(const std::string& text) {
  const bool has_single = text.find('\'') != std::string::npos;
  const char quote = has_single && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  out += quote;
  return out;
}

std::string Representation(const Value& value) {
  if (value.is_string()) return Quoted(value.string());
  return value.is_undefined() ? "Undefined" : ToText(value);
}

std::string ListText(const List& list) {
  std::string out = "[";
  for (const Value& element : list) {
    if (out.size() > 1) out += ", ";
    out += Representation(element);
  }
  return out + "]";
}

std::string DictText(const Dict& dict) {
  std::string out = "{";
  for (const auto& [key, value] : dict) {
    if (out.size() > 1) out += ", ";
    absl::StrAppend(&out, Quoted(key), ": ", Representation(value));
  }
  return out + "}";
}

std::string JsonString(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonLayout& layout) : layout_(layout) {}

  std::string Write(const Value& value) {
    Append(value, 0);
    return std::move(out_);
  }

 private:
  void NewLine(int depth) {
    if (layout_.indent < 0) return;
    out_ += '\n';
    out_.append(static_cast<size_t>(layout_.indent) * static_cast<size_t>(depth), ' ');
  }

  // The elements of a list or dict between `open` and `close`.
  template <class Container, class AppendOne>
  void AppendAll(const Container& elements, char open, char close, int depth, AppendOne append) {
    out_ += open;
    bool first = true;
    for (const auto& element : elements) {
      if (!std::exchange(first, false)) out_ += layout_.between_items;
      NewLine(depth + 1);
      append(element);
    }
    if (!first) NewLine(depth);
    out_ += close;
  }

  void Append(const Value& value, int depth) {
    switch (value.kind()) {
      case Kind::kBool:
        out_ += value.truthy() ? "true" : "false";
        return;
      case Kind::kInt:
      case Kind::kFloat:
        out_ += ToText(value);
        return;
      case Kind::kString:
        out_ += JsonString(value.string());
        return;
      case Kind::kList:
        return AppendAll(value.list(), '[', ']', depth,
                         [&](const Value& element) { Append(element, depth + 1); });
      case Kind::kDict:
        return AppendAll(value.dict(), '{', '}', depth, [&](const auto& entry) {
          absl::StrAppend(&out_, JsonString(entry.first), layout_.after_key);
          Append(entry.second, depth + 1);
        });
      default:
        out_ += "null";
    }
  }

  const JsonLayout& layout_;
  std::string out_;
};

}  // namespace

Value::Value(List value) {
  for (const Value& element : value) depth_ = std::max(depth_, element.depth_);
  ++depth_;
  data_ = std::make_shared<const List>(std::move(value));
}

Value::Value(Dict value) {
  for (const auto& [key, element] : value) depth_ = std::max(depth_, element.depth_);
  ++depth_;
  data_ = std::make_shared<const Dict>(std::move(value));
}

Value Value::FromJson(const nlohmann::json& json) {
  switch (json.type()) {
    case nlohmann::json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::json::value_t::number_integer:
      return json.get<int64_t>();
    case nlohmann::json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return json.get<double>();
      return json.get<int64_t>();
    case nlohmann::json::value_t::number_float:
      return json.get<double>();
    case nlohmann::json::value_t::string:
      return json.get<std::string>();
    case nlohmann::json::value_t::array: {
      List list;
      for (const nlohmann::json& element : json) list.push_back(FromJson(element));
      return list;
    }
    case nlohmann::json::value_t::object: {
      Dict dict;
      for (const auto& [key, element] : json.items()) dict.emplace_back(key, FromJson(element));
      return dict;
    }
    default:
      return {};
  }
}

int64_t Value::integer() const {
  return is(Kind::kBool) ? int64_t{std::get<bool>(data_)} : std::get<int64_t>(data_);
}

double Value::number() const {
  return is(Kind::kFloat) ? std::get<double>(data_) : static_cast<double>(integer());
}

bool Value::truthy() const {
  switch (kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return integer() != 0;
    case Kind::kFloat:
      return number() != 0;
    case Kind::kString:
      return !string().empty();
    case Kind::kList:
      return !list().empty();
    case Kind::kDict:
      return !dict().empty();
    default:
      return true;
  }
}

size_t Value::weight() const {
  if (is_string()) return string().size();
  if (is(Kind::kList)) return 32 * list().size();
  return is(Kind::kDict) ? 32 * dict().size() : 0;
}

const Value* Value::Find(std::string_view key) const {
  for (const auto& [name, value] : dict()) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool Equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integer() && b.is_integer() ? a.integer() == b.integer() : a.number() == b.number();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return a.string() == b.string();
    case Kind::kList:
      return std::equal(a.list().begin(), a.list().end(), b.list().begin(), b.list().end(), Equal);
    case Kind::kDict:
      return a.dict().size() == b.dict().size() &&
             std::all_of(a.dict().begin(), a.dict().end(), [&](const auto& entry) {
               const Value* other = b.Find(entry.first);
               return other != nullptr && Equal(entry.second, *other);
             });
    case Kind::kNamespace:
      return &a.space() == &b.space();
    default:
      return false;
  }
}

const char* KindName(const Value& value) {
  static constexpr const char* kNames[] = {"undefined",   "none",     "a boolean", "an integer",
                                           "a float",     "a string", "a list",    "a dict",
                                           "a namespace", "a loop",   "a function"};
  return kNames[static_cast<size_t>(value.kind())];
}

std::string ToText(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.truthy() ? "True" : "False";
    case Kind::kInt:
      return absl::StrCat(value.integer());
    case Kind::kFloat:
      return FloatText(value.number());
    case Kind::kString:
      return value.string();
    case Kind::kList:
      return ListText(value.list());
    case Kind::kDict:
      return DictText(value.dict());
    default:
      return absl::StrCat("<", KindName(value) + 2, ">");  // without its "a "
  }
}

std::string ToJson(const Value& value, const JsonLayout& layout) {
  return JsonWriter(layout).Write(value);
}

}  // namespace sluice::jinja
