#include "service/chat/builtins.h"

#include <algorithm>
#include <cmath>

#include "scheduler/base/status_macros.h"
#include "service/chat/text.h"

namespace sluice::jinja {
namespace {

using Kind = Value::Kind;

// Where a slice bound lies in [low, high], counted from the end if negative.
int64_t Bound(int64_t bound, int64_t size, int64_t low, int64_t high) {
  if (bound < 0) bound += size;
  return std::clamp(bound, low, high);
}

// The positions that `[start:stop:step]` picks out of `size`.
absl::StatusOr<std::vector<int64_t>> SlicePositions(int64_t size, const Value& start,
                                                    const Value& stop, const Value& step) {
  int64_t by = 1;
  if (!step.is_none()) {
    SLUICE_ASSIGN_OR_RETURN(by, WholeNumber(step, "a slice's step"));
  }
  if (by == 0) return TemplateError("a slice's step is 0");
  const int64_t low = by > 0 ? 0 : -1;
  const int64_t high = by > 0 ? size : size - 1;
  int64_t from = by > 0 ? low : high;
  int64_t to = by > 0 ? high : low;
  if (!start.is_none()) {
    SLUICE_ASSIGN_OR_RETURN(from, WholeNumber(start, "a slice's start"));
    from = Bound(from, size, low, high);
  }
  if (!stop.is_none()) {
    SLUICE_ASSIGN_OR_RETURN(to, WholeNumber(stop, "a slice's stop"));
    to = Bound(to, size, low, high);
  }
  std::vector<int64_t> positions;
  const int64_t stride = std::clamp<int64_t>(by, -size - 1, size + 1);  // more would be the same
  for (int64_t i = from; stride > 0 ? i < to : i > to; i += stride) positions.push_back(i);
  return positions;
}

}  // namespace

const Value* Arguments::Get(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

absl::StatusOr<List> Elements(const Value& value) {
  List elements;
  switch (value.kind()) {
    case Kind::kUndefined:
      return elements;
    case Kind::kList:
      return value.list();
    case Kind::kDict:
      for (const auto& [key, unused] : value.dict()) elements.emplace_back(key);
      return elements;
    case Kind::kString:
      for (const std::string_view character : Characters(value.string())) {
        elements.emplace_back(std::string(character));
        if (elements.size() > kMaxElements) break;
      }
      return elements;
    default:
      return TemplateError(KindName(value), " has no elements to go over");
  }
}

absl::StatusOr<int64_t> WholeNumber(const Value& value, std::string_view what) {
  if (value.is_integer()) return value.integer();
  return TemplateError(what, " is ", KindName(value), ", not an integer");
}

absl::StatusOr<bool> Less(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return a.integer() < b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number();
  if (a.is_string() && b.is_string()) return a.string() < b.string();
  if (a.is(Kind::kList) && b.is(Kind::kList)) {
    for (size_t i = 0; i < std::min(a.list().size(), b.list().size()); ++i) {
      if (!Equal(a.list()[i], b.list()[i])) return Less(a.list()[i], b.list()[i]);
    }
    return a.list().size() < b.list().size();
  }
  return TemplateError(KindName(a), " and ", KindName(b), " have no order");
}

absl::StatusOr<Value> Slice(const Value& subject, const Value& start, const Value& stop,
                            const Value& step) {
  if (subject.is(Kind::kList)) {
    const List& list = subject.list();
    SLUICE_ASSIGN_OR_RETURN(const std::vector<int64_t> positions,
                            SlicePositions(static_cast<int64_t>(list.size()), start, stop, step));
    List out;
    for (const int64_t i : positions) out.push_back(list[static_cast<size_t>(i)]);
    return out;
  }
  if (subject.is_string()) {
    const std::vector<std::string_view> characters = Characters(subject.string());
    SLUICE_ASSIGN_OR_RETURN(
        const std::vector<int64_t> positions,
        SlicePositions(static_cast<int64_t>(characters.size()), start, stop, step));
    std::string out;
    for (const int64_t i : positions) out += characters[static_cast<size_t>(i)];
    return out;
  }
  return TemplateError(KindName(subject), " cannot be sliced");
}

absl::Status CheckTextSize(size_t bytes) {
  if (bytes <= kMaxTextBytes) return absl::OkStatus();
  return TemplateError("a text of ", bytes, " bytes (limit ", kMaxTextBytes, ")");
}

std::optional<Value> LoopAttribute(const LoopState& loop, std::string_view name) {
  const auto length = static_cast<int64_t>(loop.items->size());
  const auto item = [&](int64_t index, const char* what) -> Value {
    if (index < 0 || index >= length) return Undefined{what};
    return (*loop.items)[static_cast<size_t>(index)];
  };
  if (name == "index") return loop.index0 + 1;
  if (name == "index0") return loop.index0;
  if (name == "revindex") return length - loop.index0;
  if (name == "revindex0") return length - loop.index0 - 1;
  if (name == "first") return loop.index0 == 0;
  if (name == "last") return loop.index0 + 1 == length;
  if (name == "length") return length;
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem") return item(loop.index0 - 1, "there is no previous item");
  if (name == "nextitem") return item(loop.index0 + 1, "there is no next item");
  return std::nullopt;
}

}  // namespace sluice::jinja
