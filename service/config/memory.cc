#include "service/config/memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/numbers.h"

namespace sluice {

Bytes ParseCgroupLimit(const std::string& text, Bytes otherwise) {
  int64_t limit = 0;
  if (!absl::SimpleAtoi(text, &limit) || limit <= 0) return otherwise;
  return std::min(Bytes(limit), otherwise);
}

Bytes MemoryLimit() {
  Bytes limit(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE));
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    std::string text;
    if (std::getline(file, text)) limit = ParseCgroupLimit(text, limit);
  }
  return limit;
}

}  // namespace sluice
