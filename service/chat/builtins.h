// The filters, tests, methods and functions that templates may use.
//
// All are pure; what they cost is bounded by kMaxTextBytes and by their inputs.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/chat/cat.h"
#include "service/chat/value.h"

namespace sluice::jinja {

// No text of a template grows beyond this, and no list beyond kMaxElements.
inline constexpr size_t kMaxTextBytes = size_t{16} << 20;
inline constexpr size_t kMaxElements = size_t{1} << 18;

struct Arguments {
  List positional;
  Dict named;

  // The argument at `index`, or by `name`; null if it was not given.
  const Value* Get(size_t index, std::string_view name) const;
};

template <class... Parts>
absl::Status TemplateError(const Parts&... parts) {
  return absl::InvalidArgumentError(Cat(parts...));
}

// Known at load time, so that a template with an unknown one is refused then.
bool IsFilter(std::string_view name);
bool IsTest(std::string_view name);

// Return INVALID_ARGUMENT if the subject or an argument has a kind that is not possible.
// REQUIRES: IsFilter(name), IsTest(name).
absl::StatusOr<Value> ApplyFilter(std::string_view name, const Value& subject,
                                  const Arguments& arguments);
absl::StatusOr<bool> ApplyTest(std::string_view name, const Value& subject,
                               const Arguments& arguments);

// `subject.name(arguments)` of strings, lists, dicts and loops.
// Returns INVALID_ARGUMENT if there is no such method.
absl::StatusOr<Value> CallMethod(const Value& subject, std::string_view name,
                                 const Arguments& arguments);
bool HasMethod(const Value& subject, std::string_view name);

// `loop.name`; nothing if there is no such attribute.
std::optional<Value> LoopAttribute(const LoopState& loop, std::string_view name);

// What a for loop goes over: the elements of a list, the keys of a dict, the characters of a
// string.
absl::StatusOr<List> Elements(const Value& value);

// The whole number `value` is. `what` names it in the message.
absl::StatusOr<int64_t> WholeNumber(const Value& value, std::string_view what);

// `value in container`.
absl::StatusOr<bool> Includes(const Value& container, const Value& value);

// a < b. Returns INVALID_ARGUMENT unless both are numbers, or both strings, or both lists.
absl::StatusOr<bool> Less(const Value& a, const Value& b);

// `subject[start:stop:step]`, as Python does it; none means not given.
absl::StatusOr<Value> Slice(const Value& subject, const Value& start, const Value& stop,
                            const Value& step);

// OK if a text of `bytes` may be made.
absl::Status CheckTextSize(size_t bytes);

}  // namespace sluice::jinja
