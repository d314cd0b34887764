#include "service/grpc/flag_file.h"

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace sluice {

absl::StatusOr<std::string> ReadFlagFile(const char* flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  if (!file || content.str().empty()) {
    return absl::NotFoundError(absl::StrCat(flag, ": cannot read ", path, ", or it is empty"));
  }
  return content.str();
}

}  // namespace sluice
