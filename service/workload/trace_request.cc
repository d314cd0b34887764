#include "service/workload/trace_request.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "scheduler/base/check.h"

namespace sluice {

Tokens TraceRequest::max_new() const { return stated > Tokens(0) ? stated : MaxNewFor(output); }

Tokens MaxNewFor(Tokens output) {
  constexpr uint64_t kLeast = 64;
  SLUICE_CHECK(output >= Tokens(0));
  return Tokens(
      static_cast<int64_t>(std::bit_ceil(std::max(static_cast<uint64_t>(output.value()), kLeast))));
}

std::string TenantName(int32_t tenant) {
  return tenant == 0 ? "" : absl::StrCat("tenant-", tenant);
}

}  // namespace sluice
