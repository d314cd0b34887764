// A value of a chat template: what Python calls str, int, list, dict and so on, as far as templates
// need them.
//
// Values are immutable and shared, except namespaces, which exist to be written to. So that nothing
// can contain itself, a namespace is never put into another value.
//
// Thread-compatible.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sluice::jinja {

class Value;
struct Statement;

using List = std::vector<Value>;

// In the order of insertion, as in Python. Looked up by walking: templates' dicts are small.
using Dict = std::vector<std::pair<std::string, Value>>;

// The value of a name or a key that is not there. Prints as nothing; most other uses are errors
// that say `what` was not there.
struct Undefined {
  std::string what;
};

struct None {};

// Variables that `{% set ns.name = ... %}` writes.
struct Namespace;

// What `loop` is during one pass of a for loop.
struct LoopState {
  std::shared_ptr<const List> items;
  int64_t index0 = 0;
  int64_t depth0 = 0;  // loops around this one
};

// A function of ours, or a macro of the template.
struct Function {
  std::string name;
  const Statement* macro = nullptr;  // null: built in
};

class Value {
 public:
  // In the order of the variant below.
  enum class Kind {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kDict,
    kNamespace,
    kLoop,
    kFunction,
  };

  Value() : data_(None{}) {}
  Value(Undefined undefined) : data_(std::move(undefined)) {}  // NOLINT: implicit by intent
  Value(bool value) : data_(value) {}                          // NOLINT
  Value(int64_t value) : data_(value) {}                       // NOLINT
  Value(double value) : data_(value) {}                        // NOLINT
  Value(std::string value)                                     // NOLINT
      : data_(std::make_shared<const std::string>(std::move(value))) {}
  Value(const char* value) : Value(std::string(value)) {}                                 // NOLINT
  Value(List value);                                                                      // NOLINT
  Value(Dict value);                                                                      // NOLINT
  Value(std::shared_ptr<Namespace> value) : data_(std::move(value)) {}                    // NOLINT
  Value(LoopState value) : data_(std::make_shared<const LoopState>(std::move(value))) {}  // NOLINT
  Value(Function value) : data_(std::make_shared<const Function>(std::move(value))) {}    // NOLINT

  // Numbers without fraction become integers where they fit, others floats.
  static Value FromJson(const nlohmann::json& json);

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind kind) const { return this->kind() == kind; }
  bool is_undefined() const { return is(Kind::kUndefined); }
  bool is_none() const { return is(Kind::kNone); }
  bool is_string() const { return is(Kind::kString); }
  // Booleans are integers, as in Python.
  bool is_integer() const { return is(Kind::kInt) || is(Kind::kBool); }
  bool is_number() const { return is_integer() || is(Kind::kFloat); }

  // REQUIRES: the kind.
  const Undefined& undefined() const { return std::get<Undefined>(data_); }
  const std::string& string() const { return *std::get<std::shared_ptr<const std::string>>(data_); }
  const List& list() const { return *shared_list(); }
  const std::shared_ptr<const List>& shared_list() const {
    return std::get<std::shared_ptr<const List>>(data_);
  }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  Namespace& space() const { return *std::get<std::shared_ptr<Namespace>>(data_); }
  const LoopState& loop() const { return *std::get<std::shared_ptr<const LoopState>>(data_); }
  const Function& function() const { return *std::get<std::shared_ptr<const Function>>(data_); }
  int64_t integer() const;  // is_integer()
  double number() const;    // is_number()

  // Python's bool(): false for 0, "", [], {}, none and undefined.
  bool truthy() const;

  // Lists and dicts inside one another: 1 for [1], 0 for what is neither. Whoever builds values
  // must keep it low, because values are compared, printed and freed recursively.
  int depth() const { return depth_; }

  // Roughly what it costs to read or copy: bytes of a string, 32 per element of a list or dict.
  size_t weight() const;

  // The value of `key`, or null if there is none. REQUIRES: a dict.
  const Value* Find(std::string_view key) const;

 private:
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<Namespace>,
               std::shared_ptr<const LoopState>, std::shared_ptr<const Function>>
      data_;
  int depth_ = 0;
};

struct Namespace {
  Dict values;
};

// Python's ==: 1 == 1.0 == True; lists and dicts by their elements; never an error.
bool Equal(const Value& a, const Value& b);

// "a string", "an integer", "undefined", ...: for messages.
const char* KindName(const Value& value);

// Python's str(): what {{ }} prints. Undefined is "".
std::string ToText(const Value& value);

// Python's json.dumps(ensure_ascii=False), as Hugging Face defines the filter tojson. Undefined,
// namespaces and functions, which Python refuses, are null.
struct JsonLayout {
  int indent = -1;  // spaces per level; < 0: on one line
  std::string between_items = ", ";
  std::string after_key = ": ";
};
std::string ToJson(const Value& value, const JsonLayout& layout);

}  // namespace sluice::jinja
