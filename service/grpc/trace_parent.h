// The `traceparent` header of W3C Trace Context (www.w3.org/TR/trace-context), by which a gateway
// says which trace a request belongs to.
//
// Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice {

struct TraceParent {
  std::string trace_id;   // 32 lower-case hex digits, not all zero
  std::string parent_id;  // 16 of them, not all zero
  bool sampled = false;
};

// Nothing if `header`, which may be anything, is no such header.
std::optional<TraceParent> ParseTraceParent(std::string_view header);

}  // namespace sluice
